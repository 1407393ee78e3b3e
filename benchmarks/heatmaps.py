"""The picture of the four heatmap methods, as the paper's Figure 10: one row per case, the scan and the methods.

    anymc3d explain -p demo/run/plugin.safetensors -i demo/data/manifest.csv --split test -o heat --method all
    python benchmarks/heatmaps.py demo/data/manifest.csv heat case205 case207 case209 -o heatmaps.png

Cases are those named; none is chosen by how its map looks. The outline is the mask, which no training step has seen.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from anymc3d.data.readers import read_volume
from anymc3d.data.volume import to_ras
from anymc3d.explain.methods import METHODS
from anymc3d.files.tables import read_table
from anymc3d.pictures.colours import HEAT_NOTE
from anymc3d.pictures.planes import CONVENTION, PLANES, Plane
from anymc3d.pictures.scan import write_png
from anymc3d.pictures.sheet import sheet
from anymc3d.pictures.tiles import Tile, draw_plane, scale_for

SHOWN = ("axial", "coronal")
LONGEST_PIXELS = 170


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("heat", type=Path, help="the output of anymc3d explain --method all")
    parser.add_argument("cases", nargs="+")
    parser.add_argument("--label", default="ring")
    parser.add_argument("--view", default="fused")
    parser.add_argument("-o", "--out", type=Path, required=True)
    args = parser.parse_args()
    rows = {row["case"]: row for row in read_table(args.manifest)}
    scale = _scale(args, rows[args.cases[0]])
    lines = [
        draw_line(args, rows[case], PLANES[plane], scale, is_first=i == 0 and plane == SHOWN[0])
        for i, case in enumerate(args.cases)
        for plane in SHOWN
    ]
    names = [case if plane == SHOWN[0] else "" for case in args.cases for plane in SHOWN]
    caption = f"{HEAT_NOTE} The true mask is outlined in the first column. {CONVENTION}"
    write_png(args.out, sheet(lines, mm_per_pixel=scale, row_names=names, caption=caption, heat_bar=True))


def _scale(args: argparse.Namespace, row: dict[str, str]) -> float:
    scan = to_ras(read_volume(str(args.manifest.parent / row["image"])))
    return scale_for([PLANES[plane].size_mm(scan.extent_mm) for plane in SHOWN], LONGEST_PIXELS)


def draw_line(
    args: argparse.Namespace, row: dict[str, str], plane: Plane, scale: float, *, is_first: bool
) -> list[Tile]:
    """One case in one plane, through the centre of its mask: the scan, then every method."""
    folder = args.manifest.parent
    scan = to_ras(read_volume(str(folder / row["image"])))
    mask = to_ras(read_volume(str(folder / row["mask"]))).voxels > 0
    index = int(np.argwhere(mask)[:, plane.across].mean().round())
    low, high = (float(v) for v in np.percentile(scan.voxels, (0.5, 99.9)))
    tiles = []
    paths = {name: args.heat / row["case"] / f"{args.label}.{args.view}.{name}.nii.gz" for name in METHODS}
    for method in (None, *(name for name, path in paths.items() if path.exists())):
        heat = None if method is None else to_ras(read_volume(str(paths[method]))).voxels
        outline = mask if method is None else None
        drawn = draw_plane(scan, plane, index, grey=(low, high), mm_per_pixel=scale, heat=heat, outline=outline)
        tiles.append(Tile(drawn, plane, (method or "scan and true mask") if is_first else ""))
    return tiles


if __name__ == "__main__":
    main()
