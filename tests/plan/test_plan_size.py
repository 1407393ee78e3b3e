"""Sizes: from PANORAMA's public median to the paper's size, and what holds for every data set."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anymc3d.plan.rules import Grids
from anymc3d.plan.size import EXACT_SLICES, MAX_PATCHES, MAX_SLICES, MIN_PATCHES, SLICE_STEP, choose_size, slice_count

PANORAMA_MEDIAN, PANORAMA_SPACING = (425.0, 230.5, 74.0), (0.747, 0.747, 1.5)
"""Public: voxels and millimetres of the cropped scans in the baseline's plans."""
PAPER_T5 = (432, 240, 70)


def grids(shapes, spacing=(1.0, 1.0, 1.0)):
    shapes = np.atleast_2d(np.asarray(shapes, dtype=float))
    return Grids(shapes, np.broadcast_to(np.asarray(spacing, dtype=float), shapes.shape).copy())


def size_of(shape, spacing=(1.0, 1.0, 1.0), *, patch=14, plane="axial"):
    return choose_size(grids(shape, spacing), plane, patch, None).value


@pytest.mark.parametrize("patch", [14, 16])
def test_from_the_median_of_panorama_comes_the_papers_size(patch):
    """T5 of Table 3, within one patch in-plane and one step of slices; with patch 16 exactly."""
    size = size_of(PANORAMA_MEDIAN, PANORAMA_SPACING, patch=patch)
    assert all(abs(ours - paper) <= patch for ours, paper in zip(size[:2], PAPER_T5[:2], strict=True))
    assert abs(size[2] - PAPER_T5[2]) <= SLICE_STEP
    if patch == 16:
        assert size == PAPER_T5


def test_the_median_decides_however_far_the_scans_are_apart():
    spread = np.random.default_rng(0).lognormal(0, 0.2, (101, 3))
    shapes = np.asarray(PANORAMA_MEDIAN) * spread / np.median(spread, axis=0)
    assert size_of(shapes, PANORAMA_SPACING, patch=16) == PAPER_T5


sides = st.floats(2, 900)
shapes = st.tuples(sides, sides, sides)
spacings = st.tuples(st.floats(0.3, 6), st.floats(0.3, 6), st.floats(0.3, 6))
planes = st.sampled_from(["axial", "coronal", "sagittal"])
patches = st.sampled_from([14, 16])


@settings(max_examples=150)
@given(shapes, spacings, planes, patches)
def test_sizes_are_whole_patches_within_the_limits(shape, spacing, plane, patch):
    height, width, num_slices = size_of(shape, spacing, patch=patch, plane=plane)
    assert height % patch == width % patch == 0
    assert (height // patch) * (width // patch) <= MAX_PATCHES
    assert min(height, width) >= patch
    assert 1 <= num_slices <= MAX_SLICES


@settings(max_examples=150)
@given(shapes, spacings, planes, patches, st.floats(1, 3))
def test_larger_scans_never_get_smaller_sizes(shape, spacing, plane, patch, factor):
    small = size_of(shape, spacing, patch=patch, plane=plane)
    large = size_of(tuple(side * factor for side in shape), spacing, patch=patch, plane=plane)
    assert all(one <= other for one, other in zip(small, large, strict=True))


@settings(max_examples=100)
@given(st.lists(shapes, min_size=1, max_size=9), st.randoms(), planes)
def test_the_order_of_the_rows_changes_nothing(rows, random, plane):
    shuffled = list(rows)
    random.shuffle(shuffled)
    assert size_of(rows, plane=plane) == size_of(shuffled, plane=plane)


@settings(max_examples=100)
@given(st.floats(98, 440), st.floats(98, 440))
def test_within_the_limits_the_median_loses_no_resolution(first, second):
    height, width, _ = size_of((first, second, 30.0))
    if (height // 14) * (width // 14) < MAX_PATCHES * 0.9:
        assert -1e-3 <= height - first < 14 + 1e-3
        assert -1e-3 <= width - second < 14 + 1e-3


def test_small_scans_are_enlarged_alike_along_both_axes():
    assert size_of((35, 51, 35)) == (MIN_PATCHES * 14, 140, 35)


@pytest.mark.parametrize(("number", "expected"), [(1, 1), (28, 28), (64, 64), (65, 70), (74, 70), (75, 80), (127, 128)])
def test_up_to_64_slices_are_kept_and_more_are_whole_tens(number, expected):
    assert slice_count(number) == expected


def test_slice_counts_never_fall():
    counts = [slice_count(number) for number in range(1, 400)]
    assert counts == sorted(counts)
    assert counts[:EXACT_SLICES] == list(range(1, EXACT_SLICES + 1))
    assert max(counts) == MAX_SLICES
