"""The picture of the four heatmap methods, as the paper's Figure 10: one row per case, the scan and the methods.

    anymc3d explain -p demo/run/plugin.safetensors -i demo/data/manifest.csv --split test -o heat --method all
    python benchmarks/heatmaps.py demo/data/manifest.csv heat case205 case207 case209 -o heatmaps.png

Cases are those named; none is chosen by how its map looks. The outline is the mask, which no training step has seen.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import nibabel as nib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from anymc3d.data.readers import read_volume
from anymc3d.data.volume import to_ras
from anymc3d.explain.methods import METHODS
from anymc3d.explain.picture import overlay, plane_of
from anymc3d.files import atomic
from anymc3d.files.tables import read_table

PLANES = {"axial": 2, "coronal": 1}


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
    lines = [(case, plane) for case in args.cases for plane in PLANES]
    figure = Figure(figsize=(2.0 * (1 + len(METHODS)), 2.1 * len(lines) + 0.5), layout="constrained", facecolor="black")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(lines), 1 + len(METHODS), squeeze=False)
    for line, (case, plane) in zip(axes, lines, strict=True):
        draw_line(line, args, rows[case], PLANES[plane])
    for axis, title in zip(axes[0], ["scan and true mask", *METHODS], strict=True):
        axis.set_title(title, color="white", fontsize=10)
    with atomic.replacing(args.out) as temporary:
        figure.savefig(temporary, format="png", dpi=90, facecolor="black")


def draw_line(line: np.ndarray, args: argparse.Namespace, row: dict[str, str], across: int) -> None:
    """One case in one plane, through the centre of its mask: the scan, then every method."""
    folder = args.manifest.parent
    scan = to_ras(read_volume(str(folder / row["image"])))
    mask = to_ras(read_volume(str(folder / row["mask"]))).voxels > 0
    index = int(np.argwhere(mask)[:, across].mean().round())
    grey = np.percentile(scan.voxels, (0.5, 99.9))
    for axis, method in zip(line, [None, *METHODS], strict=True):
        axis.imshow(plane_of(scan.voxels, across, index), origin="lower", cmap="gray", vmin=grey[0], vmax=grey[1])
        axis.set_axis_off()
        if method is None:
            outline = plane_of(mask.astype(np.float32), across, index)
            axis.contour(outline, levels=[0.5], colors="tab:orange", linewidths=1.0)
            axis.text(1, 1, row["case"], color="white", fontsize=8, va="bottom")
        else:
            heat = nib.load(args.heat / row["case"] / f"{args.label}.{args.view}.{method}.nii.gz")
            overlay(axis, plane_of(nib.as_closest_canonical(heat).get_fdata(dtype=np.float32), across, index))


if __name__ == "__main__":
    main()
