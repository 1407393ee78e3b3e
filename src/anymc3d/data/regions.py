"""Where a view looks: the box of an organ's segmentation with a margin, or a box about a point.

A region is found on the scan turned to RAS, in whole voxels, before the slice plane is chosen; what the region is cut
out of a scan for, orientation, plane, field of view, windows and size, follows as for a whole scan. Sources of the
need: supplement B (organ crops of T1-T5, nodule crops of T6 and T7). Margins and the rule for a cut organ are ours,
because the paper gives neither.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from anymc3d.data.mask_grid import read_on_grid
from anymc3d.data.readers import content_hash
from anymc3d.data.segmentation import Segmenter
from anymc3d.data.totalsegmentator import check_organs, organ_labels, organs_hash, read_organs
from anymc3d.data.volume import Box, Millimetres, Volume
from anymc3d.errors import ExcludedError, RegionError, UsageError, did_you_mean
from anymc3d.settings.views import RoiSettings

REGION_VERSION = 1
"""Part of every cache key of a view with a region. Raise it whenever a box can change."""

Labels = NDArray[np.int32]
_SIDES = (("left", "right"), ("posterior", "anterior"), ("inferior", "superior"))
_OUTSIDE_KEYS = ("program", "timeout_s")
"""Settings that say how a segmentation is come by, not which one it is."""


@dataclass(frozen=True)
class RegionSources:
    """What there is beside a scan to find its region with.

    ``mask``: reference of its segmentation; ``center``: point of interest (RAS, mm); ``segmenter``: what draws one.
    ``mask_hash``: of what ``mask`` holds, where already known.
    """

    mask: str | None = None
    spacing: Millimetres | None = None
    center: Millimetres | None = None
    segmenter: Segmenter | None = None
    mask_hash: str | None = None


@dataclass(frozen=True)
class Region:
    """``box``: voxels of the scan in RAS order, or None for the whole scan; ``notes``: one line each for the record."""

    box: Box | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class RoiSource:
    """One way to say where a region is.

    ``find``: scan in RAS order and its content hash in, region out. ``key``: hash of what it rests on beside the scan.
    """

    find: Callable[[Volume, str, RoiSettings, RegionSources], Region]
    key: Callable[[RoiSettings, RegionSources], str]
    needs_mask: bool = False
    needs_segmenter: bool = False


def find_region(scan: Volume, scan_hash: str, roi: RoiSettings, sources: RegionSources) -> Region:
    """The region of one scan, which is in RAS order.

    Raises:
        ScanError: there is no region, or it is cut, and the settings say ``fail``; or what it rests on cannot be used.
        ExcludedError: the same, where the settings say ``exclude``.
    """
    return ROI_SOURCES[roi.source].find(scan, scan_hash, roi, sources)


def region_key(roi: RoiSettings, sources: RegionSources) -> str:
    """Text over all that decides a region beside the scan.

    Raises:
        ScanError: what it rests on is not there.
    """
    settings = {k: v for k, v in dataclasses.asdict(roi).items() if k not in _OUTSIDE_KEYS}
    facts = {"roi": settings, "rests_on": ROI_SOURCES[roi.source].key(roi, sources), "version": REGION_VERSION}
    return json.dumps(facts, sort_keys=True)


def check_roi(roi: RoiSettings) -> None:
    """Check the names that a settings class cannot know.

    Raises:
        UsageError: no such source, or no such organ.
    """
    if roi.source not in ROI_SOURCES:
        raise UsageError(f"roi.source: no source {roi.source!r}{did_you_mean(roi.source, ROI_SOURCES)}")
    check_organs(roi.organs)


def _from_mask(scan: Volume, scan_hash: str, roi: RoiSettings, sources: RegionSources) -> Region:
    labels = read_on_grid(_mask_of(roi, sources), scan, spacing=sources.spacing)
    return region_of_labels(scan, labels, roi, roi.classes)


def _mask_key(roi: RoiSettings, sources: RegionSources) -> str:
    return sources.mask_hash or content_hash(_mask_of(roi, sources))


def _mask_of(roi: RoiSettings, sources: RegionSources) -> str:
    if sources.mask is None:
        what = f"the view's region comes from a segmentation (roi.source: {roi.source}), and this case has none"
        drawn = ", or name the program that draws it: --segmenter TotalSegmentator" if roi.organs else ""
        raise RegionError(f"{what}; fill the manifest's 'mask' column, or give --mask FILE with a single scan{drawn}")
    return sources.mask


def _from_point(scan: Volume, scan_hash: str, roi: RoiSettings, sources: RegionSources) -> Region:
    centre = np.linalg.solve(scan.affine, [*_center_of(sources), 1.0])[:3]
    outermost = np.asarray(scan.shape) - 0.5
    if (centre < -0.5).any() or (centre > outermost).any():
        corners = (
            np.array([[*corner, 1.0] for corner in product(*((-0.5, last) for last in outermost))]) @ scan.affine.T
        )
        spans = ", ".join(f"{n} {min(c):.1f} to {max(c):.1f}" for n, c in zip("xyz", corners.T, strict=False))
        point = ", ".join(f"{value:g}" for value in _center_of(sources))
        what = f"the point of interest ({point}) lies outside the scan, which covers {spans} mm (RAS)"
        raise RegionError(f"{what}; DICOM positions are LPS: negate their x and y")
    size_mm = roi.size_mm or scan.extent_mm
    count = [max(1, int(np.floor(mm / step + 0.5 + 1e-4))) for mm, step in zip(size_mm, scan.spacing, strict=True)]
    # Rounded so that a point at a voxel's border gives the same box however the scan is stored.
    first = [int(np.floor(round(c - (n - 1) / 2, 6) + 0.5)) for c, n in zip(centre, count, strict=True)]
    box = Box(tuple(first), tuple(count))
    return Region(box, tuple(_overhang(box, scan)))


def _center_of(sources: RegionSources) -> Millimetres:
    if sources.center is None:
        what = "the view's region is a box about a point (roi.source: point), and this case has none"
        raise RegionError(f"{what}; fill the manifest's center_x, center_y, center_z (RAS mm), or give --center")
    return sources.center


def _overhang(box: Box, scan: Volume) -> list[str]:
    """A note where a box reaches beyond its scan."""
    beyond = []
    for axis, (low, high) in enumerate(_SIDES):
        before, after = -box.first[axis], box.first[axis] + box.count[axis] - scan.shape[axis]
        overhangs = ((low, before * scan.spacing[axis]), (high, after * scan.spacing[axis]))
        beyond += [f"{side} {mm:.1f} mm" for side, mm in overhangs if mm > 0]
    return [f"the box reaches beyond the scan ({', '.join(beyond)}): padded"] if beyond else []


def _from_totalsegmentator(scan: Volume, scan_hash: str, roi: RoiSettings, sources: RegionSources) -> Region:
    if sources.mask is None and sources.segmenter is not None:
        return _from_segmenter(scan, scan_hash, roi, sources)
    labels = read_organs(_mask_of(roi, sources), roi.organs, scan)
    return region_of_labels(scan, labels, roi, organ_labels(roi.organs))


def _totalsegmentator_key(roi: RoiSettings, sources: RegionSources) -> str:
    if sources.mask is None and sources.segmenter is not None:
        return sources.segmenter.identity
    return sources.mask_hash or organs_hash(_mask_of(roi, sources), roi.organs)


def _from_segmenter(scan: Volume, scan_hash: str, roi: RoiSettings, sources: RegionSources) -> Region:
    labels = _segmenter_of(roi, sources).labels(scan, scan_hash)
    return region_of_labels(scan, labels, roi, organ_labels(roi.organs) if roi.organs else roi.classes)


def _segmenter_key(roi: RoiSettings, sources: RegionSources) -> str:
    return _segmenter_of(roi, sources).identity


def _segmenter_of(roi: RoiSettings, sources: RegionSources) -> Segmenter:
    if sources.segmenter is None:
        raise RegionError(f"roi.source: {roi.source}: its segmenter was not built; give the model with --segmenter")
    return sources.segmenter


ROI_SOURCES: dict[str, RoiSource] = {
    "mask": RoiSource(_from_mask, _mask_key, needs_mask=True),
    "point": RoiSource(_from_point, lambda roi, sources: json.dumps(_center_of(sources))),
    "totalsegmentator": RoiSource(_from_totalsegmentator, _totalsegmentator_key, needs_mask=True, needs_segmenter=True),
    "onnx": RoiSource(_from_segmenter, _segmenter_key, needs_segmenter=True),
    "meshnet": RoiSource(_from_segmenter, _segmenter_key, needs_segmenter=True),
}


def region_of_labels(scan: Volume, labels: Labels, roi: RoiSettings, classes: tuple[int, ...]) -> Region:
    """The box of some labels with its margin, in whole voxels and never beyond the scan, by the settings' policies.

    Args:
        scan: in RAS order.
        labels: (X, Y, Z) on the scan's voxels.
        roi: margins and policies.
        classes: the labels that make the region; none = all above 0.

    Raises:
        ScanError, ExcludedError: see :func:`find_region`.
    """
    organ = np.isin(labels, classes) if classes else labels > 0
    notes = [
        f"label {value} is not in the segmentation" for value in classes if len(classes) > 1 and value not in labels
    ]
    if roi.component == "largest":
        organ = largest_component(organ)
    if not organ.any():
        which = f"label {' or '.join(map(str, classes))}" if classes else "a label above 0"
        what = f"the region is empty: no voxel of the segmentation has {which}"
        if roi.on_empty != "whole":
            _refuse(what, roi.on_empty, "on_empty")
        return Region(None, (f"{what}; the whole scan is taken",))
    cut = [f"{side} {share:.0%}" for side, share in cut_shares(organ).items() if share >= roi.cut_share]
    if cut:
        what = f"the region is cut by the border of the scan ({', '.join(cut)} of its largest area)"
        if roi.on_cut != "keep":
            _refuse(what, roi.on_cut, "on_cut")
        notes.append(what)
    return Region(box_about(organ, roi.margin_mm, scan.spacing), tuple(notes))


def _refuse(what: str, policy: str, setting: str) -> None:
    if policy == "exclude":
        raise ExcludedError(f"excluded: {what} (roi.{setting}: exclude)")
    raise RegionError(f"{what}; check the segmentation, or set roi.{setting} to another policy")


def box_about(organ: NDArray[np.bool_], margin_mm: Millimetres, spacing: Millimetres) -> Box:
    """The smallest box about an organ (not empty) and its margin in mm, rounded to whole voxels, inside the grid."""
    first, count = [], []
    for axis in range(3):
        occupied = np.flatnonzero(organ.any(axis=tuple(other for other in range(3) if other != axis)))
        margin = int(np.floor(margin_mm[axis] / spacing[axis] + 0.5 + 1e-4))
        start, stop = max(0, occupied[0] - margin), min(organ.shape[axis], occupied[-1] + 1 + margin)
        first.append(int(start))
        count.append(int(stop - start))
    return Box(tuple(first), tuple(count))


def cut_shares(organ: NDArray[np.bool_]) -> dict[str, float]:
    """Side -> the organ's area on the outermost slice there, as a part of its largest area along that axis."""
    shares = {}
    for axis, names in enumerate(_SIDES):
        areas = organ.sum(axis=tuple(other for other in range(3) if other != axis), dtype=np.int64)
        for side, area in zip(names, (areas[0], areas[-1]), strict=True):
            shares[side] = float(area / max(1, areas.max()))
    return shares


def largest_component(organ: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The largest part whose voxels share faces; of equal ones the first in RAS order."""
    from scipy.ndimage import label

    parts, number = label(organ)
    return organ if number < 2 else parts == 1 + int(np.bincount(parts.ravel())[1:].argmax())
