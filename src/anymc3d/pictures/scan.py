"""A scan in its three planes on one sheet: through its middle, or through the highest voxel of a heatmap."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from nibabel.orientations import apply_orientation, io_orientation
from numpy.typing import NDArray

from anymc3d.data.volume import Affine, Volume, Voxels, to_ras
from anymc3d.files import atomic
from anymc3d.pictures.colours import HEAT_NOTE, Colour
from anymc3d.pictures.places import places_of
from anymc3d.pictures.planes import CONVENTION, PLANES
from anymc3d.pictures.sheet import sheet
from anymc3d.pictures.tiles import Tile, draw_plane, scale_for

LONGEST_PIXELS = 300


def heat_sheet(
    scan: Volume,
    heat: tuple[Voxels, Affine],
    *,
    grey: tuple[float, float],
    title: str = "",
    caption: str = "",
    longest: int = LONGEST_PIXELS,
) -> Colour:
    """Three planes through the highest voxel of a heatmap: above the scan alone, below under the map, its peak crossed.

    Args:
        scan: of any orientation.
        heat: values (I, J, K) in [0, 1] in the storage order of its own grid over the scan's extent, and their affine.
        grey: what is black and what is white.
        longest: pixels of the longest side of all three planes.
    """
    values = apply_orientation(heat[0], io_orientation(heat[1]))
    ras = to_ras(scan)
    peak = np.unravel_index(int(values.argmax()), values.shape)
    rows = [
        _planes(scan, _of_scan(peak, values.shape, ras.shape), grey, longest, overlay) for overlay in (None, values)
    ]
    text = f"{HEAT_NOTE} {CONVENTION} {caption}".strip()
    return sheet(rows, mm_per_pixel=_scale(ras, longest), title=title, caption=text, heat_bar=True)


def scan_sheet(
    scan: Volume,
    *,
    grey: tuple[float, float],
    outline: NDArray[np.bool_] | None = None,
    title: str = "",
    caption: str = "",
    longest: int = LONGEST_PIXELS,
) -> Colour:
    """Three planes through the middle of a scan, or through the centre of a mask (in storage order) drawn as a line."""
    ras = to_ras(scan)
    mask = None if outline is None else apply_orientation(outline, io_orientation(scan.affine)).astype(bool)
    centre = tuple(size // 2 for size in ras.shape)
    if mask is not None and mask.any():
        centre = tuple(int(v) for v in np.argwhere(mask).mean(axis=0).round())
    row = _planes(scan, centre, grey, longest, None, mask)
    return sheet([row], mm_per_pixel=_scale(ras, longest), title=title, caption=f"{CONVENTION} {caption}".strip())


def write_png(path: Path, pixels: Colour) -> None:
    """Write a picture (rows, columns, 3), atomically."""
    from PIL import Image

    with atomic.replacing(path) as temporary:
        Image.fromarray(np.ascontiguousarray(pixels)).save(temporary, format="PNG")


def _planes(
    scan: Volume,
    through: tuple[int, ...],
    grey: tuple[float, float],
    longest: int,
    heat: Voxels | None,
    outline: NDArray[np.bool_] | None = None,
) -> list[Tile]:
    ras, places = to_ras(scan), places_of(scan)
    scale = _scale(ras, longest)
    tiles = []
    for plane in PLANES.values():
        index = through[plane.across]
        pixels = draw_plane(ras, plane, index, grey=grey, mm_per_pixel=scale, heat=heat, outline=outline)
        name = f"{plane.name}, slice {places[plane.across].text(index)}" if heat is None else ""
        marks = () if heat is None else (plane.place(through, ras.shape),)
        tiles.append(Tile(pixels, plane, name, marks))
    return tiles


def _scale(ras: Volume, longest: int) -> float:
    return scale_for([plane.size_mm(ras.extent_mm) for plane in PLANES.values()], longest)


def _of_scan(index: tuple[np.intp, ...], own: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    """The voxel of the scan that holds the centre of a voxel of another grid over the same extent."""
    return tuple(min(int((i + 0.5) * now / before), now - 1) for i, now, before in zip(index, shape, own, strict=True))
