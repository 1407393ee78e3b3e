"""A picture of the demo's cases: what the classifier has to tell apart."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from anymc3d.demo.dataset import LABEL
from anymc3d.files import atomic
from anymc3d.files.tables import read_table
from anymc3d.settings.config import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PLANES = {"axial": 2, "coronal": 1, "sagittal": 0}
KINDS = {"1": "ring", "0": "solid"}
CAPTION = "Outline: the true mask. The patient's right is on the right."


def preview(manifest_path: Path, png_path: Path, *, cases_per_kind: int = 3, split: str = "test") -> Path:
    """Draw the first cases of each kind through their lesions' centres, three planes a case, the true mask outlined.

    Returns:
        ``png_path``, written atomically.

    Raises:
        UsageError: ``split`` holds no case of one of the kinds.
        OSError: a file cannot be read or written.
    """
    rows = [row for row in read_table(manifest_path) if row["split"] == split]
    chosen = {kind: [row for row in rows if row[LABEL] == kind][:cases_per_kind] for kind in KINDS}
    for kind, of_kind in chosen.items():
        require(len(of_kind) > 0, f"preview: expected cases with {LABEL} = {kind} in split {split!r}, found none")
    figure = _draw(manifest_path.parent, chosen)
    with atomic.replacing(png_path) as temporary:
        figure.savefig(temporary, format="png", dpi=80, facecolor="black")
    return png_path


def _draw(folder: Path, chosen: dict[str, list[dict[str, str]]]) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = max(len(of_kind) for of_kind in chosen.values())
    figure = Figure(figsize=(2.1 * 2 * len(PLANES), 2.3 * rows + 0.3), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, 2 * len(PLANES), squeeze=False)
    for axis in axes.ravel():
        axis.set_axis_off()
    for block, (kind, of_kind) in enumerate(chosen.items()):
        for line, row in zip(axes, of_kind, strict=False):
            scan, mask, spacing = _read(folder, row)
            centre = np.argwhere(mask).mean(0).round().astype(int)
            for column, (plane, across) in enumerate(PLANES.items(), start=block * len(PLANES)):
                _draw_plane(line[column], scan, mask, spacing, across=across, index=int(centre[across]))
                line[column].set_title(f"{KINDS[kind]} · {plane}", color="white", fontsize=9)
    figure.supxlabel(CAPTION, color="white", fontsize=9)
    return figure


def _draw_plane(
    axis: Axes,
    scan: npt.NDArray[np.float32],
    mask: npt.NDArray[np.bool_],
    spacing: tuple[float, ...],
    *,
    across: int,
    index: int,
) -> None:
    first, second = (i for i in range(3) if i != across)
    picture, outline = np.take(scan, index, across).T, np.take(mask, index, across).T
    aspect = spacing[second] / spacing[first]
    axis.imshow(picture, origin="lower", cmap="gray", vmin=0, vmax=np.percentile(scan, 99.95), aspect=aspect)
    axis.contour(outline, levels=[0.5], colors="tab:orange", linewidths=0.8)


def _read(
    folder: Path, row: dict[str, str]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_], tuple[float, ...]]:
    """Scan and mask (X, Y, Z) in RAS, and their spacing in millimetres."""
    import nibabel

    image, mask = (nibabel.as_closest_canonical(nibabel.load(folder / row[key])) for key in ("image", "mask"))
    scan = np.asarray(image.dataobj, dtype=np.float32)
    return scan, np.asarray(mask.dataobj) > 0, image.header.get_zooms()[:3]
