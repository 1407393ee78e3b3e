"""Measures of a prepared case: free of the storage and the unit of a scan, and different for what is no such scan."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from anymc3d.data.case_scans import PreparedCase
from anymc3d.data.intensity import profile
from anymc3d.data.ood_measures import GRID, LENGTHS, histogram, layout, measure_case
from anymc3d.data.preprocess import prepare_view
from anymc3d.data.scan import scan_facts
from anymc3d.data.volume import Volume, permute_axes
from anymc3d.evaluate.ood import fit_statistics, score
from anymc3d.settings.views import ViewSettings

VIEW = ViewSettings(size=(28, 28, 10), plane="axial", normalise="percentile")


def volume(seed: int = 0) -> Volume:
    rng = np.random.default_rng(seed)
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in (20, 24, 12)), indexing="ij")
    body = 500 * np.exp(-(x**2 + (y - 0.2) ** 2 + (z + 0.3) ** 2) * 3) + rng.uniform(0, 40, x.shape)
    return Volume(body.astype(np.float32), np.diag([1.0, 1.2, 3.0, 1.0]))


def measured(scan: Volume) -> dict[str, np.ndarray]:
    return measure_case(
        PreparedCase({"image": prepare_view(scan, VIEW), "other": None}, {"image": scan_facts(scan)}, {})
    )


def test_every_measure_has_its_length_and_is_finite() -> None:
    found = measured(volume())
    assert {name.partition(".")[0]: len(values) for name, values in found.items()} == dict(LENGTHS)
    assert all(np.isfinite(values).all() for values in found.values())
    assert {name.partition(".")[2] for name in found} == {"image"}


def test_neither_the_order_of_the_axes_nor_the_unit_matters() -> None:
    scan = volume()
    stored_otherwise = permute_axes(scan, (2, 0, 1))
    in_another_unit = replace(scan, voxels=(scan.voxels * 16 + 64).astype(np.float32))
    for other in (stored_otherwise, in_another_unit):
        for name, values in measured(other).items():
            assert values == pytest.approx(measured(scan)[name], abs=0.02), name


def test_a_mask_of_next_to_nothing_has_the_distribution_of_any_mask_and_a_label_map_has_not() -> None:
    """Below half a percent all percentiles are 0, which is no other kind of scan."""

    def of(share: float, labels: int = 1) -> np.ndarray:
        voxels = np.zeros(20**3, dtype=np.float32)
        filled = int(share * len(voxels))
        voxels[:filled] = 1 + np.arange(filled) % labels
        return histogram(profile(Volume(voxels.reshape(20, 20, 20), np.eye(4))))

    masks = [of(share) for share in (0.001, 0.004, 0.006, 0.04, 0.06, 0.3, 0.96)]
    assert all(np.array_equal(mask, masks[0]) for mask in masks)
    assert np.abs(of(0.004, labels=3) - masks[0]).max() > 0.5
    assert np.abs(histogram(profile(volume())) - masks[0]).max() > 3
    one_hot_voxel = np.zeros((20, 20, 20), dtype=np.float32)
    one_hot_voxel[0] = np.linspace(0, 1, 400).reshape(20, 20)
    one_hot_voxel[3, 3, 3] = 1e9
    assert np.abs(histogram(profile(Volume(one_hot_voxel, np.eye(4))))).max() < 10


def test_the_layout_is_the_mean_of_every_place() -> None:
    slices = np.random.default_rng(0).normal(size=(2 * GRID, 3 * GRID, GRID)).astype(np.float32)
    blocks = slices.reshape(GRID, 2, GRID, 3, GRID, 1).mean(axis=(1, 3, 5))
    assert layout(slices) == pytest.approx(blocks.ravel(), abs=1e-6)


def test_a_view_of_fewer_slices_than_places_has_a_layout_too() -> None:
    assert layout(np.ones((1, 7, 5), dtype=np.float32)) == pytest.approx(np.ones(GRID**3))


def test_r25_a_whole_body_and_one_slice_are_unlike_small_training_crops() -> None:
    """At the spacing of the crops, so that it is the size of what is shown that says it."""

    def body(shape: tuple[int, int, int], seed: int) -> Volume:
        rng = np.random.default_rng(seed)
        x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
        seen = 500 * np.exp(-3 * (x**2 + (y - 0.2) ** 2 + (z + 0.3) ** 2)) + rng.uniform(0, 40, shape)
        return Volume(seen.astype(np.float32), np.diag([1.0, 1.2, 3.0, 1.0]))

    def crop(seed: int) -> Volume:
        more = np.random.default_rng(100 + seed).integers(-2, 3, 3)
        return body((20 + more[0], 24 + more[1], 12 + more[2]), seed)

    crops = [measured(crop(seed)) for seed in range(24)]
    statistics = fit_statistics(crops[:20], [str(number) for number in range(20)])
    assert max(score(statistics.distances(one)) for one in crops[20:]) < 1
    for unlike, shape in {"whole body": (160, 192, 96), "one slice": (20, 24, 1)}.items():
        found = statistics.distances(measured(body(shape, 50)))
        assert found["geometry.image"] > 2, unlike
        assert score(found) >= found["geometry.image"]
