"""The only door to scans: a reference (path, or ``path.npz#split/index``) in, a volume out, or a ScanError.

Every ScanError begins with the reference as it was given, then a colon; the rest holds nothing of the file's name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from anymc3d.data.arrays import npz_content_hash, read_npy, read_npy_header, read_npz, read_npz_header
from anymc3d.data.nifti import read_nifti, read_nifti_header
from anymc3d.data.scan_file import open_regular, scan_error, sha256_of
from anymc3d.data.volume import Millimetres, ScanHeader, Volume
from anymc3d.errors import ScanError


@dataclass(frozen=True)
class ScanFormat:
    """How one kind of scan is read; each function takes the reference and the manifest's spacing."""

    read: Callable[[str | Path, Millimetres | None], Volume]
    header: Callable[[str | Path, Millimetres | None], ScanHeader]
    content_hash: Callable[[str | Path], str]


def _nifti(reference: str | Path, spacing: Millimetres | None) -> Volume:
    _refuse_spacing(reference, spacing)
    return read_nifti(Path(reference))


def _nifti_header(reference: str | Path, spacing: Millimetres | None) -> ScanHeader:
    _refuse_spacing(reference, spacing)
    return read_nifti_header(Path(reference))


NIFTI = ScanFormat(_nifti, _nifti_header, lambda reference: sha256_of(Path(reference)))
NPY = ScanFormat(
    lambda reference, spacing: read_npy(Path(reference), spacing),
    lambda reference, spacing: read_npy_header(Path(reference), spacing),
    lambda reference: sha256_of(Path(reference)),
)
NPZ = ScanFormat(read_npz, read_npz_header, npz_content_hash)

FORMATS: dict[str, ScanFormat] = {".nii.gz": NIFTI, ".nii": NIFTI, ".npy": NPY, ".npz": NPZ}
"""By the end of the file's name, whatever its case."""


def read_volume(reference: str | Path, *, spacing: Millimetres | None = None) -> Volume:
    """Read one scan; ``spacing`` (mm) is for arrays alone, which have none of their own.

    Raises:
        ScanError: the scan is missing, damaged, ambiguous, or of a format that is not read.
    """
    with _boundary(reference):
        return _format_of(reference).read(reference, spacing)


def read_header(reference: str | Path, *, spacing: Millimetres | None = None) -> ScanHeader:
    """Shape, geometry and type of one scan without decoding its voxels; of a .nii.gz only the first bytes are read.

    Raises:
        ScanError: as :func:`read_volume`, for all that a header shows.
    """
    with _boundary(reference):
        return _format_of(reference).header(reference, spacing)


def content_hash(reference: str | Path) -> str:
    """Sha256 (hex) of what is stored: the file's bytes, or of a MedMNIST volume its type, shape and bytes.

    Raises:
        ScanError: the scan cannot be read.
    """
    with _boundary(reference):
        return _format_of(reference).content_hash(reference)


def _format_of(reference: str | Path) -> ScanFormat:
    name = str(reference).rpartition("#")[0] if ".npz#" in str(reference) else str(reference)
    for suffix, scan_format in FORMATS.items():
        if name.lower().endswith(suffix):
            return scan_format
    with open_regular(Path(reference)):
        raise scan_error(reference, f"this format is not read (read are: {', '.join(FORMATS)}); convert it to .nii.gz")


def _refuse_spacing(reference: str | Path, spacing: Millimetres | None) -> None:
    if spacing is not None:
        raise scan_error(reference, "a NIfTI file has its own spacing; leave the manifest's spacing cell empty")


@contextmanager
def _boundary(reference: str | Path) -> Iterator[None]:
    """Whatever a damaged file makes a library raise is an error of this one scan."""
    try:
        yield
    except ScanError:
        raise
    except Exception as error:
        what = f"cannot be read ({type(error).__name__}: {error}); check the file or convert it to .nii.gz"
        raise scan_error(reference, what) from error
