"""The door to scans: formats, hashes, and errors that always name the scan."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
import SimpleITK as sitk
from scan_makers import SHAPE, anatomy, gz, nifti_bytes, npy_bytes, write

from anymc3d.data import readers
from anymc3d.data.readers import FORMATS, content_hash, read_header, read_volume
from anymc3d.errors import ScanError

PLAIN = nifti_bytes(anatomy())


@pytest.mark.parametrize("name", ["scan.xyz", "scan", "scan.raw", ".nii2", "scan.nii.part"])
def test_a_format_that_is_not_read_lists_those_that_are(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, name, b"what nobody knows" * 40)
    for function in (read_volume, read_header, content_hash):
        with pytest.raises(ScanError, match=r"read are: \.nii\.gz, \.nii, \.npy, \.npz"):
            function(path)


@pytest.mark.parametrize("name", ["scan", "T1", "sub-01_T1w.", "scan.nii2", "scan.7"])
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("packed", [False, True])
def test_a_nifti_may_be_called_as_it_likes(tmp_path: Path, name: str, version: int, packed: bool) -> None:
    content = nifti_bytes(anatomy(), version=version, order=">" if packed else "<")
    path = write(tmp_path, name, gz(content) if packed else content)
    known = read_volume(write(tmp_path, "known.nii", content))
    volume = read_volume(path)
    assert (volume.voxels == known.voxels).all() and (volume.affine == known.affine).all() and not volume.warnings
    assert read_header(path).shape == SHAPE and len(content_hash(path)) == 64


@pytest.mark.parametrize(("ending", "function"), [(".npy", npy_bytes), (".mha", None), (".nrrd", None)])
def test_other_formats_are_told_by_their_beginning_and_read_when_named_so(tmp_path: Path, ending, function) -> None:
    if function is None:
        sitk.WriteImage(sitk.GetImageFromArray(anatomy()), str(tmp_path / f"a{ending}"))
        content = (tmp_path / f"a{ending}").read_bytes()
    else:
        content = function(anatomy())
    with pytest.raises(ScanError, match="by its first bytes") as caught:
        read_volume(write(tmp_path, "scan", content))
    (advised,) = re.findall(r"a (\.\w+) file; name it so", str(caught.value))
    spacing = (1, 1, 1) if ending == ".npy" else None
    assert read_volume(write(tmp_path, f"scan{advised}", content), spacing=spacing).voxels.size == anatomy().size


def test_an_empty_folder_holds_no_scan(tmp_path: Path) -> None:
    for function in (read_volume, read_header, content_hash):
        with pytest.raises(ScanError, match="no DICOM scan found"):
            function(tmp_path)


def test_A16_a_folder_named_like_a_file_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "scan.nii.gz").mkdir()
    with pytest.raises(ScanError, match="no DICOM scan found"):
        read_volume(tmp_path / "scan.nii.gz")


@pytest.mark.parametrize("name", ["scan.dcm", "IM0001"])
def test_one_dicom_file_asks_for_its_folder_which_is_read(tmp_path: Path, name: str) -> None:
    from dicom_makers import content, make_series, truth

    series = make_series()
    path = write(series.write(tmp_path / "scan"), name, content(series.slices.pop()))
    (tmp_path / "scan" / "PHI_FILE_007.dcm").unlink()
    with pytest.raises(ScanError, match="one DICOM file of a series; give the folder that holds the whole series"):
        read_volume(path)
    assert (read_volume(path.parent).voxels == truth()).all()


def test_only_a_dicom_folder_takes_a_series(tmp_path: Path) -> None:
    path = write(tmp_path, "scan.nii", PLAIN)
    for function in (read_volume, read_header, content_hash):
        with pytest.raises(ScanError, match="leave the manifest's series cell empty"):
            function(path, series="SeriesNumber=3")


def test_a_missing_file_is_missing_before_its_format_matters(tmp_path: Path) -> None:
    for name in ("scan.xyz", "scan.nii.gz", "scan.npy"):
        with pytest.raises(ScanError, match="does not exist"):
            read_volume(tmp_path / name, spacing=None if "nii" in name else (1, 1, 1))


def test_text_and_path_references_are_the_same(tmp_path: Path) -> None:
    path = write(tmp_path, "scan.nii.gz", gz(PLAIN))
    assert read_volume(str(path)).shape == read_volume(path).shape == SHAPE


def test_a_hash_sign_in_a_name_is_no_npz_reference(tmp_path: Path) -> None:
    assert read_volume(write(tmp_path, "scan#2.nii", PLAIN)).shape == SHAPE


def test_content_hash_is_the_sha256_of_the_file(tmp_path: Path) -> None:
    for name, content in (("scan.nii.gz", gz(PLAIN)), ("scan.npy", npy_bytes(anatomy()))):
        assert content_hash(write(tmp_path, name, content)) == hashlib.sha256(content).hexdigest()


def test_a_nifti_refuses_a_spacing_from_the_manifest(tmp_path: Path) -> None:
    path = write(tmp_path, "scan.nii", PLAIN)
    for function in (read_volume, read_header):
        with pytest.raises(ScanError, match="its own spacing"):
            function(path, spacing=(1, 1, 1))


@pytest.mark.parametrize(
    "raised", [MemoryError(), RecursionError("deep"), KeyError("x"), ZeroDivisionError("two\nlines")]
)
def test_whatever_a_library_raises_is_an_error_of_this_scan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raised: Exception
) -> None:
    def stumble(*_: object) -> None:
        raise raised

    broken = readers.ScanFormat(read=stumble, header=stumble, content_hash=stumble)  # type: ignore[arg-type]
    monkeypatch.setitem(FORMATS, ".nii", broken)
    for function in (read_volume, read_header, content_hash):
        with pytest.raises(ScanError) as caught:
            function(tmp_path / "scan.nii")
        assert str(caught.value).startswith(f"{tmp_path / 'scan.nii'}: ") and "\n" not in str(caught.value)
        assert caught.value.__cause__ is raised


def test_a_stop_from_the_keyboard_is_no_scan_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(FORMATS, ".nii", readers.ScanFormat(read=stop, header=stop, content_hash=stop))  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        read_volume(tmp_path / "scan.nii")
