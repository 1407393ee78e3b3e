"""Tables that lie beside the scans of a public layout: read whole, keyed by one column, their faults collected."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from anymc3d.adapters.findings import Findings
from anymc3d.adapters.rows import free_column
from anymc3d.data.case import default_id
from anymc3d.data.patients import patient_columns
from anymc3d.files.spelling import bare, matches
from anymc3d.files.tables import MAX_TABLE_BYTES, parse_table

ID_COLUMNS = (
    *("case", "caseid", "casename", "image", "imageid", "imagename", "id", "name", "scan", "scanid", "scanname"),
    *("filename", "file", "volume", "volumename", "identifier"),
)
"""How the column that names the scan may be called, in a label table of a person's own; the first that is there counts,
and letter case, blanks and signs between the words do not matter."""
_KEPT = ("patient", "split", "fold")
MISSING_CELLS = frozenset(("", "n/a", "na", "nan", "none", "null"))
"""What other programs write for a missing value; an empty cell here."""


def read_rows(path: Path, findings: Findings, *, needed: Sequence[str] = ()) -> list[dict[str, str]]:
    """The rows of a CSV or TSV; faults of the table and missing columns go to ``findings``, and then no row comes."""
    table = parse_table(path)
    findings.error_if(table.problems, f"{path.name} cannot be used")
    absent = [column for column in needed if column not in table.columns] if table.columns else []
    findings.error_if(absent, f"{path.name} lacks columns that this layout has; it has {list(table.columns)}")
    if table.problems or absent:
        return []
    return [dict(zip(table.columns, cells, strict=True)) for _, cells in table.rows]


def keyed(rows: Sequence[dict[str, str]], key: str, where: str, findings: Findings) -> dict[str, dict[str, str]]:
    """The rows by the cell of column ``key``; an empty key, or one that appears twice, is an error."""
    by_key: dict[str, dict[str, str]] = {}
    for number, row in enumerate(rows, start=2):
        name = row[key]
        if not name:
            findings.error(f"{where}: empty {key}", f"row {number}")
        elif name in by_key:
            findings.error(f"{where}: {key} appears twice", name)
        else:
            by_key[name] = row
    return by_key


def read_labels(path: Path, findings: Findings, *, key: str | None = None) -> dict[str, dict[str, str]]:
    """A person's own label table: scan id (extension and channel cut off by the caller) to its cells but the id.

    ``key``: the column that names the scan, where it is not called as in :data:`ID_COLUMNS`.
    """
    rows = read_rows(path, findings, needed=() if key is None else (key,))
    if not rows:
        return {}
    names = {bare(column): column for column in reversed(rows[0])}
    key = key or next((names[name] for name in ID_COLUMNS if name in names), None)
    if key is None:
        findings.error(
            f"{path.name}: no column names the scan; call it 'case', or say --id COLUMN (columns are {list(rows[0])})"
        )
        return {}
    columns = _manifest_columns([column for column in rows[0] if column != key], path.name, findings)
    for row in rows:
        row[key] = default_id(row[key]) if row[key] else ""
    by_id = keyed(rows, key, path.name, findings)
    return {name: {columns[c]: v for c, v in row.items() if c in columns} for name, row in by_id.items()}


def by_case(
    table: Mapping[str, dict[str, str]], cases: Iterable[str], what: str, findings: Findings
) -> dict[str, dict[str, str]]:
    """The rows of ``table`` under the ids of ``cases``, where a spreadsheet or a join wrote them another way.

    Only where one id of the table and one case are alike (``1`` and ``001``); each such pair is reported.
    """
    spellings = matches(table, cases)
    pairs = [f"{spelling} is {theirs}" for spelling, theirs in spellings.items()]
    findings.warn_if(pairs, f"{what} differ from the scans' names in zeros, signs or letter case alone; taken as")
    return {spellings.get(name, name): row for name, row in table.items()}


def label_columns(rows: Iterable[Mapping[str, str]]) -> tuple[str, ...]:
    """The columns of a person's own table that are neither patients nor splits, each once."""
    return tuple(dict.fromkeys(column for row in rows for column in row if column not in _KEPT))


def _manifest_columns(columns: Sequence[str], where: str, findings: Findings) -> dict[str, str]:
    """A person's own table may say patients and splits, under other spellings too; the rest keeps its name."""
    named = {column: column.lower() for column in columns if column.lower() in _KEPT}
    patients = [column for column in patient_columns(columns) if column not in named]
    if "patient" not in named.values() and patients:
        named[patients[0]] = "patient"
        if len(patients) > 1:
            findings.error(f"{where}: several columns may name the patient; call one of them 'patient'", patients)
    named |= {column: free_column(column) for column in columns if column not in named}
    count = Counter(named.values())
    twice = [column for column in columns if count[named[column]] > 1]
    findings.error_if(twice, f"{where}: two columns would be one column of the manifest; rename one")
    return {column: named[column] for column in columns}


def read_json(path: Path, findings: Findings) -> Any:
    """The value of a JSON file, or None with an error among the findings."""
    try:
        if not path.is_file():
            findings.error(f"{path.name}: expected this file, there is none")
            return None
        if path.stat().st_size > MAX_TABLE_BYTES:
            findings.error(f"{path.name}: larger than {MAX_TABLE_BYTES} bytes")
            return None
        text = path.read_text(encoding="utf-8-sig")
        return json.loads(text, object_pairs_hook=_each_once, parse_constant=_refuse_constant)
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else f"{type(error).__name__}: {error}"
        findings.error(f"{path.name} cannot be read as JSON ({reason})")
        return None


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A list of cases that appears twice would lose the first one in silence."""
    twice = [key for place, (key, _) in enumerate(pairs) if key in dict(pairs[:place])]
    if twice:
        raise ValueError(f"the key {twice[0]!r} appears twice")
    return dict(pairs)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON; write null for a missing value")


def cleaned(cell: str) -> str:
    """The cell, or an empty one where it is another program's word for a missing value."""
    return "" if cell.strip().lower() in MISSING_CELLS else cell.strip()


def listing(folder: Path) -> list[Path]:
    """What lies in a folder, in the order of the names, hidden files left out; nothing where there is no folder."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def is_there(path: Path) -> bool:
    """Whether there is something to open; a name that no file system takes names nothing."""
    try:
        return path.exists()
    except OSError:
        return False


def find_below(folder: Path, name: str, *, depth: int = 4) -> list[Path]:
    """Every file or folder called ``name`` at most ``depth`` levels below ``folder``, nearest first."""
    matching, level = [], [folder]
    for _ in range(depth):
        entries = [entry for parent in level for entry in listing(parent)]
        matching += [entry for entry in entries if entry.name == name]
        level = [entry for entry in entries if entry.is_dir() and not entry.is_symlink()]
        if len(level) > 20_000:
            break
    return matching
