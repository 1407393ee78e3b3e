"""A small version of ``benchmarks/scaling.py``: parts, kills and cut scans, and a table equal to the byte."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
import scaling


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_killed_parts_of_a_cohort_with_cut_scans_are_joined_to_the_byte(journey, tmp_path, monkeypatch):
    monkeypatch.setattr(scaling, "PARTS", 4)
    monkeypatch.setattr("anymc3d.data.file_marks.SETTLED_SECONDS", -1e9)
    predictor = scaling.stand_in(journey.plugin, journey.scans[0])
    monkeypatch.setattr(scaling, "predictor", predictor, raising=False)
    row = scaling.measured(tmp_path / "cohort", 200, kills=3)
    assert row["cases"] == 200 and set(row) == set(scaling.COLUMNS)
