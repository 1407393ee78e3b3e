"""The workbook reader: what spreadsheets write comes in as text, what could harm is refused in one line."""

from __future__ import annotations

import datetime
import random
import zipfile

import pytest
from damaged_bytes import damaged
from public_layouts import write_xlsx

from anymc3d.adapters import xlsx
from anymc3d.adapters.xlsx import read_xlsx
from anymc3d.errors import ManifestError

SPACE = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'


def workbook(path, sheet: str):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/worksheets/sheet1.xml", sheet)
    return path


@pytest.mark.parametrize("inline", [False, True])
def test_texts_numbers_dates_and_gaps_come_in_as_text(tmp_path, inline):
    rows = [["id", "name", "size", "day"], [7, "a & b <c>", 1.5, (43831,)], [8, None, 3.0, None]]
    found = read_xlsx(write_xlsx(tmp_path / "t.xlsx", rows, inline=inline))
    assert found == [
        {"id": "7", "name": "a & b <c>", "size": "1.5", "day": "2020-01-01"},
        {"id": "8", "name": "", "size": "3", "day": ""},
    ]


def test_a_text_of_digits_keeps_its_zeros(tmp_path):
    assert read_xlsx(write_xlsx(tmp_path / "t.xlsx", [["id"], ["007"]])) == [{"id": "007"}]


def test_blank_rows_and_unnamed_columns_are_left_out(tmp_path):
    rows = [["id", None, "b"], [1, "x", 2], [None, None, None], [3, None, 4]]
    assert read_xlsx(write_xlsx(tmp_path / "t.xlsx", rows)) == [{"id": "1", "b": "2"}, {"id": "3", "b": "4"}]


def test_what_openpyxl_writes_comes_in(tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in (["id", "value", "day"], ["007", 2.25, datetime.date(2020, 1, 1)], ["ä&b", None, None]):
        book.active.append(row)
    book.save(tmp_path / "t.xlsx")
    assert read_xlsx(tmp_path / "t.xlsx") == [
        {"id": "007", "value": "2.25", "day": "2020-01-01"},
        {"id": "ä&b", "value": "", "day": ""},
    ]


@pytest.mark.parametrize(
    ("sheet", "message"),
    [
        ('<!DOCTYPE x [<!ENTITY a "aaaa">]><worksheet/>', "document type"),
        ("<worksheet", "sheet1.xml"),
        (f'<worksheet {SPACE}><sheetData><row><c r="A1" t="s"><v>9</v></c></row></sheetData></worksheet>', "shared"),
        (f'<worksheet {SPACE}><sheetData><row><c r="ZZ1"><v>1</v></c></row></sheetData></worksheet>', "columns"),
        (f'<worksheet {SPACE}><sheetData><row><c r="A1"><v>x</v></c></row></sheetData></worksheet>', "could not"),
        (f"<worksheet {SPACE}><sheetData/></worksheet>", "empty"),
    ],
)
def test_A13_a_workbook_that_is_none_is_one_line(tmp_path, sheet, message):
    with pytest.raises(ManifestError, match=message):
        read_xlsx(workbook(tmp_path / "t.xlsx", sheet))


def test_what_unpacks_to_too_much_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(xlsx, "MAX_MEMBER_BYTES", 1000)
    with pytest.raises(ManifestError, match="the limit is 1000"):
        read_xlsx(workbook(tmp_path / "t.xlsx", f"<worksheet {SPACE}>{' ' * 5000}</worksheet>"))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04broken", b"id,label\n1,2\n"])
def test_another_file_is_one_line(tmp_path, content):
    (tmp_path / "t.xlsx").write_bytes(content)
    with pytest.raises(ManifestError, match=r"save it as CSV"):
        read_xlsx(tmp_path / "t.xlsx")


def test_a_column_twice_is_an_error(tmp_path):
    with pytest.raises(ManifestError, match="'a' stands twice"):
        read_xlsx(write_xlsx(tmp_path / "t.xlsx", [["a", "a"], [1, 2]]))


def test_A14_damage_at_random_is_refused_in_one_line_or_changes_nothing_of_the_form(tmp_path):
    """Zip and XML readers raise a dozen kinds of errors on damage; none may come through."""
    path = write_xlsx(tmp_path / "t.xlsx", [["id", "day"], ["a", (43831,)], ["b", (43832,)]])
    whole = path.read_bytes()
    refused = 0
    for seed in range(300):
        path.write_bytes(damaged(whole, random.Random(seed)))
        try:
            read_xlsx(path)
        except ManifestError as error:
            refused += 1
            assert len(error.problems) == 1 and "\n" not in error.problems[0]
    assert refused > 100
