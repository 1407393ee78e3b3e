"""Lesion candidates of a probability map: the library of the challenge, hand cases, refusals."""

import numpy as np
import pytest

from anymc3d.errors import UsageError
from anymc3d.pandx.candidates import CandidateRule, find_candidates


def waves(shape=(20, 18, 16)):
    """A map of several peaks that needs no random numbers."""
    x, y, z = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    values = np.sin(0.5 * x) * np.cos(0.4 * y) * np.sin(0.5 * z + 0.3) + 0.3 * np.sin(0.05 * x * y)
    return (np.clip(values / 1.4, 0, 1) ** 2).astype(np.float32)


@pytest.mark.parametrize(
    ("mode", "factor", "confidences", "voxels", "total"),
    [
        # Made with report-guided-annotation 0.3.4 (Apache-2.0): "dynamic-fast" and "dynamic-v2" on the same map.
        (
            "fast",
            2.5,
            (0.824965, 0.79152, 0.7248, 0.69535, 0.645886, 0.642188, 0.620308, 0.612194, 0.538548),
            217,
            153.3091,
        ),
        (
            "fast",
            15.0,
            (
                0.824965,
                0.79152,
                0.7248,
                0.69535,
                0.645886,
                0.642188,
                0.636167,
                0.620308,
                0.612194,
                0.538548,
                0.506173,
                0.481446,
                0.4292,
                0.408176,
            ),
            1282,
            813.5448,
        ),
        ("dynamic", 2.5, (0.824965, 0.79152, 0.7248, 0.69535, 0.645886), 157, 118.0847),
        ("dynamic", 15.0, (0.824965, 0.79152, 0.7248), 364, 289.5638),
    ],
)
def test_candidates_are_those_of_the_challenges_own_library(mode, factor, confidences, voxels, total):
    found = find_candidates(waves(), CandidateRule(mode=mode, factor=factor))
    assert found.confidences == pytest.approx(confidences, abs=1e-6)
    assert np.count_nonzero(found.detection) == voxels
    assert found.detection.sum(dtype=float) == pytest.approx(total, rel=1e-5)
    assert found.score == found.confidences[0]


def block(values, first, side, value):
    x, y, z = first
    values[x : x + side, y : y + side, z : z + side] = value


def test_fast_takes_all_from_a_fifteenth_of_the_highest_peak_on():
    values = np.zeros((20, 20, 20), dtype=np.float32)
    block(values, (1, 1, 1), 3, 0.9)
    block(values, (10, 10, 10), 3, 0.07)
    block(values, (1, 15, 15), 3, 0.05)
    found = find_candidates(values)
    assert found.confidences == pytest.approx((0.9, 0.07))
    assert set(np.unique(found.detection)) == {np.float32(0), np.float32(0.07), np.float32(0.9)}


def test_specks_of_ten_voxels_are_none_and_eleven_are_one():
    values = np.zeros((4, 4, 12), dtype=np.float32)
    values[1, 1, :10] = 0.8
    assert find_candidates(values).score == 0
    values[1, 1, :11] = 0.8
    assert find_candidates(values).score == np.float32(0.8)


def test_a_corner_joins_two_voxels():
    values = np.zeros((6, 6, 6), dtype=np.float32)
    block(values, (0, 0, 0), 2, 0.5)
    block(values, (2, 2, 2), 2, 0.4)
    assert find_candidates(values).confidences == (0.5,)


def test_dynamic_gives_each_lesion_its_own_threshold_and_drops_rims():
    values = np.zeros((24, 12, 12), dtype=np.float32)
    block(values, (2, 2, 2), 5, 0.05)  # the rim of the first lesion, below a fifteenth of its peak
    block(values, (3, 3, 3), 3, 0.9)
    block(values, (15, 3, 3), 4, 0.06)
    found = find_candidates(values, CandidateRule(mode="dynamic"))
    assert found.confidences == pytest.approx((0.9, 0.06))
    assert len(find_candidates(values, CandidateRule(mode="dynamic", most=1)).confidences) == 1
    assert find_candidates(values * 0.01, CandidateRule(mode="dynamic")).confidences == ()


@pytest.mark.parametrize(
    "values", [np.full((3, 3, 3), 1.5), np.full((3, 3, 3), -0.1), np.zeros((3, 3)), np.full((3, 3, 3), np.nan)]
)
def test_what_is_no_map_of_probabilities_is_refused(values):
    with pytest.raises(UsageError, match="expected a map"):
        find_candidates(values)


def test_a_rule_that_makes_no_sense_is_refused():
    with pytest.raises(UsageError, match="factor above 1"):
        CandidateRule(factor=1)
