"""What a study leaves: its rows, its record, and in the job's folder heatmaps and a report for each plugin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anymc3d.data.case import Case
from anymc3d.data.case_faults import fault_of
from anymc3d.data.dicom.read import LEAVE_OUT
from anymc3d.data.preprocess import CODE_VERSION
from anymc3d.data.readers import takes_series
from anymc3d.errors import ScanError
from anymc3d.evaluate.outputs import OOD_SCORE
from anymc3d.explain.dicom_objects import DicomSettings
from anymc3d.explain.folder import file_name, heat_stem, write_nifti
from anymc3d.explain.heatmaps import default_method
from anymc3d.files import atomic
from anymc3d.files.containment import inside
from anymc3d.plugins.card import PluginCard
from anymc3d.predict.prediction import Prediction
from anymc3d.predict.predictor import Predictor
from anymc3d.report.dicom_objects import write_heat_objects
from anymc3d.report.dicom_sr import answer_of, write_report
from anymc3d.report.study import from_plugin
from anymc3d.report.study_page import study_page
from anymc3d.serve.drift import MEASURES
from anymc3d.serve.node_settings import OBJECTS, NodeSettings
from anymc3d.version import __version__


def row_of(prediction: Prediction, *, strict: bool = False) -> dict[str, Any]:
    """The row of ``predictions.csv`` with its numbers as numbers; ``strict``: a warning is an error."""
    status, message = prediction.status, prediction.message
    row: dict[str, Any] = {"case": prediction.case, "plugin": prediction.plugin, "status": status, "message": message}
    if strict and status == "warn":
        return row | {"status": "error"}
    if status == "error":
        return row
    for label, value in prediction.values.items():
        row[f"value.{label}"] = value
    for label in prediction.logits:
        row[f"logit.{label}"] = prediction.logits[label]
        row[f"probability.{label}"] = prediction.probabilities[label]
        row[f"decision.{label}"] = int(prediction.decisions[label])
    return row | dict(prediction.sets) | {OOD_SCORE: prediction.ood_score}


@dataclass(frozen=True, kw_only=True)
class Answered:
    """A case, the plugins that were asked, their rows, and what each measured of the scans (see :func:`measured`)."""

    predictor: Predictor
    case: Case
    rows: list[dict[str, Any]]
    intensities: Mapping[str, Any]
    unlike_training: Mapping[str, Sequence[str]]
    """Plugin -> why its answer is not to be used; only where there is a reason."""

    @classmethod
    def of(cls, predictor: Predictor, case: Case, strict: bool) -> Answered:
        """Ask all plugins of a predictor."""
        predictions = predictor.predict_case(case)
        return cls(
            predictor=predictor,
            case=case,
            rows=[row_of(prediction, strict=strict) for prediction in predictions],
            intensities={prediction.plugin: measured(prediction) for prediction in predictions},
            unlike_training={
                prediction.plugin: prediction.unlike_training
                for prediction in predictions
                if prediction.unlike_training
            },
        )

    @property
    def names(self) -> list[str]:
        """Of the plugins."""
        return [plugin.card.name for plugin in self.predictor.plugins]


def record_of(answered: Sequence[Answered], predictor: Predictor) -> dict[str, Any]:
    """What makes answers traceable: hashes of plugins, backbones and scans, versions, device. No name, no path.

    ``scans``: image column -> hash; where plugins were given several series of a study, with the plugins before it.
    """
    scans: dict[str, str] = {}
    for part in answered:
        before = "" if len(answered) == 1 else f"{', '.join(part.names)}: "
        scans |= {f"{before}{column}": digest for column, digest in _hashes(part).items()}
    plugins = [plugin for part in answered for plugin in part.predictor.plugins]
    return {
        "plugins": {plugin.card.name: plugin.hash for plugin in plugins},
        "scans": scans,
        "unlike_training": {name: list(why) for part in answered for name, why in part.unlike_training.items()},
        "intensities": {plugin: summary for part in answered for plugin, summary in part.intensities.items()},
        "device": str(predictor.device),
        "preprocessing_version": CODE_VERSION,
        "version": __version__,
        "notice": "Research use only. Not a medical device.",
    }


def _hashes(answered: Answered) -> dict[str, str]:
    views = [view for plugin in answered.predictor.plugins for view in plugin.card.preprocessing.values()]
    try:
        return dict(answered.predictor.scans(answered.case).hashes(views))
    except ScanError:
        return {}  # of a scan that cannot be read; its row says why


def is_dicom(case: Case) -> bool:
    """Whether DICOM objects can refer to the scans of a case."""
    return all(takes_series(reference) for reference in case.images.values())


def write_sr(answered: Sequence[Answered], folder: Path, node: NodeSettings) -> list[str]:
    """The answers of all plugins as one structured report; none where there is no answer.

    Returns:
        The name of the file in ``folder``.
    """
    parts = []
    for part in answered:
        known = {plugin.card.name: plugin for plugin in part.predictor.plugins}
        answers = [answer_of(known[row["plugin"]], row) for row in part.rows]
        if any(answer.findings for answer in answers):
            parts.append((part.predictor.scans(part.case).case, answers))
    if not parts:
        return []
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    name = f"answers{OBJECTS['sr']}"
    write_report(folder / name, parts, link=node.link, codes=node.codes)
    return [name]


def measured(prediction: Prediction) -> dict[str, dict[str, float]]:
    """Image column -> percentiles of the scan's intensities, for the comparison with the training scans."""
    return {
        column: {name: getattr(profile, name) for name in MEASURES}
        for column, profile in prediction.intensities.items()
    }


def training_of(card: PluginCard) -> dict[str, Any]:
    """What a plugin's card records for that comparison.

    Returns:
        ``intensities`` as in the card; ``positive``: label -> (decided positive, cases) of the validation split;
        ``scan_statistics``: from how many training cases ``ood_score`` was made, 0 where the card has none.
    """
    positive = {}
    for label in card.labels.output_names:
        rows = {row["metric"]: row for row in card.metrics if row["label"] == label and row["group"] == "all"}
        at_point = [rows.get(name, {}) for name in ("sensitivity", "specificity")]
        if all(row.get("value") is not None for row in at_point):
            of, ill = at_point[0]["n"], at_point[0]["n_positive"]
            count = at_point[0]["value"] * ill + (1 - at_point[1]["value"]) * (of - ill)
            positive[label] = (round(count), of)
    names = (*MEASURES, "num_scans")
    intensities = {column: {name: summary[name] for name in names} for column, summary in card.intensities.items()}
    return {"intensities": intensities, "positive": positive, "scan_statistics": _num_compared(card)}


def _num_compared(card: PluginCard) -> int:
    """Of an ensemble the member with the fewest: its score is the mean over all of them."""
    known = [member.card.scan_statistics for member in card.members] or [card.scan_statistics]
    return min(
        0
        if statistics is None or not statistics.are_current
        else max(measure.cases for measure in statistics.measures.values())
        for statistics in known
    )


def note_of(error: Exception, case: Case) -> str:
    """Why something could not be made of an answer, without what only a command line can do about it."""
    return fault_of(error, case).replace(f"; {LEAVE_OUT}", "")


def write_results(predictor: Predictor, case: Case, folder: Path, node: NodeSettings, notes: list[str]) -> list[str]:
    """Explain one case with the predictor's one plugin: ``<plugin>.html``, the heatmaps of its labels, and of a DICOM
    study the objects that were asked for.

    ``notes`` gets what could not be made.

    Returns:
        The names of the files in ``folder``.
    """
    (plugin,) = predictor.plugins
    facts = from_plugin(predictor, case, method=default_method(predictor))
    stem = file_name(plugin.card.name)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    names = [f"{stem}.html"]
    atomic.write_text(inside(folder, names[0]), study_page(facts))
    for heat in (*facts.maps, *facts.others):
        names.append(f"{stem}.{heat_stem(heat)}.nii.gz")
        write_nifti(inside(folder, names[-1]), heat)
    kinds = [kind for kind in node.objects if kind != "sr"]
    if kinds and is_dicom(case):
        settings = DicomSettings(link=node.link)
        try:
            names += write_heat_objects(facts, predictor.scans(case).case, folder, settings, kinds)
        except ScanError as error:
            notes.append(f"{plugin.card.name}: no DICOM objects of the heatmaps: {note_of(error, case)}")
    return names
