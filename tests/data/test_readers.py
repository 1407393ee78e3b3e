"""The door to scans: formats, hashes, and errors that always name the scan."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from scan_makers import SHAPE, anatomy, gz, nifti_bytes, npy_bytes, write

from anymc3d.data import readers
from anymc3d.data.readers import FORMATS, content_hash, read_header, read_volume
from anymc3d.errors import ScanError

PLAIN = nifti_bytes(anatomy())


@pytest.mark.parametrize(
    "name", ["scan.dcm", "scan", "scan.nhdr", "scan.mhd", "scan.hdr", "scan.img", "scan.zip", ".nii2"]
)
def test_a_format_that_is_not_read_lists_those_that_are(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, name, PLAIN)
    for function in (read_volume, read_header, content_hash):
        with pytest.raises(ScanError, match=r"read are: \.nii\.gz, \.nii, \.npy, \.npz"):
            function(path)


def test_an_empty_folder_holds_no_scan(tmp_path: Path) -> None:
    for function in (read_volume, read_header, content_hash):
        with pytest.raises(ScanError, match="no DICOM scan found"):
            function(tmp_path)


def test_A16_a_folder_named_like_a_file_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "scan.nii.gz").mkdir()
    with pytest.raises(ScanError, match="no DICOM scan found"):
        read_volume(tmp_path / "scan.nii.gz")


def test_one_dicom_file_asks_for_its_folder(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match="give the folder that holds the whole series"):
        read_volume(write(tmp_path, "scan.dcm", PLAIN))


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
