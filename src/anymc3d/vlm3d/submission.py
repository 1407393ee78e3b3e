"""``predict_folder``: every ``.mha`` of a folder -> ``results.json``, an entry for every exam, whatever happens.

The challenge wants all exams. One that cannot be read gets probability 0.0 for every label, the value its evaluator
gives a label that is absent and one that no plugin ever answers; it is named in ``results.warnings.json`` and in the
exit code, so that it is never taken for an answer.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anymc3d.errors import OutputError, UsageError
from anymc3d.files import atomic
from anymc3d.files.private import make_private
from anymc3d.predict.cohort import predict_cohort
from anymc3d.predict.predictor import Predictor
from anymc3d.predict.study import study_case
from anymc3d.vlm3d.labels import LABELS, check_labels
from anymc3d.vlm3d.results import exam_key, results_document

SUFFIX = ".mha"
FAILED = 0.0
"""The probability of every label of an exam without an answer."""


@dataclass(frozen=True)
class Submission:
    """What was written, and what its maker should know."""

    results: Path
    warnings: Path
    """Present only where there is something to say."""
    exams: Sequence[Mapping[str, str]]
    """Exams that failed or have a warning: ``input_image_name``, ``status``, ``message``."""
    counts: Mapping[str, int]
    exit_code: int
    """0 all well, 3 some exams failed, 4 all failed."""


def find_exams(folder: Path) -> list[Path]:
    """The ``.mha`` files of a folder, by name; hidden files are none.

    Raises:
        UsageError: no such folder, no exam in it, or two that the challenge cannot distinguish.
    """
    if not folder.is_dir():
        raise UsageError(
            f"{folder}: expected a folder of {SUFFIX} files, found {'a file' if folder.exists() else 'nothing'}"
        )
    files = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    exams = [path for path in files if path.name.lower().endswith(SUFFIX)]
    if not exams:
        held = f"it holds {', '.join(path.name for path in files[:3])}" if files else "it is empty"
        raise UsageError(f"{folder}: expected {SUFFIX} files, {held}; other formats: 'anymc3d predict'")
    seen: dict[str, Path] = {}
    for path in exams:
        key = exam_key(_exam_name(path))
        if key in seen:
            raise UsageError(
                f"{path.name} and {seen[key].name} would be one exam, {key!r}, for the challenge: rename one"
            )
        seen[key] = path
    return exams


def predict_folder(
    predictor: Predictor,
    folder: Path,
    out: Path,
    *,
    work: Path | None = None,
    precision: str = "fp32",
    quiet: bool = False,
) -> Submission:
    """Predict every exam of ``folder`` and write ``out`` at once, when all is done.

    One exam is in memory at a time; no worker processes, no shared memory. Finished exams are kept beside ``out``
    until it is written, so that a killed run goes on where it stopped.

    Args:
        predictor: of one plugin or ensemble with the 18 labels.
        folder: with the ``.mha`` files, Hounsfield units.
        out: the JSON file to write.
        work: keep finished exams here for good: the same command again computes nothing.
        precision: of the predictor, for the record.
        quiet: no progress bar.

    Raises:
        UsageError: no exams, a plugin with other labels, or nowhere to write.
        RunFolderError: the kept exams are of another plugin, or another process is at work.
    """
    (plugin,) = predictor.plugins
    check_labels(plugin.card.labels.output_names, f"plugin {plugin.card.name!r}")
    exams = find_exams(folder)
    _check_writable(out.parent)
    cases = [study_case(str(path.absolute()), None, case=_exam_name(path)) for path in exams]
    work_dir = work or out.parent / f".{out.stem}.work"
    run = predict_cohort(predictor, cases, work_dir, precision=precision, quiet=quiet)
    answers = {row["case"]: _probabilities(row) for row in run.rows}
    notes_of_exams = _exam_notes(run.rows)
    notes = out.with_name(f"{out.stem}.warnings.json")
    _write_public(notes, {"exams": notes_of_exams}) if notes_of_exams else notes.unlink(missing_ok=True)
    _write_public(out, results_document(answers))
    if work is None:
        shutil.rmtree(work_dir)
    counts = {status: sum(row["status"] == status for row in run.rows) for status in ("ok", "warn", "error")}
    return Submission(out, notes, notes_of_exams, counts, run.exit_code)


def _check_writable(folder: Path) -> None:
    """Find out before hours of work, and not after, that nothing can be written.

    Raises:
        UsageError: the folder is not there and cannot be made, or this user may not write into it.
    """
    try:
        make_private(folder, mode=0o755)  # what is written here is for another user, as are the files
    except OutputError as error:
        why = error.__cause__.strerror if isinstance(error.__cause__, OSError) else error
        raise UsageError(f"--out: the folder {folder} cannot be made ({why})") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"--out: expected a folder that this user may write into, not so: {folder}")


def _exam_name(path: Path) -> str:
    return path.name[: -len(SUFFIX)]


def _probabilities(row: Mapping[str, str]) -> dict[str, float]:
    if row["status"] == "error":
        return dict.fromkeys(LABELS, FAILED)
    return {label: float(row[f"probability.{label}"]) for label in LABELS}


def _exam_notes(rows: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    exam_notes = []
    for row in rows:
        name, key = row["case"], exam_key(row["case"])
        messages = [row["message"]] if row["message"] else []
        if key != name:
            messages.append(f"the name holds a dot: the challenge's evaluator takes it for {key!r}")
        if messages:
            status = "warn" if row["status"] == "ok" else row["status"]
            exam_notes.append({"input_image_name": name, "status": status, "message": "; ".join(messages)})
    return exam_notes


def _write_public(path: Path, content: Any) -> None:
    """Write JSON atomically, readable for all: who collects a submission is another user than who made it."""
    with atomic.replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        temporary.chmod(0o644)
