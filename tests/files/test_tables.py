"""Tables survive spreadsheets, and spreadsheets survive tables."""

import csv
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anymc3d.errors import ProblemsError
from anymc3d.files.tables import parse_table, read_table, write_table

# U+FFFD is the mark of a character that was lost before; reading refuses it.
letters = st.characters(exclude_categories=["Cs", "Cc", "Zs"], exclude_characters="\ufffd")
cell_texts = st.text(letters, max_size=8)
risky_texts = st.builds(
    lambda start, rest: start + rest, st.sampled_from(["=", "+", "-", "@", "'", "'=", "''-"]), cell_texts
)


@given(st.lists(cell_texts | risky_texts, min_size=1, max_size=4))
def test_A15_what_is_written_is_read_back_and_never_starts_a_formula(tmp_path_factory, cells):
    path = tmp_path_factory.mktemp("t") / "t.csv"
    columns = [f"c{i}" for i in range(len(cells))] + ["end"]
    row = dict(zip(columns, [*cells, "x"], strict=True))
    write_table(path, columns, [row])
    (written,) = list(csv.reader(io.StringIO(path.read_bytes().decode(), newline="")))[1:]
    for text in written:
        assert not text.startswith(("=", "@", "\t", "\r"))
        assert not text.startswith(("+", "-")) or float(text) is not None
    assert read_table(path) == [row]


def test_A15_plain_numbers_are_not_quoted_and_formulas_are(tmp_path):
    path = tmp_path / "t.csv"
    row = {"a": "-1.5", "b": "+3e-2", "c": "-1+cmd", "d": "=HYPERLINK()", "e": -0.25, "f": "\tx"}
    write_table(path, list(row), [row])
    assert path.read_bytes() == b"a,b,c,d,e,f\n-1.5,+3e-2,'-1+cmd,'=HYPERLINK(),-0.25,'\tx\n"


def test_numbers_keep_all_digits_and_undefined_is_an_empty_cell(tmp_path):
    path = tmp_path / "t.csv"
    write_table(path, ["x", "y", "z", "w"], [{"x": 0.1 + 0.2, "y": float("nan"), "z": None, "w": np.float64(1 / 3)}])
    (row,) = read_table(path)
    assert float(row["x"]) == 0.1 + 0.2
    assert (row["y"], row["z"]) == ("", "")
    assert float(row["w"]) == 1 / 3


def test_a_cell_without_a_column_is_refused(tmp_path):
    with pytest.raises(ValueError, match="lost"):
        write_table(tmp_path / "t.csv", ["a"], [{"a": 1, "lost": 2}])


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_A14_spreadsheet_exports_read_alike(tmp_path, delimiter, encoding, newline):
    path = tmp_path / "t.csv"
    lines = ["case,image,ort", "007,a.nii.gz,Köln", "", "008, b.nii.gz ,x"]
    path.write_bytes(newline.join(line.replace(",", delimiter) for line in lines).encode(encoding))
    assert read_table(path) == [
        {"case": "007", "image": "a.nii.gz", "ort": "Köln"},
        {"case": "008", "image": "b.nii.gz", "ort": "x"},
    ]
    assert [number for number, _ in parse_table(path).rows] == [2, 4]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "the table is empty"),
        (b"a,b\n1\n", "row 2: 1 cells, the header has 2 columns"),
        (b"a,b\n1,2\n1,2,3\n", "row 3: 3 cells"),
        (b"a,a\n1,2\n", "row 1: column 'a' stands twice"),
        (b",a\n0,1\n", "row 1: column 1 has no name (a pandas index?"),
        (b"a,b\n1,\x00\n", "row 2: holds a NUL"),
        (b"a,b\n1,K\xf6ln\n", "row 2: holds a character that is not UTF-8"),
        (b'a,b\n1,2\n3,"x\n', "row 3: not readable as CSV"),
    ],
)
def test_A14_faults_come_with_their_row(tmp_path, content, expected):
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(ProblemsError) as caught:
        read_table(path)
    assert any(problem.startswith(expected) for problem in caught.value.problems), caught.value.problems


def test_trailing_empty_columns_of_a_spreadsheet_are_dropped(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b,,\n1,2,,\n,,,\n3,4,,\n")
    assert read_table(path) == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]


def test_A16_a_folder_or_a_missing_file_is_a_clean_error(tmp_path):
    with pytest.raises(ProblemsError, match="not a regular file"):
        read_table(tmp_path)
    with pytest.raises(ProblemsError, match="no such file"):
        read_table(tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("start", "what"),
    [
        (b"PK\x03\x04rest", ".xlsx"),
        (b"\xd0\xcf\x11\xe0rest", ".xls"),
        (b"\x1f\x8brest", "gzip"),
        (b"PAR1rest", "Parquet"),
    ],
)
def test_A16_files_that_people_take_for_tables_are_called_by_their_name(tmp_path, start, what):
    (tmp_path / "table.csv").write_bytes(start)
    with pytest.raises(ProblemsError, match=rf"expected a CSV file, got .*{what}.*; save or unpack it as CSV"):
        read_table(tmp_path / "table.csv")
