"""The only door to scans: a reference (path, or ``path.npz#split/index``) in, a volume out, or a ScanError.

Every ScanError begins with the reference as it was given, then a colon; the rest holds nothing of the file's name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anymc3d.data import hashes, remote
from anymc3d.data.dicom.read import dicom_content_hash, read_dicom, read_dicom_hashed, read_dicom_header
from anymc3d.data.formats.arrays import npz_content_hash, read_npy, read_npy_header, read_npz, read_npz_header
from anymc3d.data.formats.file_signature import kind_of
from anymc3d.data.formats.freesurfer import read_mgh, read_mgh_header
from anymc3d.data.formats.itk_formats import (
    mha_files,
    nrrd_files,
    read_mha,
    read_mha_header,
    read_nrrd,
    read_nrrd_header,
)
from anymc3d.data.formats.nifti import pair_of, read_nifti, read_nifti_header, read_pair, read_pair_header
from anymc3d.data.formats.scan_file import sha256_of
from anymc3d.data.in_memory import volume_of
from anymc3d.data.volume import Millimetres, ScanHeader, Volume
from anymc3d.errors import DamagedScanError, FormatError, OutputError, ScanError, TooLargeError, UsageError
from anymc3d.registry import Registry, expected, takes


@dataclass(frozen=True)
class ReadOptions:
    """What the manifest says of a scan beside its reference."""

    spacing: Millimetres | None = None
    """For arrays, which have none of their own."""
    series: str | None = None
    """For DICOM: the rule that chooses one series."""


@dataclass(frozen=True)
class ScanFormat:
    """How one kind of scan is read, and which of the cells beside it make sense for it."""

    read: Callable[[str | Path, ReadOptions], Volume]
    header: Callable[[str | Path, ReadOptions], ScanHeader]
    content_hash: Callable[[str | Path, ReadOptions], str]
    takes_spacing: bool = False
    takes_series: bool = False
    read_hashed: Callable[[str | Path, ReadOptions], tuple[Volume, str]] | None = None
    """Both at once, where that is more than one after the other with the bytes of the file read once."""


NIFTI = ScanFormat(
    lambda reference, _: read_nifti(Path(reference)),
    lambda reference, _: read_nifti_header(Path(reference)),
    lambda reference, _: sha256_of(Path(reference)),
)
NIFTI_PAIR = ScanFormat(
    lambda reference, _: read_pair(Path(reference)),
    lambda reference, _: read_pair_header(Path(reference)),
    lambda reference, _: sha256_of(*pair_of(Path(reference))),
)
MHA = ScanFormat(
    lambda reference, _: read_mha(Path(reference)),
    lambda reference, _: read_mha_header(Path(reference)),
    lambda reference, _: sha256_of(*mha_files(Path(reference))),
)
NRRD = ScanFormat(
    lambda reference, _: read_nrrd(Path(reference)),
    lambda reference, _: read_nrrd_header(Path(reference)),
    lambda reference, _: sha256_of(*nrrd_files(Path(reference))),
)
FREESURFER = ScanFormat(
    lambda reference, _: read_mgh(Path(reference)),
    lambda reference, _: read_mgh_header(Path(reference)),
    lambda reference, _: sha256_of(Path(reference)),
)
NPY = ScanFormat(
    lambda reference, options: read_npy(Path(reference), options.spacing),
    lambda reference, options: read_npy_header(Path(reference), options.spacing),
    lambda reference, _: sha256_of(Path(reference)),
    takes_spacing=True,
)
NPZ = ScanFormat(
    lambda reference, options: read_npz(reference, options.spacing),
    lambda reference, options: read_npz_header(reference, options.spacing),
    lambda reference, _: npz_content_hash(reference),
    takes_spacing=True,
)
DICOM = ScanFormat(
    lambda reference, options: read_dicom(Path(reference), series=options.series),
    lambda reference, options: read_dicom_header(Path(reference), options.series),
    lambda reference, options: dicom_content_hash(Path(reference), options.series),
    takes_series=True,
    read_hashed=lambda reference, options: read_dicom_hashed(Path(reference), series=options.series),
)

_EXPECTED = "a function (path) that gives an image, or an object with read(path) and header(path)"


def _admit(ending: str, reader: Any) -> ScanFormat:
    read_scan, header = getattr(reader, "read", reader), getattr(reader, "header", None)
    if not takes(read_scan, "path") or not (header is None or takes(header, "path")):
        raise expected("reader", ending, _EXPECTED, reader)

    def volume(reference: str | Path, options: ReadOptions) -> Volume:
        try:
            return volume_of(read_scan(Path(reference)))
        except UsageError as error:
            raise ScanError.of(reference, f"its reader, of {ending}: {error}") from error

    def own_header(reference: str | Path, options: ReadOptions) -> ScanHeader:
        if header is not None:
            return header(Path(reference))
        volume_read = volume(reference, options)
        return ScanHeader(volume_read.shape, volume_read.affine, str(volume_read.voxels.dtype), volume_read.warnings)

    return ScanFormat(volume, own_header, lambda reference, _: sha256_of(Path(reference)))


DICOM_FOLDER = "a folder of DICOM files"
FORMATS: Registry[ScanFormat] = Registry(
    "reader",
    {
        ".nii.gz": NIFTI,
        ".nii": NIFTI,
        ".npy": NPY,
        ".npz": NPZ,
        **dict.fromkeys((".hdr", ".img", ".hdr.gz", ".img.gz"), NIFTI_PAIR),
        **dict.fromkeys((".mha", ".mhd"), MHA),
        **dict.fromkeys((".nrrd", ".nhdr"), NRRD),
        **dict.fromkeys((".mgz", ".mgh", ".mgh.gz"), FREESURFER),
        **dict.fromkeys((".zip", ".dcm", ".dicom", ".ima"), DICOM),
        DICOM_FOLDER: DICOM,
    },
    group="anymc3d.readers",
    admit=_admit,
)
"""By the end of the file's name, whatever its case; the last is for every folder."""


def register_reader(ending: str, reader: Any) -> None:
    """Add a reader of scans that are one file each.

    Args:
        ending: of the files' names, in small letters with its dot, such as ``.mnc``.
        reader: ``path`` -> an image of nibabel or SimpleITK, or a :class:`~anymc3d.data.volume.Volume`; or an object
            with ``read``, which is that, and ``header``: ``path`` -> :class:`~anymc3d.data.volume.ScanHeader`, where
            that is quicker. Geometry and voxels are checked as those of any file. What it raises is the error of that
            one scan.

    Raises:
        UsageError: the ending is taken, or files of that ending are read already, or the reader is not called like
            that.
    """
    if not ending.startswith(".") or ending != ending.lower() or len(ending) < 2:
        raise UsageError(f"reader: an ending is small letters with a dot before them, such as .mnc, got {ending!r}")
    known = next(
        (known_ending for known_ending in FORMATS if known_ending.startswith(".") and ending.endswith(known_ending)),
        None,
    )
    if known not in (None, ending):
        raise UsageError(f"reader {ending!r}: what ends so is read as {known} already; choose another ending")
    FORMATS.register(ending, reader)


_BY_CONTENT = {"nifti": NIFTI, "dicom": DICOM}
_VOXELS_ALONE = {".zraw": ".mhd", ".raw": ".mhd or .nhdr", ".raw.gz": ".nhdr", ".bin": ".mhd or .nhdr"}
"""Ending of a file that holds voxels alone -> that of the header to give in its place."""


def read_volume(reference: str | Path, *, spacing: Millimetres | None = None, series: str | None = None) -> Volume:
    """Read one scan; ``spacing`` (mm) is for arrays, which have none, ``series`` chooses one of a DICOM study.

    Raises:
        ScanError: the scan is missing, damaged, ambiguous, or of a format that is not read.
    """
    with _boundary(reference):
        options, place = ReadOptions(spacing, series), remote.local(str(reference))
        return _format_of(place, options).read(place, options)


def read_hashed(
    reference: str | Path, *, spacing: Millimetres | None = None, series: str | None = None
) -> tuple[Volume, str]:
    """What :func:`read_volume` and :func:`content_hash` give, from one pass of the file's bytes where it is one file.

    Raises:
        ScanError: as :func:`read_volume`.
    """
    with _boundary(reference), hashes.remembering():
        options, place = ReadOptions(spacing, series), remote.local(str(reference))
        scan_format = _format_of(place, options)
        if scan_format.read_hashed is not None:
            return scan_format.read_hashed(place, options)
        return scan_format.read(place, options), scan_format.content_hash(place, options)


def read_header(reference: str | Path, *, spacing: Millimetres | None = None, series: str | None = None) -> ScanHeader:
    """Shape, geometry and type of one scan without decoding its voxels; of a .nii.gz only the first bytes are read.

    Raises:
        ScanError: as :func:`read_volume`, for all that a header shows.
    """
    with _boundary(reference):
        options, place = ReadOptions(spacing, series), remote.local(str(reference))
        return _format_of(place, options).header(place, options)


def content_hash(reference: str | Path, *, series: str | None = None) -> str:
    """Sha256 (hex) of what is stored: the file's bytes; of a MedMNIST volume its type, shape and bytes; of a DICOM
    series the bytes of its files, whatever their names.

    Raises:
        ScanError: the scan cannot be read.
    """
    with _boundary(reference):
        options, place = ReadOptions(series=series), remote.local(str(reference))
        return _format_of(place, options).content_hash(place, options)


def takes_series(reference: str | Path) -> bool:
    """Whether a scan is DICOM, of which a rule may choose a series; not so where there is nothing to open."""
    try:
        return _by_name(reference).takes_series
    except ScanError:
        return False


def _format_of(reference: str | Path, options: ReadOptions) -> ScanFormat:
    """The format of a reference, for which the cells beside it make sense."""
    scan_format = _by_name(reference)
    if options.spacing is not None and not scan_format.takes_spacing:
        raise ScanError.of(reference, "the scan has its own spacing; leave the manifest's spacing cell empty")
    if options.series and not scan_format.takes_series:
        raise ScanError.of(reference, "only DICOM has series; leave the manifest's series cell empty, and --series out")
    return scan_format


def _by_name(reference: str | Path) -> ScanFormat:
    if _is_folder(reference):
        return FORMATS[DICOM_FOLDER]
    name = str(reference).rpartition("#")[0] if ".npz#" in str(reference) else str(reference)
    known = next((suffix for suffix in FORMATS if suffix.startswith(".") and name.lower().endswith(suffix)), None)
    return FORMATS[known] if known else _by_content(reference)


def _by_content(reference: str | Path) -> ScanFormat:
    """The format of a file whose name says nothing: NIfTI and DICOM may be called as they like, others need their
    ending."""
    kind = kind_of(Path(reference))
    if kind in _BY_CONTENT:
        return _BY_CONTENT[kind]
    formats_read, name = f"(read are: {', '.join(FORMATS)})", str(reference).lower()
    what = f"this format is not read {formats_read}; convert it to .nii.gz"
    if kind:
        what = f"by its first bytes a {kind} file; name it so {formats_read}"
    elif header := next((heads for ending, heads in _VOXELS_ALONE.items() if name.endswith(ending)), ""):
        what = f"voxels without a header; give the header that lies beside them, {header} {formats_read}"
    raise FormatError.of(reference, what)


def _is_folder(reference: str | Path) -> bool:
    try:
        return Path(reference).is_dir()
    except (OSError, ValueError):
        return False  # a name that cannot be one: the reader says so


@contextmanager
def _boundary(reference: str | Path) -> Iterator[None]:
    """Whatever a damaged file makes a library raise is an error of this one scan."""
    try:
        yield
    except OutputError:
        raise  # a scan from an address cannot be put anywhere: no other would fare better
    except ScanError as error:
        placed = ScanError.of(reference, error.what)
        if str(error) == str(placed):
            raise
        placed.code = error.code
        raise placed from error
    except MemoryError as error:
        what = "needs more memory to be read than there is; end other programs, or take a machine with more"
        raise TooLargeError.of(reference, what) from error
    except Exception as error:
        # The text of the exception stays away: it may quote the path, or what stands in the file.
        what = f"cannot be read ({type(error).__name__}); check the file or convert it to .nii.gz"
        raise DamagedScanError.of(reference, what) from error
