"""A Parquet table is the same table as its CSV."""

import pytest

from anymc3d.errors import UsageError
from anymc3d.files.parquet import write_beside
from anymc3d.files.tables import parse_table, read_table, write_table

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


def test_a_table_is_written_beside_its_csv_with_numbers_as_numbers(tmp_path):
    table = tmp_path / "predictions.csv"
    rows = [
        {"case": "007", "status": "ok", "logit.a": "-1.5e-05", "decision.a": "1", "set.a": "0 1"},
        {"case": "=008", "status": "error", "message": "gone"},
    ]
    write_table(table, ("case", "status", "message", "logit.a", "decision.a", "set.a"), rows)
    found = pandas.read_parquet(write_beside(table)).astype(object).to_dict("records")
    assert found[0] == rows[0] | {"message": "", "logit.a": -1.5e-05, "decision.a": 1.0}
    assert found[1]["case"] == "=008" and pandas.isna(found[1]["logit.a"]) and pandas.isna(found[1]["set.a"])
    assert parse_table(tmp_path / "predictions.parquet").rows[0][1][:2] == ("007", "ok")
