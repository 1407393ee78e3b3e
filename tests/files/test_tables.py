"""Tables survive spreadsheets, and spreadsheets survive tables."""

import csv
import io
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anymc3d.errors import ProblemsError
from anymc3d.files.tables import BLANKS, parse_table, read_table, write_table

# U+FFFD is the mark of a character that was lost before; reading refuses it.
letters = st.characters(exclude_categories=["Cs", "Cc", "Zs"], exclude_characters=f"\ufffd{BLANKS}")
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
    assert path.read_bytes() == b"a,b,c,d,e,f\n-1.5,+3e-2,'-1+cmd,'=HYPERLINK(),-0.25,\"'\tx\"\n"


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


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
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
        (b"a,a\n1,2\n", "row 1: column 'a' appears twice"),
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
    ],
)
def test_A16_files_that_people_take_for_tables_are_called_by_their_name(tmp_path, start, what):
    (tmp_path / "table.csv").write_bytes(start)
    with pytest.raises(ProblemsError, match=rf"expected a CSV file, got .*{what}.*; save or unpack it as CSV"):
        read_table(tmp_path / "table.csv")


@pytest.mark.parametrize("hint", ["sep=;", '"sep=;"', "SEP=;", "sep=;;;", " sep=; "])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_A14_the_line_for_excel_is_no_row(tmp_path, hint, end):
    """Excel does not count it either: the header stays row 1."""
    path = tmp_path / "t.csv"
    path.write_bytes(end.join([hint, "image;a,b", "x;1", "y;2", ""]).encode("utf-8-sig"))
    table = parse_table(path)
    assert table.columns == ("image", "a,b") and table.problems == ()
    assert table.rows == ((2, ("x", "1")), (3, ("y", "2")))


@pytest.mark.parametrize("sign", [",", ";", "\t", "|"])
def test_A14_the_delimiter_that_the_line_names_counts(tmp_path, sign):
    (tmp_path / "t.csv").write_text(f"sep={sign}\na{sign}b\n1{sign}2\n")
    assert read_table(tmp_path / "t.csv") == [{"a": "1", "b": "2"}]


def test_a_column_called_sep_is_a_column(tmp_path):
    (tmp_path / "t.csv").write_text("sep=a,b\n1,2\n")
    assert read_table(tmp_path / "t.csv") == [{"sep=a": "1", "b": "2"}]


def test_A14_signs_of_no_width_around_a_cell_are_blanks(tmp_path):
    (tmp_path / "t.csv").write_text("\u200bimage,y\u00a0\nscans/a.nii\u200b,\ufeff1\n", encoding="utf-8")
    assert read_table(tmp_path / "t.csv") == [{"image": "scans/a.nii", "y": "1"}]


@pytest.mark.parametrize("content", [b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"])
def test_A14_a_table_that_was_not_fetched_says_so(tmp_path, content):
    (tmp_path / "t.csv").write_bytes(content)
    (problem,) = parse_table(tmp_path / "t.csv").problems
    assert "a Git LFS pointer" in problem
    (tmp_path / "link.csv").symlink_to(".git/annex/objects/x")
    (problem,) = parse_table(tmp_path / "link.csv").problems
    assert "was not fetched" in problem


def test_A13_a_hundred_thousand_columns_take_seconds(tmp_path):
    names = [f"column {k}" for k in range(100_000)]
    path = tmp_path / "t.csv"
    path.write_text("\n".join([",".join(names), *([",".join(["1"] * 100_000)] * 4)]) + "\n")
    started = time.process_time()
    table = parse_table(path)
    assert (len(table.columns), len(table.rows), table.problems) == (100_000, 4, ())
    assert time.process_time() - started < 10


def test_a_long_list_of_problems_is_cut_and_counted():
    error = ProblemsError("m.csv", [f"row {k}: bad {k}" for k in range(300_000)])
    lines = str(error).splitlines()
    assert lines[0] == "m.csv: 300000 problems" and lines[-1] == "  … and 299800 more" and len(lines) == 202
    assert len(error.problems) == 300_000


@pytest.mark.parametrize(
    "cell", ["a;=cmd|' C'!A0", "a\t=1+1", "\uff1d1+1", "\uff0b1", "\uff0d2", "\uff20SUM(A1)", "x;'=1", "a;b\t+1", ";=1"]
)
def test_A15_no_spreadsheet_of_any_country_runs_a_cell(tmp_path, cell):
    """Whatever it takes for the end of a cell: comma, semicolon or tab."""
    path = tmp_path / "t.csv"
    write_table(path, ["case", "note"], [{"case": cell, "note": cell}])
    text = path.read_text(encoding="utf-8")
    for delimiter in ",;\t":
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter):
            assert not [one for one in row if one.lstrip('"').startswith(tuple("=+-@\uff1d\uff0b\uff0d\uff20"))]
    assert read_table(path) == [{"case": cell, "note": cell}]
