"""A heatmap as a picture: three planes through its highest voxel, the scan alone and under the heat."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from nibabel.orientations import apply_orientation, io_orientation
from numpy.typing import NDArray

from anymc3d.data.volume import Volume, Voxels, to_ras
from anymc3d.explain.heat import Heat
from anymc3d.files import atomic
from anymc3d.plugins.card import PluginCard

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PLANES = {"axial": 2, "coronal": 1, "sagittal": 0}
HEAT_COLOURS = "inferno"
OPACITY = 0.6
SOFT_TISSUE_HU = (-160.0, 240.0)
CAPTION = "Heat is where the classifier looked, not where disease is. The patient's right is on the left. Research use."


def grey_window(card: PluginCard | None, column: str, scan: Volume) -> tuple[float, float, str]:
    """What is black, what is white, and how that is said: the plugin's first window of that scan, of a CT without one
    the soft tissues, otherwise percentiles."""
    views = {} if card is None else card.preprocessing
    windows = next((view.windows for view in views.values() if view.image == column and view.windows), ())
    if windows:
        low, high = windows[0]
        return float(low), float(high), f"grey from {low:g} to {high:g}, the plugin's window"
    if scan.modality == "CT":
        low, high = SOFT_TISSUE_HU
        return low, high, f"grey from {low:g} to {high:g} HU"
    low, high = (float(v) for v in np.nanpercentile(scan.voxels, (0.5, 99.5)))
    return low, high, "grey from the 0.5th to the 99.5th percentile"


def draw_heat(path: Path, heat: Heat, scan: Volume, title: str, grey: tuple[float, float]) -> None:
    """Write one PNG, atomically: above the scan alone, below under the heat; crosses mark the peak.

    ``grey``: what is black and what is white.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    ras = to_ras(scan)
    values = apply_orientation(heat.values, io_orientation(heat.affine))
    peak = np.unravel_index(int(values.argmax()), values.shape)
    extents = ras.extent_mm
    widths = [extents[first] for first, _ in _axes_of_planes()]
    figure = Figure(figsize=(9.6, 7.2), layout="constrained", facecolor="black")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 3, width_ratios=widths)
    for column, (plane, across) in enumerate(PLANES.items()):
        index = int(peak[across])
        picture, cut = plane_of(ras.voxels, across, index), plane_of(values, across, index)
        first, second = _axes_of_planes()[column]
        for row in (0, 1):
            axis = axes[row, column]
            draw_plane(axis, picture, grey, ras.spacing[second] / ras.spacing[first])
            if row:
                overlay(axis, cut)
        x = values.shape[first] - 1 - peak[first] if first == 0 else peak[first]
        axes[1, column].plot(x, peak[second], "+", color="cyan", markersize=9, markeredgewidth=1.2)
        axes[0, column].set_title(f"{plane}, slice {index + 1} of {ras.shape[across]}", color="white", fontsize=9)
    figure.suptitle(title, color="white", fontsize=11)
    figure.supxlabel(CAPTION, color="white", fontsize=8)
    with atomic.replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100, facecolor="black")


def plane_of(values: Voxels, across: int, index: int) -> NDArray[np.float32]:
    """One plane of a RAS volume as an image, rows upwards; the patient's right on the left, as radiologists look."""
    plane = np.take(values, index, axis=across).T
    return plane if across == 0 else plane[:, ::-1]


def draw_plane(axis: Axes, picture: NDArray[np.float32], grey: tuple[float, float], aspect: float) -> None:
    """Show one plane between two grey levels, without ticks."""
    axis.imshow(picture, origin="lower", cmap="gray", vmin=grey[0], vmax=max(grey[1], grey[0] + 1e-6), aspect=aspect)
    axis.set_axis_off()


def overlay(axis: Axes, heat: NDArray[np.float32]) -> None:
    """Lay the heat over the plane shown: the stronger, the less of the scan is seen."""
    aspect = axis.get_aspect()
    axis.imshow(
        heat,
        origin="lower",
        cmap=HEAT_COLOURS,
        vmin=0,
        vmax=1,
        alpha=OPACITY * np.clip(heat * 1.5, 0, 1),
        aspect=aspect,
    )


def _axes_of_planes() -> list[tuple[int, int]]:
    """Of every plane the volume axes that run to the right and upwards."""
    return [(0, 1), (0, 2), (1, 2)]
