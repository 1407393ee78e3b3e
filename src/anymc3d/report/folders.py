"""The folders that reports are made from, and the file that a report is written to."""

from __future__ import annotations

import json
import re
from pathlib import Path

from anymc3d.errors import UsageError
from anymc3d.files import atomic

_RECORDS = {"run": "run.json", "evaluation": "evaluation.json", "case": "explain.json"}
_OF_KIND = {"train": "run", "quick": "quick", "evaluation": "evaluation"}
"""What a record says of itself -> the kind of report."""
_OTHERS = {
    "auto.json": "'anymc3d auto' wrote its report beside it, {folder}/report.html; a report of one scan is made with "
    "-p {folder}/plugin.safetensors -i SCAN",
    "folds.json": "a run of several folds; a report is of one of them, for instance {run}",
    "members.json": "a run of several members; a report is of one of them, for instance {run}",
    "predict.json": "predictions, of which 'anymc3d evaluate {folder}/predictions.csv MANIFEST.csv -o OUT' makes an "
    "evaluation; a report of one scan is made with -p PLUGIN -i SCAN",
    "doctor.json": "'anymc3d doctor' wrote its report beside it, {folder}/doctor.html",
}
"""Folders of other commands, by their record."""
_EXPECTED = (
    "expected the folder of a training run, of 'anymc3d evaluate', or of one case of 'anymc3d explain' (OUT/<case>)"
)


def kind_of(folder: Path) -> str:
    """Return ``run``, ``quick``, ``evaluation`` or ``case``.

    Raises:
        UsageError: it is none of them, or a whole explain folder, of which one case must be chosen.
    """
    if not folder.exists():
        raise UsageError(f"{folder}: no such folder; {_EXPECTED}")
    if not folder.is_dir():
        raise UsageError(f"{folder}: {_EXPECTED}, got a file; a scan is given with -i, a plugin with -p")
    for kind, name in _RECORDS.items():
        if (folder / name).is_file():
            record = read_record(folder / name)
            if record.get("kind") == "explain":
                raise UsageError(_choose_case(folder))
            # An unfinished or older record says its kind; one of a case has a case in place of it.
            if kind == "case":
                return kind
            if str(record.get("kind")) in _OF_KIND:
                return _OF_KIND[str(record["kind"])]
    for name, what in _OTHERS.items():
        if (folder / name).is_file():
            runs = sorted(path.parent for path in folder.rglob(_RECORDS["run"]))
            raise UsageError(f"{folder}: {what.format(folder=folder, run=runs[0] if runs else 'one that has begun')}")
    raise UsageError(f"{folder}: {_EXPECTED}, got a folder without a record of one in {', '.join(_RECORDS.values())}")


def read_record(path: Path) -> dict[str, object]:
    """Read a folder's JSON record.

    Raises:
        UsageError: it is damaged.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: expected a JSON record, but it is damaged ({error})") from None
    if not isinstance(record, dict):
        raise UsageError(f"{path}: expected a JSON object, got {type(record).__name__}")
    return record


def _choose_case(folder: Path) -> str:
    cases = sorted(path.parent.name for path in folder.glob("*/explain.json"))
    shown = ", ".join(cases[:4]) + (f" and {len(cases) - 4} more" if len(cases) > 4 else "")
    return f"{folder}: holds {len(cases)} explained cases ({shown}); a report is of one, for instance OUT/<case>"


def check_out(out: Path, identity: str, *, overwrite: bool) -> None:
    """Refuse to write over anything but an earlier report of the same subject.

    Raises:
        UsageError: ``out`` is a folder, has another ending, or holds something else and ``overwrite`` is off.
    """
    if out.is_dir():
        raise UsageError(f"-o {out}: expected a file such as report.html, got a folder")
    if out.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"-o {out}: expected a file name ending with .html")
    if overwrite or not out.exists():
        return
    with out.open("rb") as file:
        head = file.read(2000).decode("utf-8", "replace")
    if '<meta name="generator" content="anymc3d report' not in head:
        raise UsageError(f"-o {out}: is not a report of anymc3d; choose another name, or give --overwrite")
    identity_tag = re.search(r'<meta name="identity" content="([^"]*)">', head)
    if identity_tag is None or identity_tag[1] != identity:
        raise UsageError(f"-o {out}: is a report of something else; choose another name, or give --overwrite")


def write_report(out: Path, html: str) -> int:
    """Write the page atomically and return its size in bytes."""
    content = html.encode("utf-8", "replace")
    atomic.write_bytes(out, content)
    return len(content)
