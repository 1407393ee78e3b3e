"""Every malformed or misleading file ends as its table says: no traceback, no signal, no hang, no flood of memory.

Each entry of the table names the promise that it keeps: A1, A2, A3, A4, A5, A6, A7, A8, A9, A10, A14, A16, B1, B2, B3,
B4, B5, B6, B7, B8, B9, B12 or G5.
"""

from __future__ import annotations

import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from in_children import assert_ended_well, read_in_children
from malformed import table
from malformed_entries import VOXELS

TABLE = table()


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory) -> dict[str, dict]:
    """Every entry, read in a process of its own that is forked from a warm one."""
    root = tmp_path_factory.mktemp("malformed")
    jobs = []
    for number, entry in enumerate(TABLE.values()):
        folder = root / str(number)
        folder.mkdir()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom warns of what is written wrong on purpose
            reference = entry.make(folder)
        jobs.append({"reference": reference, "spacing": entry.spacing, "series": entry.series, "reader": entry.reader})
    return dict(zip(TABLE, read_in_children(jobs, root), strict=True))


@pytest.mark.parametrize("name", TABLE)
def test_A1_A2_A3_A4_B8_an_entry_ends_as_the_table_says(outcomes, name: str) -> None:
    result = outcomes[name]
    assert result["state"] == TABLE[name].verdict, "\n".join(result["said"])
    assert_ended_well(result)


def test_the_table_is_large_and_has_all_verdicts_and_kinds() -> None:
    verdicts = Counter(entry.verdict for entry in TABLE.values())
    assert len(TABLE) > 400 and min(verdicts["ok"], verdicts["warn"]) > 30 and verdicts["error"] > 250
    assert {"nifti", "nifti2", "npy", "npz", "dicom", "dicom2", "text", "numpy", "table"} == {
        name.partition("/")[0] for name in TABLE
    }


def test_no_entry_leaves_a_canary(outcomes, tmp_path_factory) -> None:
    root = Path(next(iter(outcomes.values()))["job"]["log"]).parent
    assert not list(root.rglob("*canary*"))


@pytest.mark.parametrize(
    "name", [name for name, entry in TABLE.items() if name.startswith("text/") and entry.verdict == "ok"]
)
def test_B1_the_same_scan_in_every_text_format_is_the_same_volume(tmp_path: Path, name: str) -> None:
    from anymc3d.data.readers import read_volume

    volume = read_volume(TABLE[name].make(tmp_path))
    assert np.array_equal(volume.voxels, VOXELS.astype(np.float32))
    affine = np.diag([-0.9, -1.1, 2.5, 1.0])
    affine[:3, 3] = [20, -5, 40]
    np.testing.assert_allclose(volume.affine, affine, atol=1e-6)
