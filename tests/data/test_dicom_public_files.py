"""The files that pydicom brings, and those of ``pydicom-data`` where it is installed: read right, or refused.

Two hundred files of many makers, most of them no scan (pictures, doses, plans, reports, directories). Nothing is
downloaded.
"""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import pydicom
import pytest
from in_children import assert_ended_well, read_in_children

BUNDLED = Path(pydicom.__file__).parent / "data" / "test_files"
PLAIN = ("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4")  # CT and MR, one frame a file


def pydicom_data() -> Path:
    found = importlib.util.find_spec("data_store")
    if found is None or found.origin is None:
        pytest.skip("the package pydicom-data is not installed")
    return Path(found.origin).parent / "data"


def series_of(path: Path) -> str | None:
    """Its SeriesInstanceUID, where the file is DICOM and has one."""
    try:
        return str(pydicom.dcmread(path, specific_tags=["SeriesInstanceUID"]).SeriesInstanceUID)
    except (pydicom.errors.InvalidDicomError, AttributeError, OSError):
        return None


def is_plain(path: Path) -> bool:
    try:
        return pydicom.dcmread(path, specific_tags=["SOPClassUID"]).get("SOPClassUID") in PLAIN
    except (pydicom.errors.InvalidDicomError, OSError):
        return False


def jobs_of(root: Path, made: Path) -> list[dict]:
    """Each folder as it lies; each file alone, unless its folder is one series; each series of several files in a
    folder of its own."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    series: dict[Path, dict[str | None, list[Path]]] = {}
    for path in files:
        series.setdefault(path.parent, {}).setdefault(series_of(path), []).append(path)
    jobs = [{"reference": str(folder)} for folder in series]
    for members in series.values():
        if len(members) == 1:
            continue
        jobs += [{"reference": copied(some, made)} for uid, some in members.items() if uid and len(some) > 1]
        for path in (path for some in members.values() for path in some):
            jobs.append({"reference": copied([path], made), **({"oracle": str(path)} if is_plain(path) else {})})
    return jobs


def copied(files: list[Path], made: Path) -> str:
    """A new folder with these files; links into other folders are refused."""
    folder = Path(tempfile.mkdtemp(dir=made))
    for path in files:
        shutil.copyfile(path, folder / path.name)
    return str(folder)


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@pytest.mark.parametrize(
    ("source", "scans", "equal"), [("pydicom", 100, 15), ("pydicom-data", 70, 7)], ids=["pydicom", "pydicom-data"]
)
def test_A4_B1_public_files_are_read_as_pydicom_does_or_refused(tmp_path, source: str, scans: int, equal: int) -> None:
    """Voxels of the CT and MR files that are read: pydicom's pixels times slope plus intercept, exactly."""
    root = BUNDLED if source == "pydicom" else pydicom_data()
    results = read_in_children(jobs_of(root, tmp_path), tmp_path)
    for result in results:
        assert_ended_well(result)
    assert len(results) >= scans
    states = Counter(result["state"] for result in results)
    compared = [result for result in results if result["job"].get("oracle") and result["state"] != "error"]
    assert states["error"] > 0 and len(compared) >= equal
