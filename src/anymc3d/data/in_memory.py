"""Scans that are in memory already: arrays, tensors, images of nibabel and SimpleITK -> Volume, by the rules of files.

An array has no geometry: it comes with its spacing, or with an affine. What an image says of its own geometry is
checked as it would be in a file: the same scan gives the same volume, from memory and from disk.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from typing import Any

import nibabel
import numpy as np
from numpy.typing import ArrayLike, NDArray

from anymc3d.data.formats.itk_formats import affine_of
from anymc3d.data.formats.nifti_header import geometry_of, is_geometry, spacing_fault, warn_of_shear
from anymc3d.data.formats.raw_voxels import is_colour_picture, range_warnings, to_float32
from anymc3d.data.volume import Affine, Millimetres, Volume
from anymc3d.errors import ScanError, UsageError

KINDS = "a path, a NumPy array, a torch tensor, an image of nibabel or SimpleITK, or a Volume"
_HERE = "scan in memory"
_GEOMETRY = "spacing=(x, y, z) in millimetres along its axes, or affine=, a (4, 4) matrix to RAS millimetres"


def is_path(scan: object) -> bool:
    """Whether a scan is given by where it lies."""
    return isinstance(scan, str | os.PathLike)


def volume_of(scan: Any, *, spacing: Millimetres | None = None, affine: ArrayLike | None = None) -> Volume:
    """The volume of a scan in memory.

    Args:
        scan: any of :data:`KINDS` but a path; three axes, or more of which the rest have one voxel.
        spacing: of an array or tensor, mm along its axes, which are then right, anterior and superior.
        affine: of an array or tensor, (4, 4) from voxel index to RAS mm; in place of ``spacing``.

    Raises:
        UsageError: it is none of these kinds, an array without a geometry, or an image with a second one.
        ScanError: its voxels or its geometry cannot be used: not one 3D scan, not finite, all equal.
    """
    if isinstance(scan, list | tuple):
        what = f"expected one scan, got a {type(scan).__name__} of {len(scan)}"
        raise UsageError(f"{what}; predict them one by one: [predictor.predict(scan) for scan in scans]")
    volume = _of_image(scan)
    if volume is None and not hasattr(scan, "__array__"):
        raise UsageError(f"expected {KINDS}, got {type(scan).__name__}")
    if volume is None:
        return _of_array(scan, spacing, affine)
    if spacing is not None or affine is not None:
        raise UsageError(f"the {type(scan).__name__} has its own geometry; leave out spacing and affine")
    return volume


def content_hash_of(volume: Volume) -> str:
    """Sha256 (hex) of the voxels and where they are."""
    digest = hashlib.sha256(f"memory {volume.shape}\n".encode() + volume.affine.tobytes())
    for k in range(volume.shape[2]):
        digest.update(np.asfortranarray(volume.voxels[:, :, k]).tobytes(order="F"))
    return digest.hexdigest()


def _of_image(scan: Any) -> Volume | None:
    """The volume of what has its own geometry; None of what has none."""
    if isinstance(scan, Volume):
        return replace(scan, warnings=(*scan.warnings, *range_warnings(scan.voxels, _HERE)))
    if isinstance(scan, nibabel.spatialimages.SpatialImage):
        return _of_nibabel(scan)
    if type(scan).__module__.partition(".")[0] == "SimpleITK" and hasattr(scan, "GetDirection"):
        return _of_simpleitk(scan)
    return None


def _of_array(scan: Any, spacing: Millimetres | None, affine: ArrayLike | None) -> Volume:
    is_tensor = _is_tensor(scan)
    kind = "a tensor" if is_tensor else "an array"
    if affine is None and spacing is None and is_tensor:
        affine = getattr(scan, "affine", None)  # what MONAI and TorchIO hang onto their tensors
    if (spacing is None) == (affine is None):
        which = "no geometry of its own" if spacing is None else "one geometry"
        raise UsageError(f"{kind} has {which}: give {_GEOMETRY}" + ", and not both" * (spacing is not None))
    raw = _plain(scan)
    if affine is None and is_colour_picture(raw.shape, raw.dtype):
        what = f"expected a scan (x, y, z), got shape {raw.shape}: a colour picture"
        raise ScanError.of(_HERE, f"{what}; a real stack of so few slices needs affine=, which says what its axes are")
    matrix = _diagonal(spacing) if spacing is not None else _matrix(affine)
    warnings: list[str] = []
    warn_of_shear(matrix, warnings)
    return _made(raw, matrix, tuple(warnings))


def _is_tensor(scan: Any) -> bool:
    """Whether it is a tensor of torch, found without importing torch."""
    return hasattr(scan, "detach") and hasattr(scan, "cpu")


def _plain(scan: Any) -> NDArray[Any]:
    """As NumPy has it; a half-precision kind of torch that it does not know becomes float32."""
    if not _is_tensor(scan):
        return np.asarray(scan)
    tensor = scan.detach().cpu()
    try:
        return np.asarray(tensor)
    except TypeError:
        return np.asarray(tensor.float())


def _diagonal(spacing: Any) -> Affine:
    try:
        x, y, z = (float(step) for step in spacing)
    except (TypeError, ValueError):
        raise UsageError(f"spacing: expected three numbers in millimetres, got {spacing!r}") from None
    return _checked(np.diag([x, y, z, 1.0]), "spacing")


def _matrix(affine: Any) -> Affine:
    try:
        matrix = _plain(affine).astype(np.float64)
    except (TypeError, ValueError):
        matrix = np.empty(0)
    if matrix.shape != (4, 4) or not np.array_equal(matrix[3], [0, 0, 0, 1]):
        raise UsageError(f"affine: expected a (4, 4) matrix whose last row is 0 0 0 1, got {affine!r}")
    return _checked(matrix, "affine")


def _checked(matrix: Affine, name: str) -> Affine:
    fault = spacing_fault(matrix) if is_geometry(matrix) else "its axes are not a usable geometry"
    if fault:
        raise UsageError(f"{name}: {fault}")
    return matrix


def _of_nibabel(image: Any) -> Volume:
    if isinstance(image, nibabel.analyze.AnalyzeImage) and not isinstance(image, nibabel.Nifti1Pair):
        what = "an Analyze 7.5 image does not say where left and right are"
        raise ScanError.of(_HERE, f"{what}; find out how it was stored, and make a Nifti1Image of it")
    proxy = image.dataobj
    stored = hasattr(proxy, "get_unscaled")
    raw = proxy.get_unscaled() if stored else np.asanyarray(proxy)
    affine, warnings = _geometry_of_nibabel(image, raw.shape)
    if not stored:
        return _made(raw, affine, warnings)
    return _made(raw, affine, warnings, slope=float(proxy.slope), intercept=float(proxy.inter))


def _geometry_of_nibabel(image: Any, shape: tuple[int, ...]) -> tuple[Affine, tuple[str, ...]]:
    """The affine; of a NIfTI whose header says the same, by the rules of :mod:`anymc3d.data.formats.nifti_header`."""
    image_affine = image.affine
    if isinstance(image, nibabel.Nifti1Pair) and len(shape) >= 3:
        header = image.header
        if image_affine is None or np.allclose(header.get_best_affine(), image_affine):
            return geometry_of(header, (shape[0], shape[1], shape[2]), _HERE)
    if image_affine is None:
        raise ScanError.of(_HERE, "the image has no affine; give it one")
    affine, warnings = np.array(image_affine, dtype=np.float64), []
    _checked(affine, "affine")
    warn_of_shear(affine, warnings)
    return affine, tuple(warnings)


def _of_simpleitk(image: Any) -> Volume:
    import SimpleITK as sitk

    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        what = f"{image.GetDimension()} dimensions and {image.GetNumberOfComponentsPerPixel()} values per voxel"
        raise ScanError.of(_HERE, f"expected one 3D scan, got {what}; take out the volume to classify")
    affine, warnings = affine_of(image), []
    _checked(affine, "affine")
    warn_of_shear(affine, warnings)
    return _made(sitk.GetArrayViewFromImage(image).transpose(2, 1, 0), affine, tuple(warnings))


def _made(
    raw: NDArray[Any], affine: Affine, warnings: tuple[str, ...], *, slope: float = 1.0, intercept: float = 0.0
) -> Volume:
    if raw.dtype.kind not in "iufb" or raw.dtype.itemsize > 8:
        kind = raw.dtype.name if raw.dtype.names is None else "a structured type"
        raise ScanError.of(_HERE, f"expected integers or floats, got {kind}; give numbers")
    if raw.ndim < 3 or min(raw.shape) < 1 or any(size > 1 for size in raw.shape[3:]):
        advice = "give one volume"
        if raw.ndim == 4 and raw.shape[0] == 1:
            advice = "give scan[0]"
        raise ScanError.of(_HERE, f"expected three axes (x, y, z), got shape {raw.shape}; {advice}")
    voxels, notes = to_float32(raw.reshape(raw.shape[:3]), _HERE, slope=slope, intercept=intercept)
    return Volume(voxels=voxels, affine=affine, warnings=(*warnings, *notes))
