"""Real scans for the tests of this folder, where they are at hand."""

from __future__ import annotations

from pathlib import Path

import pytest

REAL_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real scans beside the repository; the test is skipped where there is none."""
    if not REAL_DATA.is_dir():
        pytest.skip("the real scans (../shared/data) are not at hand")
    return REAL_DATA


@pytest.fixture(scope="session")
def real_scans(real_data: Path) -> list[Path]:
    """A dozen NIfTI files of three sources: MR crops, whole-head T1, CT and MR with masks."""
    patterns = ("hippocampus_mr/images/*.nii.gz", "ixi_t1/nifti/*.nii.gz", "ct_totalsegmentator/*.nii.gz")
    return [path for pattern in patterns for path in sorted(real_data.glob(pattern))[:6]]
