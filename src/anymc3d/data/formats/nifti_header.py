"""NIfTI-1 and NIfTI-2 headers: every field that matters is checked before a byte of voxels is read.

The rules where readers disagree: the sform wins over the qform, and the qform over bare pixel sizes; a form that is no
geometry does not count beside one that is; units are converted to millimetres; a header without orientation codes is
taken as stored in RAS; a slope that is 0, NaN or infinite means that there is none. Each of these, where the header is
ambiguous, leaves a warning. Source of the fields: nifti1.h and nifti2.h of the NIfTI data format group.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from anymc3d.data.formats.raw_voxels import COLOURS
from anymc3d.data.volume import Affine, orientation_of, spacing_of
from anymc3d.errors import HeaderError

VOXEL_CEILING = 2**31
HEADER_SIZES = {348: nibabel.Nifti1Header, 540: nibabel.Nifti2Header}
_SINGLE_FILE_MAGIC = {348: b"n+1\0", 540: b"n+2\0"}
_LINE_ENDS = {b"\r\n\x1a\n", b"\0\0\0\0"}  # of NIfTI-2, zeros where a writer left them out
_PAIR_MAGIC = {348: b"ni1\0", 540: b"ni2\0"}
_TYPES = {
    2: "u1",
    4: "i2",
    8: "i4",
    16: "f4",
    64: "f8",
    256: "i1",
    512: "u2",
    768: "u4",
    1024: "i8",
    1280: "u8",
}
_REFUSED_TYPES = {
    1: "one bit per voxel",
    32: "complex",
    128: "RGB colour",
    1536: "128-bit float",
    1792: "complex",
    2048: "complex",
    2304: "RGBA colour",
}
_UNITS_MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
_UNIT_NAMES = {1: "metres", 3: "micrometres"}
PLAUSIBLE_SPACING_MM = (0.001, 200.0)
_SAME_SPACING = 0.01  # relative
_SAME_PLACE = 0.1  # of the smallest spacing
_SHEAR_DEGREES = 0.1


@dataclass(frozen=True, eq=False)
class NiftiHeader:
    """The checked header of a NIfTI, of one file or of a pair."""

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    """The stored type with its byte order."""
    offset: int
    """Where the voxels begin, in bytes; of a pair in its second file."""
    slope: float
    intercept: float
    affine: Affine
    warnings: tuple[str, ...]

    @property
    def num_bytes(self) -> int:
        """Bytes of voxels that the header promises."""
        return math.prod(self.shape) * self.dtype.itemsize


def header_size(first_bytes: bytes, reference: str | Path) -> tuple[int, str]:
    """Size (348 or 540) and byte order (``<`` or ``>``) shown by a file's first four bytes.

    Raises:
        ScanError: they are not the beginning of a NIfTI file.
    """
    for order, name in (("<", "little"), (">", "big")):
        size = int.from_bytes(first_bytes[:4], name)  # type: ignore[arg-type]
        if len(first_bytes) >= 4 and size in HEADER_SIZES:
            return size, order
    start = first_bytes[:4]
    if start.lstrip()[:1] in (b"<", b"{") and start.isascii():
        # What a server answers in place of a file: the download failed and was kept under its name.
        raise HeaderError.of(reference, "expected a NIfTI file, got a web page or another text; fetch the file again")
    what = f"expected a NIfTI file, got one that begins with {start.hex() or 'nothing'}; convert it to NIfTI"
    raise HeaderError.of(reference, what)


def is_single_file(start: bytes) -> bool:
    """Whether a file that begins with these bytes is a NIfTI that holds its own voxels."""
    places = {348: 344, 540: 4}  # of the mark
    sizes = {int.from_bytes(start[:4], order) for order in ("little", "big")} & set(places)  # type: ignore[arg-type]
    return any(start[places[size] :].startswith(_SINGLE_FILE_MAGIC[size]) for size in sizes)


def parse_header(block: bytes, order: str, reference: str | Path, *, paired: bool = False) -> NiftiHeader:
    """Check a header of 348 or 540 bytes; ``paired``: its voxels are in a file of their own (``.hdr`` and ``.img``).

    Raises:
        ScanError: it is no NIfTI of that kind, contradicts itself, or describes what is not one 3D scan.
    """
    fields = HEADER_SIZES[len(block)](block, endianness=order, check=False)
    with np.errstate(all="ignore"):  # whatever is not finite is looked for, and named, below
        return _checked(fields, order, reference, paired)


def _checked(fields: Any, order: str, reference: str | Path, paired: bool) -> NiftiHeader:
    size = len(fields.binaryblock)
    _check_magic(fields["magic"].tobytes().ljust(4, b"\0"), size, reference, paired)
    if size == 540 and fields["eol_check"].tobytes() not in _LINE_ENDS:
        raise HeaderError.of(reference, "line ends were changed on the way (a transfer as text?); get the file again")
    shape = _shape([int(n) for n in fields["dim"]], reference)
    offset, first = float(fields["vox_offset"]), 0 if paired else size + 4
    if not (math.isfinite(offset) and offset == int(offset) and offset >= first):
        what = f"expected voxels from byte {first} on, the header says {offset:g}"
        raise HeaderError.of(reference, f"{what}; save it again as .nii.gz with the program that wrote it")
    slope, intercept, scale_warnings = _scaling(float(fields["scl_slope"]), float(fields["scl_inter"]), reference)
    affine, warnings = _geometry(fields, shape, reference)
    dtype = _dtype(int(fields["datatype"]), int(fields["bitpix"]), reference).newbyteorder(order)
    return NiftiHeader(shape, dtype, int(offset), slope, intercept, affine, (*warnings, *scale_warnings))


def _check_magic(magic: bytes, size: int, reference: str | Path, paired: bool) -> None:
    alone, pair = _SINGLE_FILE_MAGIC[size], _PAIR_MAGIC[size]
    if magic == (pair if paired else alone):
        return
    if magic == pair:
        raise HeaderError.of(
            reference, "the header of a NIfTI pair: name its two files .hdr and .img, and give one of them"
        )
    if magic == alone:
        raise HeaderError.of(
            reference, "a NIfTI that holds its own voxels: name it .nii, or .nii.gz if it is compressed"
        )
    if paired:
        what = "an Analyze 7.5 header, which does not say where left and right are"
        raise HeaderError.of(
            reference, f"{what}; find out how it was stored, and save it as .nii.gz with an orientation"
        )
    what = f"expected the NIfTI mark {alone!r}, got {magic!r}: Analyze or damaged; convert it to .nii.gz"
    raise HeaderError.of(reference, what)


def _shape(dims: list[int], reference: str | Path) -> tuple[int, int, int]:
    rank = dims[0]
    if not 1 <= rank <= 7:
        raise HeaderError.of(reference, f"expected 1 to 7 dimensions, the header says {rank}; the file is damaged")
    sizes = dims[1 : rank + 1]
    if min(sizes) < 1:
        raise HeaderError.of(reference, f"expected sizes of at least 1, the header says {sizes}; the file is damaged")
    if rank < 3 or any(size > 1 for size in sizes[3:]):
        shape_text = " x ".join(map(str, sizes))
        colours = " (several volumes, or colours?)" if sizes[-1] in COLOURS else ""
        what = f"expected one 3D scan, got {shape_text}{colours}"
        raise HeaderError.of(reference, f"{what}; save the volume to classify as its own file")
    voxels = math.prod(sizes)
    if voxels > VOXEL_CEILING:
        shape_text = " x ".join(map(str, sizes))
        raise HeaderError.of(
            reference, f"the header claims {shape_text} = {voxels} voxels, more than the limit {VOXEL_CEILING}"
        )
    return sizes[0], sizes[1], sizes[2]


def _dtype(code: int, bits: int, reference: str | Path) -> np.dtype[Any]:
    if code not in _TYPES:
        named = _REFUSED_TYPES.get(code, "unknown")
        what = f"expected integer or float voxels, got data type {code} ({named}); save as int16 or float32"
        raise HeaderError.of(reference, what)
    dtype = np.dtype(_TYPES[code])
    if bits != dtype.itemsize * 8:
        what = f"data type {dtype} has {dtype.itemsize * 8} bits, the header says {bits}: damaged; save it again"
        raise HeaderError.of(reference, what)
    return dtype


def _scaling(slope: float, intercept: float, reference: str | Path) -> tuple[float, float, tuple[str, ...]]:
    if slope == 0 or not math.isfinite(slope):
        slope_text = "0" if slope == 0 else f"{slope}, which is not a number"
        ignored = (
            f"the intensity slope is {slope_text}, so by the NIfTI rule the intercept {intercept:g} was not applied"
        )
        return 1.0, 0.0, (ignored,) if math.isfinite(intercept) and intercept != 0 else ()
    if not math.isfinite(intercept):
        what = f"expected a finite intensity intercept beside the slope {slope:g}, the header says {intercept}"
        raise HeaderError.of(reference, f"{what}; save the file again")
    return slope, intercept, ()


def _geometry(fields: Any, shape: tuple[int, int, int], reference: str | Path) -> tuple[Affine, list[str]]:
    warnings: list[str] = []
    scale = _unit_scale(int(fields["xyzt_units"]) & 7, warnings)
    pixdim = np.asarray(fields["pixdim"], dtype=np.float64)
    sizes = pixdim[1:4] if np.isfinite(pixdim[1:4]).all() and (pixdim[1:4] > 0).all() else None
    has_sform, has_qform = int(fields["sform_code"]) > 0, int(fields["qform_code"]) > 0
    if sizes is None:
        what = f"the header's pixel sizes are {pixdim[1:4].tolist()}"
        if not has_sform:
            raise HeaderError.of(reference, f"expected sizes above 0, {what}; repair the header")
        warnings.append(f"{what}; the spacing of the sform is used")
    sform = _sform(fields) if has_sform else None
    qform = _qform(fields, pixdim) if has_qform and sizes is not None else None
    s_fault, q_fault = (_fault_of(form, name, scale) for form, name in ((sform, "sform"), (qform, "qform")))
    if sform is not None and s_fault is None:
        affine = sform
        if q_fault:
            warnings.append(f"{q_fault}: the sform is used")
        _compare(affine, None if q_fault else qform, sizes, shape, warnings)
    elif qform is not None and q_fault is None:
        affine = qform
        warnings += [f"{s_fault}: the qform is used"] if s_fault else []
    elif s_fault or q_fault:
        raise HeaderError.of(reference, f"{s_fault or q_fault}; repair the header")
    else:
        affine = np.diag([*pixdim[1:4], 1.0])
        warnings.append("the header gives no orientation (qform and sform codes are 0): taken as stored in RAS")
    affine[:3] *= scale
    if fault := spacing_fault(affine):
        raise HeaderError.of(reference, f"{fault}; check its unit and pixel sizes")
    warn_of_shear(affine, warnings)
    return affine, warnings


def geometry_of(fields: Any, shape: tuple[int, int, int], reference: str | Path) -> tuple[Affine, tuple[str, ...]]:
    """RAS affine and warnings of a header's fields, as :func:`parse_header` finds them.

    Raises:
        ScanError: the header has no usable geometry.
    """
    with np.errstate(all="ignore"):
        affine, warnings = _geometry(fields, shape, reference)
    return affine, tuple(warnings)


def _unit_scale(code: int, warnings: list[str]) -> float:
    if code in _UNIT_NAMES:
        warnings.append(f"the header's unit is {_UNIT_NAMES[code]}: converted to millimetres")
    elif code not in _UNITS_MM:
        warnings.append(f"the header's unit code {code} is not defined: taken as millimetres")
    return _UNITS_MM.get(code, 1.0)


def _sform(fields: Any) -> Affine:
    affine = np.eye(4)
    affine[:3] = [np.asarray(fields[row], dtype=np.float64) for row in ("srow_x", "srow_y", "srow_z")]
    return affine


def _qform(fields: Any, pixdim: np.ndarray) -> Affine:
    """Rotation from the quaternion (b, c, d), the third axis mirrored where pixdim[0] is negative; NaN where it is no
    rotation."""
    b, c, d = (float(fields[name]) for name in ("quatern_b", "quatern_c", "quatern_d"))
    rest = 1.0 - (b * b + c * c + d * d)
    affine = np.eye(4)
    affine[:3, 3] = [float(fields[f"qoffset_{axis}"]) for axis in "xyz"]
    if not rest >= -1e-5:
        affine[:3, :3] = np.nan
        return affine
    a = math.sqrt(max(rest, 0.0))
    norm = math.sqrt(a * a + b * b + c * c + d * d)
    a, b, c, d = a / norm, b / norm, c / norm, d / norm
    rotation = [
        [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
        [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
        [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
    ]
    affine[:3, :3] = np.asarray(rotation) * [pixdim[1], pixdim[2], -pixdim[3] if pixdim[0] < 0 else pixdim[3]]
    return affine


def _fault_of(affine: Affine | None, name: str, scale: float) -> str | None:
    """Why a form is no geometry, in words; None where it is one, or is not given."""
    if affine is None:
        return None
    if not affine[:3].any():
        return f"the {name} is all zero"
    if not is_geometry(affine):
        return f"the {name} is not a usable geometry {affine[:3].tolist()}"
    fault = spacing_fault(affine @ np.diag([scale, scale, scale, 1.0]))
    return f"{fault} in its {name}" if fault else None


def is_geometry(affine: Affine) -> bool:
    """Whether an affine is finite and its three axes span the space."""
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    # The determinant of the unit columns: 1 for a rotation, 0 where axes fall together.
    return bool(np.isfinite(affine).all() and min(lengths) > 0 and abs(np.linalg.det(affine[:3, :3] / lengths)) >= 0.1)


def spacing_fault(affine: Affine) -> str | None:
    """What is wrong with the millimetres between voxels, in words; None where they are a scanner's."""
    low, high = PLAUSIBLE_SPACING_MM
    spacing = spacing_of(affine)
    if all(low <= step <= high for step in spacing):
        return None
    return f"expected a spacing of {low:g} to {high:g} mm, the header gives {list(spacing)} mm"


def _compare(
    sform: Affine, qform: Affine | None, sizes: np.ndarray | None, shape: tuple[int, int, int], warnings: list[str]
) -> None:
    """Warn where the sform, which is used, says other than the qform or the pixel sizes."""
    spacing = np.asarray(spacing_of(sform))
    if qform is not None:
        corners = np.array([[i, j, k, 1] for i in (0, shape[0]) for j in (0, shape[1]) for k in (0, shape[2])]).T
        distance = float(np.abs((sform - qform) @ corners)[:3].max())
        if distance > _SAME_PLACE * spacing.min():
            warnings.append(
                f"sform ({_describe(sform)}) and qform ({_describe(qform)}) disagree by up to {distance:.3g} mm: "
                "the sform is used"
            )
            return
    if sizes is not None and (np.abs(spacing / sizes - 1) > _SAME_SPACING).any():
        warnings.append(f"the sform ({_describe(sform)}) contradicts the pixel sizes {sizes.tolist()}: it is used")


def _describe(affine: Affine) -> str:
    return f"{orientation_of(affine)}, {' x '.join(f'{step:.4g}' for step in spacing_of(affine))}"


def warn_of_shear(affine: Affine, warnings: list[str]) -> None:
    """Add a warning where the three axes are not perpendicular."""
    columns = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    cosines = np.abs(columns.T @ columns)[np.triu_indices(3, k=1)]
    shear = math.degrees(math.asin(min(1.0, float(cosines.max()))))
    if shear > _SHEAR_DEGREES:
        warnings.append(f"the voxel grid is sheared by {shear:.3g} degrees (gantry tilt?): slices are used as stored")
