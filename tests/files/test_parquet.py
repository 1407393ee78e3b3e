"""A Parquet table is the same table as its CSV."""

import pytest

from anymc3d.errors import UsageError
from anymc3d.files.tables import parse_table, read_table

pandas = pytest.importorskip("pandas")
pytest.importorskip("pyarrow")


@pytest.fixture
def frame():
    return pandas.DataFrame(
        {
            "case": ["001", "002", "Ä"],
            "image": ["a.nii.gz", "b.nii.gz", None],
            "label": pandas.array([1, None, 0], dtype="Int64"),
            "was_int": [1.0, None, 0.0],
            "age": [61.5, 70.0, 1e-3],
            "flag": [True, False, True],
            "site": pandas.Categorical(["x", "y", "x"]),
        },
        index=[7, 8, 9],
    )


def test_it_is_read_as_its_csv_is(frame, tmp_path):
    frame.to_parquet(tmp_path / "t.parquet")
    text = frame.astype({"was_int": "Int64", "flag": int}).assign(age=["61.5", "70", "0.001"])
    text.to_csv(tmp_path / "t.csv", index=False)
    assert read_table(tmp_path / "t.parquet") == read_table(tmp_path / "t.csv")
    assert parse_table(tmp_path / "t.parquet").rows[0][0] == 2, "rows are counted as a spreadsheet counts them"


def test_what_is_no_table_of_text_and_numbers_is_said(tmp_path, monkeypatch):
    pandas.DataFrame({"case": ["a"], "image": [[1, 2]]}).to_parquet(tmp_path / "list.parquet")
    (fault,) = parse_table(tmp_path / "list.parquet").problems
    assert "column 'image' holds list" in fault
    (tmp_path / "damaged.csv").write_bytes(b"PAR1rest")
    (fault,) = parse_table(tmp_path / "damaged.csv").problems
    assert "expected a Parquet table, and it is damaged" in fault
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    with pytest.raises(UsageError, match=r"anymc3d\[parquet\]"):
        parse_table(tmp_path / "list.parquet")
