"""A scan's hash and voxels from one pass: the same as from two, and no byte of the file is read twice."""

import gzip
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from anymc3d.data import hashes
from anymc3d.data.formats.scan_file import open_regular, sha256_of
from anymc3d.data.readers import content_hash, read_hashed, read_volume
from anymc3d.errors import ScanError
from dicom_makers import make_series

VOXELS = np.random.default_rng(0).integers(-900, 900, (60, 50, 40)).astype(np.int16)
AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scans")
    nib.save(nib.Nifti1Image(VOXELS, AFFINE), folder / "a.nii")
    nib.save(nib.Nifti1Image(VOXELS, AFFINE), folder / "a.nii.gz")
    nib.save(nib.MGHImage(VOXELS.astype(np.int32), AFFINE), folder / "a.mgz")
    np.save(folder / "a.npy", VOXELS)
    image = sitk.GetImageFromArray(VOXELS)
    for name in ("a.mha", "a.nrrd", "two.mhd"):
        sitk.WriteImage(image, folder / name)
    make_series().write(folder / "dicom")
    return folder


def bytes_read() -> int:
    """What this process asked the system for so far."""
    return int(Path("/proc/self/io").read_text().split("rchar: ")[1].split()[0])


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.mgz", "a.npy", "a.mha", "a.nrrd", "two.mhd", "dicom"])
def test_one_pass_gives_what_two_give(scans, name):
    spacing = (1.0, 1.0, 2.0) if name.endswith(".npy") else None
    volume, digest = read_hashed(scans / name, spacing=spacing)
    again = read_volume(scans / name, spacing=spacing)
    assert digest == content_hash(scans / name)
    assert volume.voxels.tobytes("A") == again.voxels.tobytes("A") and np.array_equal(volume.affine, again.affine)
    assert volume.warnings == again.warnings
    if name.startswith("a.") and Path("/proc/self/io").exists():
        before = bytes_read()
        read_hashed(scans / name, spacing=spacing)
        assert bytes_read() - before < 1.5 * (scans / name).stat().st_size + 20_000


def test_whatever_order_a_file_is_read_in_its_hash_is_of_its_bytes(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(os.urandom(1_000_000))
    truth = sha256_of(path)
    with hashes.remembering():
        with open_regular(path) as file:
            file.seek(900_000)
            end = file.read(50_000)
            file.seek(10)
            file.read(700_000)
            state = os.fstat(file.fileno())
        assert hashes.known(state) == truth == sha256_of(path) and len(end) == 50_000
        with open_regular(path) as file:
            file.read(10)
        other = tmp_path / "head"
        other.write_bytes(os.urandom(1_000_000))
        with open_regular(other) as file:
            file.read(10)
        assert hashes.known(other.stat()) is None, "of a head alone the rest is not read"
        path.write_bytes(b"changed" * 200)
        assert sha256_of(path) != truth, "a file that has changed since is hashed anew"
    assert hashes.known(state) is None


def test_a_damaged_scan_has_no_voxels_and_is_no_other_error(scans, tmp_path):
    content = (scans / "a.nii.gz").read_bytes()
    (tmp_path / "cut.nii.gz").write_bytes(content[: len(content) // 2])
    (tmp_path / "sum.nii.gz").write_bytes(content[:-8] + b"\0" * 8)
    for path in tmp_path.iterdir():
        with pytest.raises(ScanError) as one:
            read_hashed(path)
        with pytest.raises(ScanError) as other:
            read_volume(path)
        assert str(one.value) == str(other.value)
    assert gzip.decompress(content)
