"""The workbook reader: what spreadsheets write comes in as text, what could harm is refused in one line."""

from __future__ import annotations

import datetime
import random
import sys
import zipfile

import openpyxl
import pytest
from damaged_bytes import damaged
from openpyxl.utils.datetime import CALENDAR_MAC_1904
from public_layouts import write_xlsx

from anymc3d.adapters import xlsx
from anymc3d.adapters.xlsx import read_xlsx
from anymc3d.errors import ManifestError, UsageError

SPACE = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'


def workbook(path, sheet: str):
    """A workbook as openpyxl writes it, with another first sheet."""
    write_xlsx(path, [["id"], ["a"]])
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, sheet if name.endswith("sheet1.xml") else content)
    return path


def test_texts_numbers_dates_and_gaps_come_in_as_text(tmp_path):
    day = datetime.datetime(2020, 1, 1, 12, 30)
    rows = [["id", "name", "size", "day", "yes"], [7, "a & b <c>", 1.5, day, True], [8, None, 3.0, None, False]]
    assert read_xlsx(write_xlsx(tmp_path / "t.xlsx", rows)) == [
        {"id": "7", "name": "a & b <c>", "size": "1.5", "day": "2020-01-01", "yes": "1"},
        {"id": "8", "name": "", "size": "3", "day": "", "yes": "0"},
    ]


def test_a_text_of_digits_keeps_its_zeros(tmp_path):
    assert read_xlsx(write_xlsx(tmp_path / "t.xlsx", [["id"], ["007"]])) == [{"id": "007"}]


def test_blank_rows_and_unnamed_columns_are_left_out(tmp_path):
    rows = [["id", None, "b"], [1, "x", 2], [None, None, None], [3, None, 4]]
    assert read_xlsx(write_xlsx(tmp_path / "t.xlsx", rows)) == [{"id": "1", "b": "2"}, {"id": "3", "b": "4"}]


def test_the_first_sheet_is_that_of_the_workbook_and_days_are_counted_as_it_counts(tmp_path):
    book = openpyxl.Workbook()
    book.epoch = CALENDAR_MAC_1904
    book.active.append(["not", "this"])
    first = book.create_sheet("first", 0)
    for row in (["day", "failed"], [datetime.date(2020, 1, 1), "#N/A"]):
        first.append(row)
    book.save(tmp_path / "t.xlsx")
    assert read_xlsx(tmp_path / "t.xlsx") == [{"day": "2020-01-01", "failed": ""}]


def test_without_openpyxl_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(UsageError, match=r"pip install 'anymc3d\[xlsx\]', or save it as CSV"):
        read_xlsx(tmp_path / "t.xlsx")


@pytest.mark.parametrize(
    ("sheet", "message"),
    [
        ('<!DOCTYPE x [<!ENTITY a "aaaa">]><worksheet/>', "document type"),
        ("<worksheet", "not readable"),
        (f'<worksheet {SPACE}><sheetData><row><c r="A1" t="s"><v>9</v></c></row></sheetData></worksheet>', "index"),
        (f'<worksheet {SPACE}><sheetData><row><c r="ZZ1"><v>1</v></c></row></sheetData></worksheet>', "columns"),
        (f'<worksheet {SPACE}><sheetData><row><c r="A1"><v>x</v></c></row></sheetData></worksheet>', "invalid literal"),
        (f"<worksheet {SPACE}><sheetData/></worksheet>", "empty"),
        (f'<worksheet {SPACE}><sheetData><row r="99999999999"><c><v>1</v></c></row></sheetData></worksheet>', "empty"),
    ],
)
def test_A13_a_workbook_that_is_none_is_one_line(tmp_path, sheet, message):
    with pytest.raises(ManifestError, match=message):
        read_xlsx(workbook(tmp_path / "t.xlsx", sheet))


def test_what_unpacks_to_too_much_is_refused_before_it_is_read(tmp_path, monkeypatch):
    bomb = workbook(tmp_path / "t.xlsx", f"<worksheet {SPACE}>{' ' * 20000}</worksheet>")
    for name, limit, said in (("MAX_MEMBER_BYTES", 15000, "limit is 15000"), ("MAX_BYTES", 25000, "and 25000")):
        with monkeypatch.context() as patch:
            patch.setattr(xlsx, name, limit)
            with pytest.raises(ManifestError, match=said):
                read_xlsx(bomb)
    monkeypatch.setattr(xlsx, "MAX_ROWS", 2)
    with pytest.raises(ManifestError, match="more than 2 rows"):
        read_xlsx(write_xlsx(tmp_path / "t.xlsx", [["id"], [1], [2]]))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04broken", b"id,label\n1,2\n"])
def test_another_file_is_one_line(tmp_path, content):
    (tmp_path / "t.xlsx").write_bytes(content)
    with pytest.raises(ManifestError, match=r"save it as CSV"):
        read_xlsx(tmp_path / "t.xlsx")


def test_a_column_twice_is_an_error(tmp_path):
    with pytest.raises(ManifestError, match="'a' appears twice"):
        read_xlsx(write_xlsx(tmp_path / "t.xlsx", [["a", "a"], [1, 2]]))


def test_A14_damage_at_random_is_refused_in_one_line_or_changes_nothing_of_the_form(tmp_path):
    """Zip and XML readers raise a dozen kinds of errors on damage; none may come through."""
    path = write_xlsx(
        tmp_path / "t.xlsx", [["id", "day"], ["a", datetime.date(2020, 1, 1)], ["b", datetime.date(2020, 1, 2)]]
    )
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
