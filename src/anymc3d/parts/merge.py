"""``anymc3d merge OUT``: the tables, journals and files of all parts as one process would have left them."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anymc3d.errors import CredentialsError, ProblemsError, RunFolderError
from anymc3d.files import atomic, journal, regular
from anymc3d.files.folders import differing, locked
from anymc3d.files.parts import CASES, PARTS, RECORD
from anymc3d.files.private import make_private, output_error
from anymc3d.files.tables import raw_row, unquoted
from anymc3d.parts.check import FinishedPart, finished_parts

JOURNAL, COST = "journal.jsonl", "cost.json"
_REFUSED = f"[{CredentialsError.code}]"
_OF_A_PART = {RECORD, CASES, ".lock"}
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS, errno.EXDEV)


@dataclass(frozen=True)
class MergeResult:
    """What was joined: parts, cases of the cohort, and tables with their rows."""

    parts: int
    cases: int
    failed: int
    """Cases with an error, of a run that has predictions.csv."""
    tables: dict[str, int]
    refused: int = 0
    """Cases that failed because a store refused the credentials."""

    @property
    def exit_code(self) -> int:
        """As of the run: 0 all well, 3 some cases failed, 4 all failed."""
        return 0 if not self.failed else 4 if self.failed == self.cases else 3


def merge_parts(out: Path, of: int | None = None) -> MergeResult:
    """Join the parts below ``out``; again after a part was run again, it writes the new state.

    Raises:
        UsageError, ProblemsError: they cannot be joined; nothing is written.
        RunFolderError: ``out`` is of another run, or another process works in it.
        OutputError: something cannot be written.
    """
    parts = finished_parts(out, of)
    with locked(out):
        _check_owner(out, parts[0])
        names = sorted({path.name for part in parts for path in part.folder.iterdir()} - _OF_A_PART)
        tables, failed, refused = {}, 0, 0
        for name in (name for name in names if name.endswith(".csv")):
            tables[name], bad = _merge_table(out, name, parts)
            failed = max(failed, len(bad))
            refused = max(refused, sum(message.endswith(_REFUSED) for message in bad.values()))
        for name in (name for name in names if not name.endswith((".csv", ".json", ".jsonl"))):
            _merge_folder(out / name, [part.folder / name for part in parts], parts)
        _merge_journal(out / JOURNAL, [part.folder / JOURNAL for part in parts], parts)
        _merge_cost(out / COST, parts)
        atomic.write_json(out / parts[0].record, parts[0].facts[parts[0].record])
    return MergeResult(len(parts), parts[0].cohort["cases"], failed, tables, refused)


def _check_owner(out: Path, first: FinishedPart) -> None:
    record = out / first.record
    if record.exists():
        lines = list(differing(json.loads(regular.read_text(record)), first.facts[first.record]))
        if lines:
            raise RunFolderError(f"{out}: holds another run than its parts: {'; '.join(lines[:3])}; move it away first")
        return
    others = sorted(path.name for path in out.iterdir() if path.name not in (PARTS, ".lock", "slurm"))
    if others:
        raise RunFolderError(
            f"{out}: expected {PARTS}/ alone, it also holds {', '.join(others[:5])}; move it away first"
        )


def _merge_table(out: Path, name: str, parts: Sequence[FinishedPart]) -> tuple[int, dict[str, str]]:
    """Rows by the place of their case in the cohort, then the others by case; how many, and the messages of the cases
    with errors."""
    header, rows = None, []
    for part in parts:
        path = part.folder / name
        if not path.exists():
            continue
        cells = csv.reader(io.StringIO(regular.read_text(path), newline=""), strict=True)
        columns = next(cells)
        if header is not None and columns != header:
            raise ProblemsError(str(out), [f"{name} of part {part.part} has other columns than that of part 1"])
        header, at = columns, columns.index("case")
        keyed_rows = [(unquoted(row[at]), row) for row in cells]
        lacking = part.positions.keys() - {case for case, _ in keyed_rows} if name == "predictions.csv" else ()
        if lacking:
            what = f"{name} of part {part.part} has no row of case {sorted(lacking)[0]!r}"
            raise ProblemsError(str(out), [f"{what}; run it again with --part {part.part}"])
        rows += [
            (part.positions.get(case, _LAST), "" if case in part.positions else case, row) for case, row in keyed_rows
        ]
    assert header is not None
    rows.sort(key=lambda row: row[:2])
    atomic.write_text(out / name, raw_row(header) + "".join(raw_row(cells) for _, _, cells in rows))
    if not {"status", "message"} <= set(header):
        return len(rows), {}
    status, at, message = (header.index(name) for name in ("status", "case", "message"))
    bad = {cells[at]: cells[message] for place, _, cells in rows if place < _LAST and cells[status] == "error"}
    return len(rows), bad


_LAST = 2**62


def _merge_journal(path: Path, sources: Sequence[Path], parts: Sequence[FinishedPart]) -> None:
    """One line for every case, its last, so that the run can go on in ``OUT`` itself."""
    entries: dict[str, tuple[int, dict[str, Any]]] = {}
    for source, part in zip(sources, parts, strict=True):
        for entry in journal.read(source):
            entries[entry["case"]] = (part.positions.get(entry["case"], _LAST), entry)
    if not any(source.exists() for source in sources):
        return
    lines = [
        journal.line(entry) for _, entry in sorted(entries.values(), key=lambda placed: (placed[0], placed[1]["case"]))
    ]
    atomic.write_bytes(path, b"".join(lines))


def _merge_folder(out: Path, sources: Sequence[Path], parts: Sequence[FinishedPart]) -> None:
    """The same files under the same names, as second names of the same bytes where the disk can do that."""
    _merge_journal(out / JOURNAL, [source / JOURNAL for source in sources], parts)
    for source in sources:
        for path in _files(source):
            if path.name != JOURNAL:
                _link(path, out / path.relative_to(source))


def _files(folder: Path) -> Iterator[Path]:
    if folder.is_file():
        yield folder
    elif folder.is_dir():
        yield from sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")


def _link(source: Path, target: Path) -> None:
    make_private(target.parent)
    with_tail = target.with_name(f".{target.name}.part")
    try:
        if target.exists() and os.path.samefile(source, target):
            return
        with_tail.unlink(missing_ok=True)
        try:
            os.link(source, with_tail)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            shutil.copyfile(source, with_tail)
            with_tail.chmod(0o600)
        os.replace(with_tail, target)
    except OSError as error:
        raise output_error(target, error) from error


def _merge_cost(path: Path, parts: Sequence[FinishedPart]) -> None:
    """Sums over the parts, and each part's own record, whose machines may differ."""
    costs = {
        str(part.part): json.loads(regular.read_text(part.folder / COST))
        for part in parts
        if (part.folder / COST).exists()
    }
    if not costs:
        return
    cases, seconds = (sum(cost[key] for cost in costs.values()) for key in ("cases", "predict_seconds"))
    peaks = [cost["peak_memory_bytes"] for cost in costs.values() if cost["peak_memory_bytes"] is not None]
    cost = {
        "cases": cases,
        "predict_seconds": round(seconds, 4),
        "predict_seconds_per_volume": round(seconds / cases, 4) if cases else None,
        "peak_memory_bytes": max(peaks, default=None),
        "parts": costs,
    }
    atomic.write_json(path, cost)
