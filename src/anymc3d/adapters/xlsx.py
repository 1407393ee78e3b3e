"""The first sheet of an ``.xlsx`` workbook as text, read by openpyxl (extra ``xlsx``) behind bounds of our own.

openpyxl sets no bounds on what it unpacks, and leaves entity bombs to the XML parser. So every member of the archive is
looked at before: its size, and a document type, which no spreadsheet writes. See docs/decisions.
"""

from __future__ import annotations

import datetime
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from anymc3d.data.formats.scan_file import open_regular
from anymc3d.errors import ManifestError, PackageError

MAX_MEMBER_BYTES = 64 * 2**20
MAX_BYTES = 4 * MAX_MEMBER_BYTES
"""Of all members together, unpacked."""
MAX_MEMBERS = 1000
MAX_ROWS, MAX_COLUMNS = 200_000, 200
LAST_ROW = 2**20
"""Of a sheet; beyond it a number of a row is absurd, and every row before it would be made up."""
_BLOCK = 2**20
_DOORS = (b"<!DOCTYPE", b"<!ENTITY")


def read_xlsx(path: Path) -> list[dict[str, str]]:
    """The rows below the header of the first sheet: column name to text; whole numbers without a point, dates as ISO.

    Raises:
        ManifestError: it is no such workbook, is damaged, or is larger than any table here should be.
        PackageError: openpyxl is not installed.
    """
    openpyxl = _library(path)
    try:
        with open_regular(path) as file, warnings.catch_warnings(action="ignore"):
            _check_members(file)
            book = openpyxl.load_workbook(file, read_only=True, data_only=True, keep_links=False)
            grid = list(_rows(book.worksheets[0]))
    except Exception as error:  # zip, XML and openpyxl raise a dozen kinds on damaged, encrypted or absurd content
        why = " ".join(str(error).split()) or type(error).__name__
        raise ManifestError(path.name, [f"not readable as an .xlsx workbook ({why}); save it as CSV"]) from error
    return _with_header(grid, path)


def _library(path: Path) -> Any:
    try:
        import openpyxl
    except ImportError as error:
        what = f"{path}: reading .xlsx needs openpyxl; pip install 'anymc3d[xlsx]', or save it as CSV"
        raise PackageError(what) from error
    return openpyxl


def _check_members(file: BinaryIO) -> None:
    """Refuse what unpacks to too much, or declares entities. A member never gives more bytes than its size says."""
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        total = sum(info.file_size for info in members)
        if len(members) > MAX_MEMBERS or total > MAX_BYTES:
            raise ValueError(f"{len(members)} members of {total} bytes, the limits are {MAX_MEMBERS} and {MAX_BYTES}")
        for info in members:
            if info.file_size > MAX_MEMBER_BYTES:
                raise ValueError(f"{info.filename}: {info.file_size} bytes, the limit is {MAX_MEMBER_BYTES}")
        for info in members:
            with archive.open(info) as stream:
                tail = b""
                while block := stream.read(_BLOCK):
                    # Both in UTF-8 and in UTF-16, whose letters have a zero beside them.
                    seen = (tail + block).replace(b"\0", b"")
                    if any(door in seen for door in _DOORS):
                        raise ValueError(f"{info.filename}: holds a document type, which no spreadsheet writes")
                    tail = block[-2 * max(map(len, _DOORS)) :]


def _rows(sheet: Any) -> Iterator[list[str]]:
    """The rows that hold anything, each as long as its last cell."""
    sheet.reset_dimensions()  # what the file says of its size need not be true
    filled = 0
    for number, row in enumerate(sheet.iter_rows(max_row=LAST_ROW)):
        if number >= LAST_ROW:
            raise ValueError(f"a row beyond the {LAST_ROW} of a sheet")
        if len(row) > MAX_COLUMNS:
            raise ValueError(f"a row of more than {MAX_COLUMNS} columns")
        cells = ["" if cell.data_type == "e" else _text(cell.value).strip() for cell in row]
        if any(cells):
            filled += 1
            yield cells
        if filled > MAX_ROWS:
            raise ValueError(f"more than {MAX_ROWS} rows")


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, datetime.datetime):
        return value.date().isoformat()
    if isinstance(value, float) and value == int(value) and abs(value) < 2**53:
        return str(int(value))
    return str(value)


def _with_header(grid: list[list[str]], path: Path) -> list[dict[str, str]]:
    if not grid:
        raise ManifestError(path.name, ["the first sheet is empty: expected a header row"])
    header = grid[0]
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise ManifestError(path.name, [f"column {name!r} appears twice" for name in twice])
    rows = []
    for cells in grid[1:]:
        padded = cells + [""] * (len(header) - len(cells))
        row = {name: cell for name, cell in zip(header, padded, strict=False) if name}
        if any(row.values()):
            rows.append(row)
    return rows
