"""The challenge's scores from its formulas: results and ground truth in, the content of ``metrics.json`` out.

Per label and at probability >= 0.5: precision, recall, F1 (0 where undefined), accuracy; AUROC (null with one outcome
only, left out of the mean). CRG over all (exam, label) cells: X cells, A of them positive, r = (X - A) / 2A,
U = (X - A) / 2, s = r TP - r FN - FP, CRG = U / (2U - s) (docs/metrics.md). These are the challenge's
conventions; ``anymc3d evaluate`` leaves undefined metrics empty and gives intervals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anymc3d.errors import ManifestError, UsageError, did_you_mean
from anymc3d.evaluate.metrics import auroc
from anymc3d.evaluate.predictions import shown_few
from anymc3d.evaluate.weighted import Floats
from anymc3d.files.tables import parse_table
from anymc3d.vlm3d.labels import LABELS

EXAM_COLUMN = "AccessionNo"
THRESHOLD = 0.5
PER_LABEL = ("precision", "recall", "f1", "accuracy", "auroc")
_EXTENSIONS = (".nii.gz", ".nii", ".mha")


@dataclass(frozen=True)
class Truth:
    """The exams and their 0/1 labels, (n, 18) in the order of :data:`anymc3d.vlm3d.labels.LABELS`."""

    exams: tuple[str, ...]
    targets: Floats


def read_truth(path: Path) -> Truth:
    """Read the ground truth: ``AccessionNo`` and the 18 label columns of 0 and 1; other columns are left alone.

    Raises:
        ManifestError: with every fault of the table.
    """
    table = parse_table(path)
    problems = list(table.problems)
    known = [name for name in table.columns if name not in LABELS]
    for column in (EXAM_COLUMN, *LABELS):
        if table.columns and column not in table.columns:
            problems.append(f"row 1: no column {column!r}{did_you_mean(column, known)}")
    if table.columns and not table.rows and not problems:
        problems.append("no exam: the table has a header and nothing else")
    if problems:
        raise ManifestError(str(path), problems)
    exams: dict[str, int] = {}
    targets = np.zeros((len(table.rows), len(LABELS)))
    for index, (number, cells) in enumerate(table.rows):
        row = dict(zip(table.columns, cells, strict=True))
        exam = _without_extension(row[EXAM_COLUMN])
        if exam in exams:
            problems.append(f"row {number}: exam {exam!r} is also row {exams[exam]}")
        exams[exam] = number
        for position, label in enumerate(LABELS):
            if row[label] not in ("0", "1", "0.0", "1.0"):
                problems.append(f"row {number}: exam {exam!r}: {label} is {row[label]!r}, expected 0 or 1")
            else:
                targets[index, position] = float(row[label])
    if problems:
        raise ManifestError(str(path), problems)
    return Truth(tuple(exams), targets)


def align(truth: Truth, by_exam: Mapping[str, Mapping[str, float]]) -> tuple[Floats, list[str]]:
    """Probabilities (n, 18) in the order of the truth, and warnings; a missing label counts 0.0, as the challenge does.

    Raises:
        UsageError: an exam of the ground truth has no prediction.
    """
    missing = [exam for exam in truth.exams if exam not in by_exam]
    if missing:
        near = did_you_mean(missing[0], by_exam) if len(by_exam) < 10_000 else ""
        raise UsageError(
            f"no prediction for {len(missing)} of {len(truth.exams)} exams of the ground truth: {shown_few(missing)}"
            f"{near if near.startswith(', did') else ''}; the challenge needs every exam"
        )
    extra = [exam for exam in by_exam if exam not in set(truth.exams)]
    warnings = [f"{len(extra)} predicted exams are not in the ground truth: {shown_few(extra)}"] if extra else []
    values = np.array([[by_exam[exam].get(label, 0.0) for label in LABELS] for exam in truth.exams])
    return values, warnings


def challenge_metrics(targets: Floats, probabilities: Floats) -> dict[str, Any]:
    """The content of ``metrics.json``; both arrays are (n, 18), targets 0/1, n at least 1.

    Raises:
        UsageError: no positive label at all, for which CRG is undefined.
    """
    decisions = (probabilities >= THRESHOLD).astype(np.float64)
    per_label = [
        {"name": label, **_of_label(targets[:, i], probabilities[:, i], decisions[:, i])}
        for i, label in enumerate(LABELS)
    ]
    macro = {key: _mean([row[key] for row in per_label]) for key in PER_LABEL}
    return {"classification": {"per_pathology": per_label, "macro": macro}, "crg": crg_record(targets, decisions)}


def crg_record(targets: Floats, decisions: Floats) -> dict[str, Any]:
    """Every number on the way to CRG, over all cells of ``targets`` and ``decisions`` (0/1, one shape).

    Raises:
        UsageError: no positive cell, for which CRG is undefined.
    """
    positives, cells = int(targets.sum()), int(targets.size)
    if positives == 0:
        raise UsageError(f"CRG is undefined: none of the {cells} cells of the ground truth is positive")
    hits = int((targets * decisions).sum())
    misses, false_alarms = positives - hits, int(((1 - targets) * decisions).sum())
    weight, scale = (cells - positives) / (2 * positives), (cells - positives) / 2
    score = weight * hits - weight * misses - false_alarms
    value = scale / (2 * scale - score) if 2 * scale != score else 0.0
    return {
        "TP": hits,
        "FN": misses,
        "FP": false_alarms,
        "X": cells,
        "A": positives,
        "r": weight,
        "U": scale,
        "score_s": score,
        "CRG": value,
    }


def _of_label(targets: Floats, probabilities: Floats, decisions: Floats) -> dict[str, float | None]:
    hits, called, positive = float(targets @ decisions), float(decisions.sum()), float(targets.sum())
    return {
        "precision": hits / called if called else 0.0,
        "recall": hits / positive if positive else 0.0,
        "f1": 2 * hits / (called + positive) if called + positive else 0.0,
        "accuracy": float((targets == decisions).mean()),
        "auroc": auroc(targets, probabilities).value,
    }


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None


def _without_extension(name: str) -> str:
    for extension in _EXTENSIONS:
        if name.endswith(extension):
            return name.removesuffix(extension)
    return name
