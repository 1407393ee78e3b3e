"""Counted percentiles are those of NumPy, to the last bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from anymc3d.data import percentiles as module
from anymc3d.data.percentiles import percentiles

PERCENTS = (0.5, 99.5)
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False, min_value=-(2.0**100), max_value=2.0**100)
FEW_VALUES = st.sampled_from([-1000.0, -0.0, 0.0, 1.0, 60.0, 0.1, -0.1, 1e-40, 3e4])
SHAPES = arrays.array_shapes(min_dims=3, max_dims=3, max_side=8)


@pytest.fixture(autouse=True)
def _counts_small_arrays(monkeypatch):
    monkeypatch.setattr(module, "_FEW", 0)
    monkeypatch.setattr(module, "_BLOCK", 100)


def same(voxels: np.ndarray, percents) -> bool:
    found, expected = percentiles(voxels, percents), np.percentile(voxels, percents)
    return found.dtype == expected.dtype and found.shape == expected.shape and (found == expected).all()


@given(
    voxels=arrays.arrays(np.float32, SHAPES, elements=FLOATS) | arrays.arrays(np.float32, SHAPES, elements=FEW_VALUES),
    percents=st.lists(st.floats(0, 100) | st.sampled_from([0.0, 0.1, 0.5, 50.0, 99.5, 100.0]), min_size=1, max_size=4),
)
@settings(max_examples=60)
def test_any_values_and_percents_give_what_numpy_gives(voxels, percents):
    assert same(voxels, percents)


@pytest.mark.parametrize("size", [1, 2, 3, 99, 100, 101, 201, 1001])
@pytest.mark.parametrize("kind", ["counts", "tissue in air", "noise", "constant", "negative"])
def test_scans_of_every_kind_give_what_numpy_gives(kind, size):
    rng = np.random.default_rng(size)
    voxels = {
        "counts": rng.integers(0, 3000, size),
        "tissue in air": np.where(rng.random(size) < 0.6, -1000, rng.integers(-100, 200, size)),
        "noise": rng.normal(0, 1, size),
        "constant": np.full(size, -3.5),
        "negative": -rng.exponential(10, size) - 1,
    }[kind].astype(np.float32)
    assert same(voxels, PERCENTS)
    assert same(voxels, (0, 25, 50, 75, 100))


def test_the_memory_order_does_not_matter():
    voxels = np.random.default_rng(0).normal(size=(6, 7, 8)).astype(np.float32)
    for stored in (voxels, np.asfortranarray(voxels), voxels[::-1, :, ::-1], voxels.transpose(1, 0, 2)):
        assert np.array_equal(percentiles(stored, PERCENTS), np.percentile(voxels, PERCENTS))
    assert same(voxels[:, ::2, 1:], PERCENTS)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("odd", [np.nan, -np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_give_what_numpy_gives(odd):
    voxels = np.arange(27, dtype=np.float32).reshape(3, 3, 3)
    voxels[1, 1, 1] = odd
    assert np.array_equal(percentiles(voxels, PERCENTS), np.percentile(voxels, PERCENTS), equal_nan=True)


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int16, ">f4"])
def test_other_kinds_of_numbers_give_what_numpy_gives(dtype):
    assert same(np.arange(300).astype(dtype).reshape(5, 6, 10), PERCENTS)


@pytest.mark.parametrize("percent", [-1, 101, float("nan")])
def test_a_percent_that_is_none_is_refused(percent):
    with pytest.raises(ValueError, match=r"[0-9]"):
        percentiles(np.zeros((2, 2, 2), np.float32), (percent,))


def test_an_array_as_large_as_a_scan_is_counted_and_gives_what_numpy_gives(monkeypatch):
    monkeypatch.undo()
    voxels = np.random.default_rng(1).integers(-1024, 2000, (128, 128, 33)).astype(np.float32)
    assert voxels.size > module._FEW
    assert same(voxels, PERCENTS)
