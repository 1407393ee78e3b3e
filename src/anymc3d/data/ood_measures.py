"""Plain measures of a prepared case, which show whether a scan is like those of training. No network.

They are taken of what is at hand anyway: the facts of each scan and the slices that are about to go through the
backbone. So they cost milliseconds where a second pass of the frozen backbone would cost as much as the first, they are
the same for every kind of plugin, and they do not depend on what was learned. Own choice; measured in
``benchmarks/unlike_training.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from anymc3d.data.case_scans import PreparedCase
from anymc3d.data.intensity import IntensityProfile
from anymc3d.data.scan import ScanFacts

Measures = dict[str, NDArray[np.float64]]
"""``<measure>.<image column or view>`` -> its numbers."""

GRID = 6
"""Places along each axis of a view at which its mean brightness is looked at."""
LENGTHS: Mapping[str, int] = {"geometry": 6, "histogram": 7, "texture": 11, "layout": GRID**3}
"""Measure -> how many numbers it has."""
_MOST_SLICES = 24
"""Slices of a view whose texture is measured."""
_TINY = 1e-6
_NARROWEST = 0.01
"""Of the whole range of values: the least that may count as the range without its ends."""


def measure_case(prepared: PreparedCase) -> Measures:
    """The measures of what a case has: ``geometry`` and ``histogram`` of its scans, ``texture`` and ``layout`` of its
    views."""
    measures: Measures = {}
    for column, facts in prepared.scans.items():
        measures[f"geometry.{column}"] = geometry(facts)
        measures[f"histogram.{column}"] = histogram(facts.intensities)
    for name, view in prepared.views.items():
        if view is not None:
            standardised = _standardised(view.slices)
            measures[f"texture.{name}"] = texture(standardised)
            measures[f"layout.{name}"] = layout(standardised)
    return measures


def geometry(facts: ScanFacts) -> NDArray[np.float64]:
    """Logarithms of spacing and extent (mm), each from small to large: files store their axes in any order."""
    spacing = np.maximum(np.array(facts.spacing, dtype=np.float64), _TINY)
    return np.log(np.concatenate([np.sort(spacing), np.sort(spacing * np.array(facts.shape))]))


def histogram(profile: IntensityProfile) -> NDArray[np.float64]:
    """The form of the distribution of raw values, free of their unit: where five percentiles lie between the 0.5 % and
    the 99.5 % percentile, how far the maximum lies beyond, and how many values there are (logarithms).

    Of few values each percentile is one of them, and jumps to the next with a voxel more or less: in a mask it says no
    more than that more or less than 5 % are filled, and where less than 0.5 % are, the span is nothing. So it counts by
    what it can say (in a mask nothing, among 100 values nearly all), and no span is below a hundredth of the range."""
    span = max(profile.p995 - profile.p005, _NARROWEST * (profile.maximum - profile.minimum), _TINY)
    inner = [
        (value - profile.p005) / span for value in (profile.p05, profile.p25, profile.p50, profile.p75, profile.p95)
    ]
    beyond = np.log1p(np.clip((profile.maximum - profile.p995) / span, 0, 1e6))
    share = 1 - 1 / max(profile.distinct - 1, 1)
    return np.array([*(share * np.array([*inner, beyond])), np.log(max(profile.distinct, 1))])


def texture(slices: NDArray[np.float32]) -> NDArray[np.float64]:
    """How rough the slices (S, H, W) are along each axis (logarithms of mean first and second differences), and five
    percentiles of their values."""
    step = max(1, -(-len(slices) // _MOST_SLICES))
    inside = slices[::step]
    rough = []
    for axis in range(3):
        # Neighbouring slices are neighbours: along the slice axis no slice is left out.
        first = np.diff(slices if axis == 0 else inside, axis=axis)
        rough += [_mean_size(first), _mean_size(np.diff(first, axis=axis))]
    return np.array([*np.log(np.array(rough) + 1e-3), *np.percentile(inside, [1, 25, 50, 75, 99])])


def layout(slices: NDArray[np.float32]) -> NDArray[np.float64]:
    """Mean brightness at ``GRID`` places along each axis of the slices (S, H, W)."""
    coarse: NDArray[np.float64] = slices
    for axis, length in enumerate(slices.shape):
        coarse = np.moveaxis(np.tensordot(_shares(length), coarse, (1, axis)), 0, axis)
    return coarse.ravel().astype(np.float64)


def _standardised(slices: NDArray[np.float16]) -> NDArray[np.float32]:
    """(S, C, H, W) -> (S, H, W): the mean over channels, with mean 0 and standard deviation 1 over the whole view."""
    seen = slices.astype(np.float32).mean(axis=1)
    return (seen - seen.mean(dtype=np.float64).astype(np.float32)) / max(float(seen.std(dtype=np.float64)), _TINY)


def _mean_size(differences: NDArray[np.float32]) -> float:
    return float(np.abs(differences).mean(dtype=np.float64)) if differences.size else 0.0


@lru_cache(maxsize=64)
def _shares(length: int) -> NDArray[np.float64]:
    """(GRID, length): the share of every voxel in each of ``GRID`` equal parts of an axis; rows add up to 1."""
    edges = np.linspace(0, length, GRID + 1)
    voxels = np.arange(length)
    inside = np.minimum(edges[1:, None], voxels + 1) - np.maximum(edges[:-1, None], voxels)
    inside = np.clip(inside, 0, None)
    return inside / inside.sum(axis=1, keepdims=True)
