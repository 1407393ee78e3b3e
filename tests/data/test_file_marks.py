"""A case is taken for unchanged without reading only where its file system can say so."""

import os
import time
from dataclasses import replace

import pytest

from anymc3d.data.case import Case
from anymc3d.data.file_marks import SETTLED_SECONDS, file_mark

LATER = time.time() + 2 * SETTLED_SECONDS + 3600
"""When a run begins to which files that a test makes are old."""


@pytest.fixture
def case(tmp_path):
    (tmp_path / "a.nii.gz").write_bytes(b"scan")
    (tmp_path / "m.nii").write_bytes(b"mask")
    images, masks = {"image": str(tmp_path / "a.nii.gz")}, {"mask": str(tmp_path / "m.nii")}
    return Case("a", "a", images, masks, {}, None, None, None, None, 2)


def test_the_same_files_have_the_same_mark_and_a_change_another(case, tmp_path):
    scan, mark = tmp_path / "a.nii.gz", file_mark(case, LATER)
    assert mark is not None and file_mark(case, LATER + 1) == mark
    times = (scan.stat().st_atime_ns, scan.stat().st_mtime_ns)
    scan.write_bytes(b"SCAN")
    os.utime(scan, ns=times)  # of the same size, and with its old time put back
    assert file_mark(case, LATER) != mark
    mark = file_mark(case, LATER)
    for other in (
        replace(case, spacing=(1.0, 1.0, 1.0)),
        replace(case, cells={"series": "x"}),
        replace(case, masks={}),
    ):
        assert file_mark(other, LATER) not in (None, mark)
    (tmp_path / "m.nii").write_bytes(b"another")
    assert file_mark(case, LATER) != mark


def test_a_folder_of_slices_is_all_its_files(case, tmp_path):
    study = tmp_path / "study" / "series"
    study.mkdir(parents=True)
    (study / "1.dcm").write_bytes(b"1")
    case = replace(case, images={"image": str(tmp_path / "study")})
    mark = file_mark(case, LATER)
    (study / "2.dcm").write_bytes(b"2")
    assert None not in (mark, file_mark(case, LATER)) and file_mark(case, LATER) != mark


@pytest.mark.parametrize("reference", ["gone.nii.gz", "header.mhd", "pair.hdr", "s3://bucket/a.nii.gz"])
def test_what_cannot_be_said_is_read(case, tmp_path, reference):
    for name in ("header.mhd", "pair.hdr"):
        (tmp_path / name).write_bytes(b"voxels are elsewhere")
    place = reference if "://" in reference else str(tmp_path / reference)
    assert file_mark(replace(case, images={"image": place}), LATER) is None


def test_a_file_that_was_changed_when_the_run_began_is_read(case):
    assert file_mark(case, time.time()) is None
