"""CSV tables: read from wherever a spreadsheet left them, written so that a spreadsheet cannot run them.

Reading accepts UTF-8 (with or without a byte-order mark) and UTF-16, the delimiters ``,`` ``;`` ``|`` and tab, any line
end. Anything else is refused with its row number; every fault of a table is found in one pass. Row numbers are those
a spreadsheet shows: the header is row 1.
"""

from __future__ import annotations

import csv
import io
import numbers
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from anymc3d.errors import ProblemsError
from anymc3d.files import atomic
from anymc3d.files.pointers import LONGEST, absent, pointer_in

MAX_TABLE_BYTES = 512 * 2**20
"""A million rows of 500 characters; more is refused before it is read."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_SIGNS = "=+\\-@\uff1d\uff0b\uff0d\uff20"
"""What a formula begins with, also in full width; a dash as a regular expression takes it."""
_FORMULA = re.compile(rf"(^|[;\t])(?='*[{_SIGNS}\t\r])")
_QUOTED_FORMULA = re.compile(rf"(^|[;\t])'(?='*[{_SIGNS}\t\r])")
"""At the start, and after what other spreadsheets take for the end of a cell."""
_IN_QUOTES = re.compile(r'[,;\t"\r\n]')


_DELIMITER_HINT = re.compile(r"\s*\"?sep=(?P<sign>[^\r\n\w\"])\"?[ \t,;]*(\r\n|\r|\n)", re.IGNORECASE)
BLANKS = " \n\r\t\u00a0\u00ad\u200b\u200e\u200f\u2060\ufeff\u3000"
"""Blanks, and signs of no width that copying out of a page leaves around a word."""
_NOT_TEXT = {
    b"PK\x03\x04": "a zip archive, as Excel's .xlsx is",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook (.xls)",
    b"\x1f\x8b": "a gzip file",
}
"""First bytes of files that people take for tables."""


@dataclass(frozen=True)
class Table:
    """The cells of a table as text, with the faults found on the way."""

    columns: tuple[str, ...]
    rows: tuple[tuple[int, tuple[str, ...]], ...]
    """(row number, one cell per column); rows with a fault are left out."""
    problems: tuple[str, ...]


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Write a CSV atomically: UTF-8, comma, LF. A missing key, None or NaN is an empty cell.

    Text that a spreadsheet would run as a formula (it begins with = + - @, in full width too, tab or carriage return,
    and is not a plain number) gets a leading apostrophe, which :func:`read_table` takes off again; so does what stands
    behind a ; or tab, where a spreadsheet of another country begins a new cell.

    Raises:
        ValueError: a row has a key that is not a column.
        OSError: the folder cannot be written.
    """
    known = set(columns)
    lines = [row_text(columns)]
    for row in rows:
        if not known.issuperset(row):
            raise ValueError(f"cells without a column: {sorted(set(row) - known)}; columns are {list(columns)}")
        lines.append(row_text([row.get(column) for column in columns]))
    atomic.write_text(path, "".join(lines))


def row_text(cells: Iterable[object]) -> str:
    """One line of a CSV, as :func:`write_table` writes it."""
    return raw_row([_written(cell) for cell in cells])


def raw_row(texts: Sequence[str]) -> str:
    """One line of a CSV out of cells that are already as they stand in a file."""
    if list(texts) == [""]:
        return '""\n'
    return ",".join('"' + text.replace('"', '""') + '"' if _IN_QUOTES.search(text) else text for text in texts) + "\n"


def read_table(path: Path) -> list[dict[str, str]]:
    """Read a CSV into one ``{column: text}`` per row.

    Raises:
        ProblemsError: the file is absent or has faults; each is listed with its row number.
    """
    table = parse_table(path)
    if table.problems:
        raise ProblemsError(str(path), table.problems)
    return [dict(zip(table.columns, cells, strict=True)) for _, cells in table.rows]


def parse_table(path: Path) -> Table:
    """Read a CSV and collect its faults instead of raising them, so that a caller can add its own.

    Cells are stripped of surrounding blanks; blank rows are skipped; unnamed columns without cells are dropped.
    """
    problem = _unreadable(path)
    if problem:
        return Table((), (), (problem,))
    if is_parquet(path):
        from anymc3d.files.parquet import parse_parquet

        return parse_parquet(path)
    problems: list[str] = []
    numbered = list(_records(_decode(path.read_bytes()), problems))
    if not numbered:
        return Table((), (), (*problems, "the table is empty: expected a header row with the column names"))
    (_, header), *body = numbered
    width = max((position + 1 for position, name in enumerate(header) if name), default=0)
    problems += _header_problems(header[:width], body)
    rows = []
    for number, cells in body:
        fault = _row_problem(cells, width)
        if fault:
            problems.append(f"row {number}: {fault}")
        else:
            rows.append((number, tuple(cells[:width])))
    return Table(tuple(header[:width]), tuple(rows), tuple(problems))


def _unreadable(path: Path) -> str | None:
    if not path.exists():
        return f"{path}: {absent(path)}"
    if not path.is_file():
        return f"{path}: expected a CSV file, got something that is not a regular file"
    with path.open("rb") as file:
        start = file.read(LONGEST)
    pointer = pointer_in(start) if len(start) < LONGEST else None
    if pointer:
        return f"{path}: {pointer}"
    for magic, what in _NOT_TEXT.items():
        if start.startswith(magic):
            return f"{path}: expected a CSV file, got {what}; save or unpack it as CSV (UTF-8)"
    size = path.stat().st_size
    if size > MAX_TABLE_BYTES:
        return f"{path}: {size} bytes, the limit for a table is {MAX_TABLE_BYTES}"
    return None


def is_parquet(path: Path) -> bool:
    """Whether a table is Parquet, by its first bytes."""
    with path.open("rb") as file:
        return file.read(4) == b"PAR1"


def _decode(raw: bytes) -> str:
    """Text of a file; bytes that are not its encoding stay as surrogates, which the row check reports."""
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return raw.decode("utf-16", errors="replace")
    head = raw[:200]
    for encoding, zeros in (("utf-16-le", head[1::2]), ("utf-16-be", head[0::2])):
        # Without a byte-order mark UTF-16 still shows: every other byte of an English header is zero.
        if len(zeros) > 2 and zeros.count(0) > 0.8 * len(zeros):
            return raw.decode(encoding, errors="replace")
    return raw.decode("utf-8-sig", errors="surrogateescape")


def _records(text: str, problems: list[str]) -> Iterator[tuple[int, list[str]]]:
    text, delimiter = _without_hint(text)
    first_line = re.split(r"[\r\n]", text.lstrip("\r\n"), maxsplit=1)[0]
    delimiter = delimiter or max(",;\t|", key=first_line.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    number = 0
    try:
        for number, cells in enumerate(reader, start=1):
            stripped = [unquoted(cell.strip(BLANKS)) for cell in cells]
            if any(stripped):
                yield number, stripped
    except csv.Error as error:
        problems.append(f"row {number + 1}: not readable as CSV from here on ({error}); look for a stray quote")


def _without_hint(text: str) -> tuple[str, str]:
    """The table after the line ``sep=;`` that Excel reads and does not count as a row, and the delimiter it names."""
    match = _DELIMITER_HINT.match(text)
    return (text[match.end() :], match["sign"]) if match else (text, "")


def _header_problems(header: list[str], body: list[tuple[int, list[str]]]) -> list[str]:
    problems, seen = [], set()
    for position, name in enumerate(header):
        if not name:
            used = any(len(cells) > position and cells[position] for _, cells in body)
            hint = " (a pandas index? write it with index=False)" if position == 0 and used else ""
            problems.append(f"row 1: column {position + 1} has no name{hint}; name it or delete it")
        elif name in seen:
            problems.append(f"row 1: column {name!r} appears twice; rename or delete one")
        seen.add(name)
    fault = _text_problem(header)
    return [*problems, f"row 1: {fault}"] if fault else problems


def _row_problem(cells: list[str], width: int) -> str | None:
    if len(cells) < width:
        return f"{len(cells)} cells, the header has {width} columns"
    if any(cells[width:]):
        return f"{len(cells)} cells, the header has {width} columns; quote a cell that holds the delimiter"
    return _text_problem(cells)


def _text_problem(cells: list[str]) -> str | None:
    text = "".join(cells)
    if text.isascii() and text.isprintable():
        return None
    if "\x00" in text:
        return "holds a NUL character; the file is damaged or not text"
    bad = next((letter for letter in text if "\udc80" <= letter <= "\udcff" or letter == "\ufffd"), None)
    if bad:
        return f"holds a character that is not UTF-8 ({bad!a}); save the file as 'CSV UTF-8'"
    return None


def _written(value: object) -> str:
    if value is None or value != value:
        return ""
    if isinstance(value, numbers.Real):
        return str(int(value)) if isinstance(value, bool) else str(value)
    text = str(value)
    return text if _NUMBER.fullmatch(text) else _FORMULA.sub(r"\1'", text)


def unquoted(cell: str) -> str:
    """A cell of a file without the apostrophe that keeps a spreadsheet from running it."""
    # '-3 is left alone on purpose only when it is a number: write_table never quotes one.
    return _QUOTED_FORMULA.sub(r"\1", cell)
