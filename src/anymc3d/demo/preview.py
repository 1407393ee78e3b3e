"""A picture of the demo's cases: what the classifier has to keep apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from anymc3d.data.readers import read_volume
from anymc3d.data.volume import to_ras
from anymc3d.demo.dataset import LABEL
from anymc3d.files.tables import read_table
from anymc3d.pictures.planes import CONVENTION, PLANES
from anymc3d.pictures.scan import write_png
from anymc3d.pictures.sheet import sheet
from anymc3d.pictures.tiles import Tile, draw_plane, scale_for
from anymc3d.settings.limits import require

KINDS = {"1": "ring", "0": "solid"}
CAPTION = f"The true mask is outlined. {CONVENTION}"
LONGEST_PIXELS = 150


def preview(manifest_path: Path, png_path: Path, *, cases_per_kind: int = 3, split: str = "test") -> Path:
    """Draw the first cases of each kind through their lesions' centres, three planes a case, the true mask outlined.

    Returns:
        ``png_path``, written atomically.

    Raises:
        UsageError: ``split`` holds no case of one of the kinds.
        ScanError, OSError: a file cannot be read or written.
    """
    rows = [row for row in read_table(manifest_path) if row["split"] == split]
    chosen = {kind: [row for row in rows if row[LABEL] == kind][:cases_per_kind] for kind in KINDS}
    for kind, of_kind in chosen.items():
        require(len(of_kind) > 0, f"preview: expected cases with {LABEL} = {kind} in split {split!r}, found none")
    pairs = [[row for of_kind in chosen.values() for row in of_kind[i : i + 1]] for i in range(cases_per_kind)]
    drawn = [[_tiles(manifest_path.parent, row) for row in pair] for pair in pairs if pair]
    tiles = [[tile for row, _ in line for tile in row] for line in drawn]
    write_png(png_path, sheet(tiles, mm_per_pixel=drawn[0][0][1], caption=CAPTION))
    return png_path


def _tiles(folder: Path, row: dict[str, str]) -> tuple[list[Tile], float]:
    """Three planes of one case, and their millimetres per pixel: the demo's scans have one size."""
    scan, mask = (to_ras(read_volume(str(folder / row[key]))) for key in ("image", "mask"))
    outline = mask.voxels > 0
    centre = np.argwhere(outline).mean(axis=0).round().astype(int)
    grey = (0.0, float(np.percentile(scan.voxels, 99.95)))
    scale = scale_for([plane.size_mm(scan.extent_mm) for plane in PLANES.values()], LONGEST_PIXELS)
    tiles = []
    for plane in PLANES.values():
        index = int(centre[plane.across])
        pixels = draw_plane(scan, plane, index, grey=grey, mm_per_pixel=scale, outline=outline)
        tiles.append(Tile(pixels, plane, f"{KINDS[row[LABEL]]} · {plane.name}"))
    return tiles, scale
