"""``results.json``, the answer of a submission: written as the challenge asks, read in every form it comes back in."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from anymc3d.errors import UsageError, did_you_mean
from anymc3d.vlm3d.labels import LABELS

NAME, TYPE, VERSION = "Generated probabilities", "Abnormality Classification", {"major": 1, "minor": 0}
MAX_BYTES = 256 * 2**20
_EXAM, _SCORES = "input_image_name", "probabilities"


@dataclass(frozen=True)
class Results:
    """What a submission answers: exam key -> label -> probability; labels that an exam lacks are not there."""

    probabilities: Mapping[str, Mapping[str, float]]
    warnings: tuple[str, ...]


def results_document(answers: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """The content of ``results.json``: exam name (file name without ``.mha``) -> label -> probability."""
    predictions = [
        {_EXAM: exam, _SCORES: {label: scores[label] for label in LABELS}} for exam, scores in answers.items()
    ]
    return {"name": NAME, "type": TYPE, "version": dict(VERSION), "predictions": predictions}


def exam_key(name: str) -> str:
    """What the challenge compares: the name without its last extension and without ``.nii``."""
    return PurePosixPath(name).stem.replace(".nii", "")


def read_results(path: Path) -> Results:
    """Read a ``results.json``: as written, as a plain list of its predictions, or wrapped by the platform.

    Raises:
        UsageError: not such a file, an exam twice, or a probability that is none.
    """
    entries = _predictions(_load(path), path)
    by_exam: dict[str, dict[str, float]] = {}
    unknown: dict[str, None] = {}
    for number, entry in enumerate(entries):
        exam, scores = _entry(entry, f"{path}: prediction {number}")
        if exam in by_exam:
            raise UsageError(f"{path}: exam {exam!r} appears twice; the challenge compares names without extensions")
        unknown.update(dict.fromkeys(label for label in scores if label not in LABELS))
        by_exam[exam] = {
            label: _probability(value, f"{path}: exam {exam!r}, {label}") for label, value in scores.items()
        }
    warnings = [
        f"{label!r} is none of the labels and is left out{did_you_mean(label, LABELS)}" for label in list(unknown)[:5]
    ]
    return Results(by_exam, (*warnings, *_lacking(by_exam)))


def _load(path: Path) -> Any:
    if not path.is_file():
        raise UsageError(f"{path}: expected the results of a submission (JSON), found no such file")
    if path.stat().st_size > MAX_BYTES:
        raise UsageError(f"{path}: expected at most {MAX_BYTES} bytes, got {path.stat().st_size}")
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: expected JSON, but it cannot be read ({error})") from None


def _predictions(content: Any, path: Path) -> Sequence[Any]:
    """The list of predictions, whatever it is wrapped in."""
    wrapped = content
    if isinstance(content, list) and content and isinstance(content[0], dict) and "outputs" in content[0]:
        try:
            wrapped = content[0]["outputs"][0]["value"]
        except (LookupError, TypeError):
            raise UsageError(f"{path}: expected [0].outputs[0].value in the platform's JSON, it is not there") from None
    if isinstance(wrapped, dict):
        wrapped = wrapped.get("predictions")
    if not isinstance(wrapped, list) or not wrapped:
        raise UsageError(f"{path}: expected a list of predictions, or an object with 'predictions', with at least one")
    return wrapped


def _entry(entry: Any, where: str) -> tuple[str, Mapping[str, Any]]:
    if not isinstance(entry, dict) or not isinstance(entry.get(_EXAM), str):
        raise UsageError(f"{where}: expected an object with the text '{_EXAM}'")
    scores = entry.get(_SCORES)
    if not isinstance(scores, dict):
        got = ", ".join(key for key in entry if key != _EXAM) or "nothing else"
        raise UsageError(f"{where}: expected '{_SCORES}', an object of label and number, got {got}")
    return exam_key(entry[_EXAM]), scores


def _probability(value: Any, where: str) -> float:
    usable = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not usable or not 0 <= value <= 1:
        raise UsageError(f"{where}: expected a probability from 0 to 1, got {value!r}")
    return float(value)


def _lacking(by_exam: Mapping[str, Mapping[str, float]]) -> list[str]:
    """One line if labels are absent: the challenge counts them as probability 0."""
    absent = {label: sum(label not in scores for scores in by_exam.values()) for label in LABELS}
    counts = [f"{label} in {count}" for label, count in absent.items() if count]
    more = f" and {len(counts) - 4} more labels" if len(counts) > 4 else ""
    return [f"missing, and counted as 0.0: {', '.join(counts[:4])}{more} of {len(by_exam)} exams"] if counts else []
