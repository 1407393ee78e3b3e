"""How a scan becomes the slices of a view: its region, plane, size and intensities."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Literal

from anymc3d.settings.limits import (
    MAX_STRUCTURES,
    Between,
    Column,
    Entry,
    Length,
    MaskLabel,
    Millimetre,
    Reference,
    Share,
    require,
)

MAX_VIEWS = 16
MAX_PIXELS = 2**29
"""Of one view of a scan, channels included: a gigabyte in half precision. The paper's largest, T11, has 2**27.3."""
VIEW_NAME = "[A-Za-z0-9][A-Za-z0-9_-]{0,39}"
VoxelSide = Annotated[float, Between(0.01, 1000)]
"""Millimetres."""
Voxels = Annotated[int, Between(1, 2048)]
"""Along one axis of a network's grid."""
Pixels = Annotated[int, Between(1, 1024)]
Slices = Annotated[int, Between(1, 4096)]
Percent = Annotated[float, Between(0, 100)]
_RESERVED_VIEWS = frozenset({"fused"})
"""Names that stand for something else beside the views: the heatmap over all of them."""


def check_view_names(names: Iterable[str]) -> None:
    """Check the names of views, which stand in names of tensors, files and folders.

    Raises:
        UsageError: too many, or a name that is not letters, digits, - and _.
    """
    names = list(names)
    require(len(names) > 0, "views: expected at least one view, got none")
    require(len(names) <= MAX_VIEWS, f"views: expected at most {MAX_VIEWS}, got {len(names)}")
    bad = [name for name in names if not re.fullmatch(VIEW_NAME, name)]
    require(not bad, f"views: names are letters (a-z), digits, - and _ only, at most 40, got {bad[:3]}")
    reserved = _RESERVED_VIEWS.intersection(names)
    require(not reserved, f"views: {', '.join(reserved)} is the name of something else; choose another")


@dataclass(frozen=True, kw_only=True)
class NetworkSettings:
    """How a scan becomes the input of a segmentation network, one channel (1, 1, X, Y, Z) float32, and what comes out.

    The network gives scores (1, K, X, Y, Z), of which the largest decides, or whole-number labels.
    """

    normalise: Literal["unit", "percentile", "window", "zscore", "none"]
    """``unit``: lowest voxel to 0, highest to 1; ``percentile``: the same, of the voxels between the 0.1st and the
    99.9th percentile; ``window``: low and high of ``window`` to 0 and 1."""
    window: tuple[float, float] | None = None
    orientation: str = "RAS"
    """Where the network's three axes point, such as ``RAS`` or ``LIA``."""
    spacing_mm: tuple[VoxelSide, VoxelSide, VoxelSide] | None = None
    """Along the network's axes; null = the scan's own."""
    grid: tuple[Voxels, Voxels, Voxels] | None = None
    """Voxels along the network's axes, about the scan's centre; null = as many as the scan has."""
    multiple_of: Voxels = 1
    """Each axis is padded up to a multiple of this, as networks that halve their input need."""
    threshold: float | None = None
    """For a network with one score (K = 1): from which score on a voxel is label 1."""

    def __post_init__(self) -> None:
        require((self.normalise == "window") == (self.window is not None), "window: goes with normalise: window alone")
        low, high = self.window or (0, 1)
        require(low < high, f"window: low must be below high, got {self.window}")
        axes = [{"L": "R", "P": "A", "I": "S"}.get(letter, letter) for letter in self.orientation]
        require(
            sorted(axes) == ["A", "R", "S"],
            f"orientation: expected one letter each of R or L, A or P, S or I, got {self.orientation!r}",
        )
        require(self.spacing_mm is None or min(self.spacing_mm) > 0, f"spacing_mm: expected mm, got {self.spacing_mm}")
        require(self.grid is None or min(self.grid) > 0, f"grid: expected numbers of voxels, got {self.grid}")
        require(self.multiple_of >= 1, f"multiple_of: expected 1 or more, got {self.multiple_of}")


@dataclass(frozen=True, kw_only=True)
class RoiSettings:
    """The region of a scan that a view shows, along the patient's axes (x left-right, y front-back, z up-down)."""

    source: Literal["mask", "point", "totalsegmentator", "onnx", "meshnet"]
    """An entry of ``anymc3d.data.regions.ROI_SOURCES``: where the region comes from."""
    classes: Annotated[tuple[MaskLabel, ...], Length(MAX_STRUCTURES)] = ()
    """Labels of the segmentation that make the region; none = every label above 0."""
    organs: Annotated[tuple[Entry, ...], Length(MAX_STRUCTURES)] = ()
    """With TotalSegmentator: names of its classes, in place of labels."""
    margin_mm: tuple[Millimetre, Millimetre, Millimetre] = (10.0, 10.0, 10.0)
    """Kept around the box of a segmentation on either side, along x, y, z; never beyond the scan."""
    size_mm: tuple[Millimetre, Millimetre, Millimetre] | None = None
    """Size of the box about a point, along x, y, z."""
    component: Literal["all", "largest"] = "all"
    """``largest``: of the segmentation's connected parts only the largest counts."""
    on_empty: Literal["fail", "whole", "exclude"] = "fail"
    """Without one voxel of the region: the case fails, the whole scan is taken, or the case is left out."""
    on_cut: Literal["keep", "fail", "exclude"] = "keep"
    """When the region is cut by the border of the scan."""
    cut_share: Share = 0.2
    """It counts as cut where its area on an outermost slice is at least so large a part of its largest area."""
    model: Reference | None = None
    """The network's file, or ``sha256:`` and the hash of one in the local store."""
    network: NetworkSettings | None = None
    """The network's input and output; needed for ONNX."""
    program: Reference | None = None
    """The TotalSegmentator program, a path or a name on the search path; null = its output is in the mask column."""
    fast: bool = False
    """TotalSegmentator's faster, coarser model."""
    timeout_s: Annotated[int, Between(1, 7 * 24 * 3600)] = 3600
    """For one scan of the program."""

    def __post_init__(self) -> None:
        source, network = self.source, self.source in ("onnx", "meshnet")
        require(min(self.classes, default=1) > 0, f"classes: expected labels above 0, got {self.classes}")
        require(min(self.margin_mm) >= 0, f"margin_mm: expected 0 mm or more, got {self.margin_mm}")
        require(0 < self.cut_share <= 1, f"cut_share: expected above 0 to 1, got {self.cut_share}")
        require(self.timeout_s > 0, f"timeout_s: expected seconds above 0, got {self.timeout_s}")
        require(
            (source == "point") == (self.size_mm is not None) and min(self.size_mm or (1,)) > 0,
            f"size_mm: the millimetres of the box about a point, for source: point alone, got {self.size_mm}",
        )
        require(
            not self.organs if source != "totalsegmentator" else bool(self.organs) and not self.classes,
            "organs: source: totalsegmentator names its organs here (and no classes), other sources take classes",
        )
        require(network == (self.model is not None), "model: the network's file, for source: onnx or meshnet alone")
        require(source != "onnx" or self.network is not None, "network: missing; an ONNX file does not say its input")
        require(network or self.network is None, f"network: for source: onnx or meshnet alone, not {source}")
        plain = source != "totalsegmentator" and (self.program is not None or self.fast)
        require(not plain, f"program, fast: for source: totalsegmentator alone, not {source}")


@dataclass(frozen=True, kw_only=True)
class ViewSettings:
    """How one view is cut out of a scan. Sizes are (in-plane x, in-plane y, slices), as in the paper's Table 3."""

    size: tuple[Pixels, Pixels, Slices | None]
    """Pixels in-plane and number of slices; a null third entry keeps each scan's own number of slices."""
    image: Column = "image"
    """The manifest column that holds this view's scan; several views may be planes of one image."""
    plane: Literal["auto", "axial", "coronal", "sagittal"] = "auto"
    """The slice plane; auto = the acquisition plane (largest spacing, ties axial)."""
    field_of_view: tuple[Millimetre, Millimetre, Millimetre] | None = None
    """Millimetres, in the order of ``size``: crop or pad about the centre before resizing; null = the whole scan."""
    normalise: Literal["window", "suv", "zscore", "percentile"] = "percentile"
    """``suv``: windows in SUV of PET; a scan whose header says other units is refused."""
    statistics: Literal["backbone", "none"] | None = None
    """Whether the mean and standard deviation of the backbone's images are applied on top. Null: ``none`` to z-scores,
    which have mean 0 and deviation 1 by themselves, ``backbone`` to everything else."""
    windows: Annotated[tuple[tuple[float, float], ...], Length(3)] = ()
    """(low, high) pairs mapped to [0, 1]; one pair, or three that become the channels."""
    percentiles: tuple[Percent, Percent] = (0.5, 99.5)
    input: Literal["replicate", "neighbours"] = "replicate"
    """How one channel becomes the backbone's three: the slice three times, or (2.5D) the slice before, itself and the
    one after, where the first and last slice stand in for the neighbour they lack."""
    roi: RoiSettings | None = None
    """The region that is cut out first; ``field_of_view`` is then about its centre. Null = the whole scan."""

    def __post_init__(self) -> None:
        in_plane, slices = self.size[:2], self.size[2]
        require(
            min(in_plane) >= 1 and (slices is None or slices >= 1), f"size: expected positive numbers, got {self.size}"
        )
        require(
            in_plane[0] * in_plane[1] * (slices or 1) * self.num_channels <= MAX_PIXELS,
            f"size: expected at most {MAX_PIXELS} pixels in all channels, got {self.size}",
        )
        if self.normalise in ("window", "suv"):
            require(len(self.windows) in (1, 3), f"windows: expected one window or three, got {len(self.windows)}")
            require(
                all(low < high for low, high in self.windows), f"windows: low must be below high, got {self.windows}"
            )
        else:
            require(not self.windows, f"windows: only used with normalise: window or suv, not {self.normalise}")
        low, high = self.percentiles
        require(0 <= low < high <= 100, f"percentiles: expected 0 <= low < high <= 100, got {self.percentiles}")
        require(
            self.input == "replicate" or len(self.windows) <= 1,
            "input: neighbours needs one channel, and three windows are three; use one window or input: replicate",
        )
        if self.field_of_view is not None:
            require(min(self.field_of_view) > 0, f"field_of_view: expected positive mm, got {self.field_of_view}")

    @property
    def is_standardised(self) -> bool:
        """Whether the slices go to the backbone as they are, without its mean and standard deviation."""
        return (self.statistics or ("none" if self.normalise == "zscore" else "backbone")) == "none"

    @property
    def num_channels(self) -> int:
        """C of the prepared slices: 1, or 3 with three windows."""
        return max(1, len(self.windows))
