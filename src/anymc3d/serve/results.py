"""What a study leaves: its rows, its record, and in the job's folder heatmaps and a report for each plugin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from anymc3d.data.case import Case
from anymc3d.data.preprocess import CODE_VERSION
from anymc3d.errors import ScanError
from anymc3d.explain.folder import file_name, heat_stem, write_nifti
from anymc3d.explain.heat import default_method
from anymc3d.files import atomic
from anymc3d.predict.prediction import Prediction
from anymc3d.predict.predictor import Predictor
from anymc3d.report.study import from_plugin
from anymc3d.report.study_page import study_page
from anymc3d.version import __version__


def row_of(prediction: Prediction, *, strict: bool = False) -> dict[str, Any]:
    """The row of ``predictions.csv`` with its numbers as numbers; ``strict``: a warning is an error."""
    status, message = prediction.status, prediction.message
    row: dict[str, Any] = {"case": prediction.case, "plugin": prediction.plugin, "status": status, "message": message}
    if strict and status == "warn":
        return row | {"status": "error"}
    if status == "error":
        return row
    for label in prediction.labels:
        row[f"logit.{label}"] = prediction.logits[label]
        row[f"probability.{label}"] = prediction.probabilities[label]
        row[f"decision.{label}"] = int(prediction.decisions[label])
    return row


def record_of(predictor: Predictor, case: Case) -> dict[str, Any]:
    """What makes an answer traceable: hashes of plugins, backbones and scans, versions, device. No name, no path."""
    views = [view for plugin in predictor.plugins for view in plugin.card.preprocessing.values()]
    try:
        hashes = dict(predictor.scans(case).hashes(views))
    except ScanError:
        hashes = {}  # of a scan that cannot be read; its row says why
    return {
        "plugins": {plugin.card.name: plugin.hash for plugin in predictor.plugins},
        "scans": hashes,
        "device": str(predictor.device),
        "preprocessing_version": CODE_VERSION,
        "version": __version__,
        "notice": "Research use only. Not a medical device.",
    }


def write_results(predictor: Predictor, case: Case, folder: Path) -> list[str]:
    """Explain one case with the predictor's one plugin: ``<plugin>.html`` and the heatmaps of its labels.

    Returns:
        The names of the files in ``folder``.
    """
    (plugin,) = predictor.plugins
    facts = from_plugin(predictor, case, method=default_method(predictor))
    stem = file_name(plugin.card.name)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    names = [f"{stem}.html"]
    atomic.write_text(folder / names[0], study_page(facts))
    for heat in (*facts.maps, *facts.others):
        names.append(f"{stem}.{heat_stem(heat)}.nii.gz")
        write_nifti(folder / names[-1], heat)
    return names
