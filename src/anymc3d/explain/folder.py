"""Explanations of many cases in one folder: ``OUT/<case>/<label>.<view>.<method>.nii.gz`` and ``.png``.

A case is finished when its ``explain.json`` is there; the same run again skips it while its scans are unchanged.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from anymc3d.cost.progress import Progress
from anymc3d.data.case import Case
from anymc3d.data.case_faults import CaseFault, attempt
from anymc3d.data.prefetch.cases import CaseAhead, cases_ahead
from anymc3d.data.preprocess import CODE_VERSION
from anymc3d.data.readers import content_hash
from anymc3d.data.volume import Volume, to_ras
from anymc3d.errors import ScanError
from anymc3d.evaluate.calibration import SAYS
from anymc3d.explain.dicom_objects import DicomSettings, DicomWriter
from anymc3d.explain.grey import grey_of
from anymc3d.explain.heatmaps import Explanation, Heatmap, explain_case, request_of
from anymc3d.explain.scores import SCORES, score_case
from anymc3d.files import atomic, regular
from anymc3d.files.containment import inside
from anymc3d.files.folders import check_there, claim, locked
from anymc3d.files.tables import write_table
from anymc3d.page.document import RESEARCH_ONLY
from anymc3d.pictures.colours import Colour
from anymc3d.pictures.scan import heat_sheet, write_png
from anymc3d.plugins.card import PluginCard
from anymc3d.predict.cohort import STRICT
from anymc3d.predict.faults import explain_fault
from anymc3d.predict.predictor import Predictor
from anymc3d.predict.resident import needs_of
from anymc3d.settings.decision_text import what_is_positive
from anymc3d.version import __version__

RECORD, CASE_RECORD, SCORE_TABLE = "explain.json", "explain.json", "heatmap_scores.csv"
logger = logging.getLogger(__name__)
NOTICE = "research use only; heatmaps show where the classifier looked, not where disease is"


@dataclass(frozen=True, kw_only=True)
class ExplainSettings:
    """What is drawn. ``labels``: empty = all of the plugin."""

    methods: tuple[str, ...]
    labels: tuple[str, ...] = ()
    discard: float = 0.0
    pictures: bool = True
    faithfulness: bool = False
    """Also deletion, insertion and shuffled weights: some twenty predictions for every map."""
    dicom: DicomSettings | None = None
    """Also DICOM objects that lie over the source series."""
    strict: bool = False
    """A case with a warning is an error and has no heatmaps."""

    def identity(self) -> dict[str, Any]:
        """What identifies a folder; without DICOM and strictness the same as before there was any."""
        return {name: value for name, value in asdict(self).items() if name not in ("dicom", "strict") or value}


@dataclass(frozen=True)
class ExplainResult:
    """One record per case, in input order: its ``explain.json``."""

    records: list[dict[str, Any]]
    computed: int

    @property
    def exit_code(self) -> int:
        """0 all well, 3 some cases failed (or were refused because of warnings), 4 all failed."""
        failed = [record for record in self.records if record["status"] == "error"]
        if not failed:
            return 0
        refused = any(record["message"].startswith(STRICT) for record in failed)
        return 4 if len(failed) == len(self.records) and not refused else 3


def explain_cohort(
    predictor: Predictor,
    cases: Sequence[Case],
    out: Path,
    settings: ExplainSettings,
    *,
    workers: int = 0,
    quiet: bool = False,
) -> ExplainResult:
    """Explain every case with the predictor's one plugin. ``workers``: processes that read ahead
    (:mod:`anymc3d.data.prefetch`); the files are the same with any number.

    Raises:
        UsageError: an unknown method or label.
        RunFolderError: ``out`` belongs to another plugin or other settings, or another process works in it.
    """
    (plugin,) = predictor.plugins
    request_of(predictor, settings.methods, settings.labels, discard=settings.discard)
    identity = {
        "kind": "explain",
        "plugin": {"name": plugin.card.name, "hash": plugin.hash},
        "settings": settings.identity(),
        "preprocessing_version": CODE_VERSION,
        "version": __version__,
    }
    reader = partial(cases_ahead, scans_of=predictor.scans_known, workers=workers)
    with locked(out):
        claim(out / RECORD, identity, "an explain run")
        before = {case.id: _finished(inside(out, file_name(case.id))) for case in cases}
        with reader([case for case in cases if before[case.id]], needs_of([plugin.card], slices=False)) as ahead:
            same = [read.case.id for read in ahead if _is_of(before[read.case.id], predictor, read)]
        records_of = {name: before[name] for name in same}
        wanted = [case for case in cases if case.id not in records_of]
        with (
            reader(wanted, needs_of([plugin.card], volumes=True)) as ahead,
            Progress(total=len(cases), initial=len(same), what="explaining", unit="case", quiet=quiet) as bar,
        ):
            for case_ahead in ahead:
                check_there(out / RECORD)
                folder = inside(out, file_name(case_ahead.case.id))
                records_of[case_ahead.case.id] = _explain_into(folder, predictor, case_ahead, settings)
                bar.update(1)
        records = [records_of[case.id] for case in cases]
        check_there(out / RECORD)
        write_scores(out / SCORE_TABLE, [*records, *_earlier(out, {record["case"] for record in records})])
    return ExplainResult(records, len(wanted))


def _earlier(out: Path, seen: Collection[str]) -> list[dict[str, Any]]:
    """The records of cases that earlier runs explained into ``out`` and this one was not asked for, by case."""
    records = []
    for path in out.glob(f"*/{CASE_RECORD}"):
        try:
            record = json.loads(regular.read_text(path))
            if record["case"] not in seen and isinstance(record["heatmaps"], list):
                records.append(record)
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.warning("%s: damaged (%s); its case is not in %s", path, error, SCORE_TABLE)
    return sorted(records, key=lambda record: record["case"])


def file_name(text: str) -> str:
    """A label or case id as a file name; where letters had to be replaced, a short hash keeps two apart."""
    safe = re.sub(r"[^\w=+-]+", "_", text, flags=re.ASCII).strip("_")
    if safe == text:
        return text
    return f"{safe[:60]}_{hashlib.sha256(text.encode()).hexdigest()[:6]}"


def heat_stem(heat: Heatmap) -> str:
    """``<label>.<view>.<method>``."""
    return f"{file_name(heat.label)}.{heat.view}.{heat.method}"


def picture_of(heat: Heatmap, explanation: Explanation, card: PluginCard) -> Colour:
    """The heatmap's three planes, with the case, its probability and the method in the title."""
    prediction, scan = explanation.prediction, explanation.scans[heat.column]
    if card.labels.is_number:
        probability, kind = f"{prediction.values[heat.label]:.4g}", ""
    else:
        probability = f"probability {prediction.probabilities[heat.label]:.2f}"
        state = prediction.calibration.get(heat.label, "none")
        kind = "" if state == "calibrated" else f" ({SAYS[state]})"
    title = f"{prediction.case} · {heat.label}: {probability}{kind} · {heat.method}, {heat.view}"
    low, high, how = grey_of(card, heat.column, scan)
    caption = f"{how[0].upper()}{how[1:]}. {RESEARCH_ONLY}"
    return heat_sheet(scan, (heat.values, heat.affine), grey=(low, high), title=title, caption=caption)


def write_nifti(path: Path, heat: Heatmap) -> None:
    """Write a heatmap as compressed NIfTI: float32, the scan's affine, no word about the patient."""
    image = nib.Nifti1Image(heat.values, heat.affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(heat.affine, code=1)
    # Without a qform: it cannot hold every affine that an sform can, and two that disagree are worse than one.
    image.set_qform(None, code=0)
    image.header["cal_max"] = 1.0
    atomic.write_bytes(path, gzip.compress(image.to_bytes(), compresslevel=6, mtime=0))


def peak_mm(heat: Heatmap) -> tuple[float, float, float]:
    """The highest voxel's centre in RAS millimetres."""
    ras = to_ras(Volume(voxels=heat.values, affine=heat.affine))  # so that of equal voxels storage decides nothing
    index = np.unravel_index(int(ras.voxels.argmax()), ras.shape)
    x, y, z = (float(v) for v in ras.affine[:3, :3] @ np.array(index, dtype=float) + ras.affine[:3, 3])
    return x, y, z


def write_scores(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """One row per case and map that has scores; no file where none has. An empty cell: not asked for, or undefined."""
    rows = []
    for record in records:
        for heat in record["heatmaps"]:
            if heat["scores"]:
                cells = {name: "" if heat["scores"].get(name) is None else heat["scores"][name] for name in SCORES}
                rows.append(
                    {"case": record["case"], **{key: heat[key] for key in ("label", "view", "method")}, **cells}
                )
    if rows:
        write_table(path, ("case", "label", "view", "method", *SCORES), rows)


def _finished(folder: Path) -> dict[str, Any] | None:
    """The record of an earlier run, where it is whole."""
    try:
        record = json.loads(regular.read_text(folder / CASE_RECORD))
        if record["status"] == "error" or "inputs" not in record:
            return None
        is_whole = all(inside(folder, name).is_file() for heat in record["heatmaps"] for name in heat["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # no record, or a damaged one
    return record if is_whole else None


def _is_of(record: Mapping[str, Any], predictor: Predictor, one: CaseAhead) -> bool:
    """Whether a record is of these scans. Where one cannot be read now, the case is done again, and says why."""
    return bool(record["inputs"] == attempt(lambda: _inputs(predictor, one), one.case))


def _inputs(predictor: Predictor, case_ahead: CaseAhead) -> dict[str, Any]:
    """What maps and scores depend on besides plugin and settings: the scans, the masks, what the manifest says."""
    case, views = case_ahead.case, [view for plugin in predictor.plugins for view in plugin.card.preprocessing.values()]
    masks = {column: content_hash(reference) for column, reference in case.masks.items()}
    spacing, center = (None if v is None else list(v) for v in (case.spacing, case.center))
    return {"hashes": {**masks, **case_ahead.hashes(views)}, "spacing": spacing, "center": center}


def _explain_into(
    folder: Path, predictor: Predictor, case_ahead: CaseAhead, settings: ExplainSettings
) -> dict[str, Any]:
    case = case_ahead.case
    outcome = attempt(lambda: _explained(folder, predictor, case_ahead, settings), case, describe=explain_fault)
    record = outcome
    if isinstance(outcome, CaseFault):
        record = {"case": case.id, "status": "error", "message": outcome.message, "heatmaps": []}
    atomic.write_json(folder / CASE_RECORD, record)
    return record


def _explained(folder: Path, predictor: Predictor, case_ahead: CaseAhead, settings: ExplainSettings) -> dict[str, Any]:
    """Draw and score the maps of a case, and return its record."""
    case, labels = case_ahead.case, settings.labels or None
    writer = _dicom_writer(predictor, case, settings)
    explanation = explain_case(
        predictor, case, methods=settings.methods, labels=labels, discard=settings.discard, scans=case_ahead.scans
    )
    if settings.strict and explanation.prediction.status == "warn":
        raise ScanError(f"{STRICT}: {explanation.prediction.message}", code="E-strict")
    scores = score_case(
        predictor, case, explanation, settings.methods, faithfulness=settings.faithfulness, scans=case_ahead.scans
    )
    heatmaps = [
        _write(folder, heat, explanation, settings, predictor.plugins[0].card, writer)
        | {"scores": {key: _finite(value) for key, value in row.items()}}
        for heat, row in zip(explanation.heats, scores, strict=True)
    ]
    prediction = explanation.prediction
    return {
        "case": case.id,
        "status": prediction.status,
        "message": prediction.message,
        "unlike_training": list(prediction.unlike_training),
        "ood_score": prediction.ood_score,
        "plugin": prediction.plugin,
        **({"plugin_doubts": list(prediction.plugin_doubts)} if prediction.plugin_doubts else {}),
        **({"values": dict(prediction.values)} if prediction.values else {}),
        "probabilities": dict(prediction.probabilities),
        "calibrated": prediction.calibrated,
        "calibration": dict(prediction.calibration),
        "decisions": dict(prediction.decisions),
        "decision_means": what_is_positive(predictor.plugins[0].card.labels),
        "heatmaps": heatmaps,
        "slice_weights": {view: list(weights) for view, weights in prediction.slice_weights.items()},
        "view_weights": dict(prediction.view_weights),
        "inputs": _inputs(predictor, case_ahead),
        "notice": NOTICE,
    }


def _dicom_writer(predictor: Predictor, case: Case, settings: ExplainSettings) -> DicomWriter | None:
    if settings.dicom is None:
        return None
    (plugin,) = predictor.plugins
    # Maps name the columns that the plugin knows, which those of a lone scan are brought to.
    return DicomWriter(predictor.scans(case).case, settings.dicom, plugin.hash)


def _finite(value: float) -> float | None:
    """JSON has no NaN."""
    return value if math.isfinite(value) else None


def _write(
    folder: Path,
    heat: Heatmap,
    explanation: Explanation,
    settings: ExplainSettings,
    card: PluginCard,
    dicom: DicomWriter | None,
) -> dict[str, Any]:
    stem = heat_stem(heat)
    files = [f"{stem}.nii.gz"]
    write_nifti(inside(folder, files[0]), heat)
    if dicom is not None:
        files += dicom.write(folder, stem, heat)
    if settings.pictures:
        files.append(f"{stem}.png")
        write_png(inside(folder, files[-1]), picture_of(heat, explanation, card))
    return {
        "label": heat.label,
        "view": heat.view,
        "method": heat.method,
        "files": files,
        "peak_mm": [round(v, 3) for v in peak_mm(heat)],
        "flat": heat.highest <= heat.lowest,
        "lowest": heat.lowest,
        "highest": heat.highest,
    }
