"""The first sheet of an ``.xlsx`` workbook as text, strictly.

A reader of its own and no dependency: one public set has one such table, the part of the format it needs is small
(zipped XML: a sheet and a list of shared texts), and the usual packages set no bounds on what they unpack. Here every
member is bounded before it is read, and XML with a document type, the door to entity bombs, is refused.
"""

from __future__ import annotations

import datetime
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from anymc3d.data.scan_file import open_regular
from anymc3d.errors import ManifestError

MAX_MEMBER_BYTES = 64 * 2**20
MAX_ROWS, MAX_COLUMNS = 200_000, 200
_SPACE = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_CELL_NAME = re.compile(r"([A-Z]{1,3})(\d{1,7})")
_FIRST_DAY = datetime.date(1899, 12, 30)
_DATE_FORMATS = frozenset((*range(14, 18), 22))
"""The number formats that are dates in every workbook; its own ones are recognised by their letters."""

_DAMAGE = (zipfile.BadZipFile, zlib.error, KeyError, ValueError, EOFError, OSError, ArithmeticError, RuntimeError)
"""What zip, XML and arithmetic raise on damaged, encrypted or absurd content."""


def read_xlsx(path: Path) -> list[dict[str, str]]:
    """The rows below the header of the first sheet: column name to text; numbers as written, dates as ISO.

    Raises:
        ManifestError: it is no such workbook, is damaged, or is larger than any table here should be.
    """
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            texts = _shared_texts(archive)
            dates = _date_styles(archive)
            grid = _grid(_parsed(archive, "xl/worksheets/sheet1.xml"), texts, dates)
    except _DAMAGE as error:
        raise ManifestError(path.name, [f"not readable as an .xlsx workbook ({error}); save it as CSV"]) from error
    return _with_header(grid, path)


def _with_header(grid: list[list[str]], path: Path) -> list[dict[str, str]]:
    if not grid:
        raise ManifestError(path.name, ["the first sheet is empty: expected a header row"])
    header = grid[0]
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise ManifestError(path.name, [f"column {name!r} stands twice" for name in twice])
    rows = []
    for cells in grid[1:]:
        padded = cells + [""] * (len(header) - len(cells))
        row = {name: cell for name, cell in zip(header, padded, strict=False) if name}
        if any(row.values()):
            rows.append(row)
    return rows


def _parsed(archive: zipfile.ZipFile, name: str) -> ElementTree.Element:
    info = archive.getinfo(name)
    if info.file_size > MAX_MEMBER_BYTES:
        raise ValueError(f"{name}: {info.file_size} bytes, the limit is {MAX_MEMBER_BYTES}")
    with archive.open(info) as stream:
        content = stream.read(MAX_MEMBER_BYTES + 1)
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
        raise ValueError(f"{name}: holds a document type, which no spreadsheet writes")
    try:
        return ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        raise ValueError(f"{name}: {error}") from error


def _shared_texts(archive: zipfile.ZipFile) -> list[str]:
    if "xl/sharedStrings.xml" not in archive.namelist():
        return []
    root = _parsed(archive, "xl/sharedStrings.xml")
    return ["".join(part.text or "" for part in item.iter(f"{_SPACE}t")) for item in root.iter(f"{_SPACE}si")]


def _date_styles(archive: zipfile.ZipFile) -> frozenset[int]:
    """Which cell styles show a number as a date."""
    if "xl/styles.xml" not in archive.namelist():
        return frozenset()
    root = _parsed(archive, "xl/styles.xml")
    own = {
        int(entry.get("numFmtId", "0"))
        for entry in root.iter(f"{_SPACE}numFmt")
        if re.search(r"[dy]", re.sub(r'"[^"]*"|\[[^\]]*\]', "", entry.get("formatCode", "").lower()))
    }
    styles = root.find(f"{_SPACE}cellXfs")
    entries = list(styles) if styles is not None else []
    return frozenset(
        index for index, entry in enumerate(entries) if int(entry.get("numFmtId", "0")) in _DATE_FORMATS | own
    )


def _grid(sheet: ElementTree.Element, texts: list[str], dates: frozenset[int]) -> list[list[str]]:
    grid: list[list[str]] = []
    for row in sheet.iter(f"{_SPACE}row"):
        cells: list[str] = []
        for column, cell in _cells(row):
            if column >= MAX_COLUMNS:
                raise ValueError(f"a row of more than {MAX_COLUMNS} columns")
            cells += [""] * (column + 1 - len(cells))
            cells[column] = _text(cell, texts, dates).strip()
        if any(cells):
            grid.append(cells)
        if len(grid) > MAX_ROWS:
            raise ValueError(f"more than {MAX_ROWS} rows")
    return grid


def _cells(row: ElementTree.Element) -> Iterator[tuple[int, ElementTree.Element]]:
    """(column from 0, cell); a cell without a name stands behind the one before it."""
    column = -1
    for cell in row.iter(f"{_SPACE}c"):
        named = _CELL_NAME.fullmatch(cell.get("r", ""))
        column = _column(named.group(1)) if named else column + 1
        yield column, cell


def _column(letters: str) -> int:
    number = 0
    for letter in letters:
        number = number * 26 + ord(letter) - ord("A") + 1
    return number - 1


def _text(cell: ElementTree.Element, texts: list[str], dates: frozenset[int]) -> str:
    kind = cell.get("t", "n")
    if kind == "inlineStr":
        return "".join(part.text or "" for part in cell.iter(f"{_SPACE}t"))
    value = cell.findtext(f"{_SPACE}v") or ""
    if kind == "s":
        index = int(value)
        if not 0 <= index < len(texts):
            raise ValueError(f"cell {cell.get('r')}: shared text {index} of {len(texts)}")
        return texts[index]
    if kind == "e":
        return ""
    if kind == "n" and value:
        number = float(value)
        if int(cell.get("s", "0")) in dates:
            return (_FIRST_DAY + datetime.timedelta(days=int(number))).isoformat()
        return str(int(number)) if number == int(number) and abs(number) < 2**53 else value
    return value
