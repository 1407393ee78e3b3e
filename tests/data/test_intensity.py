"""Profiles tell a scan of the wrong kind from one that is only brighter, darker or cropped otherwise."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anymc3d.data.intensity import IntensityProfile, guess_modality, is_label_map, mismatch, profile, summarise
from anymc3d.data.readers import read_volume
from anymc3d.data.volume import Volume
from pet_scans import uptake


def scan(voxels: np.ndarray) -> IntensityProfile:
    return profile(Volume(voxels=voxels.astype(np.float32), affine=np.eye(4)))


def tissues(generator: np.random.Generator, levels: list[float], weights: np.ndarray, noise: float) -> np.ndarray:
    chosen = generator.choice(len(levels), size=(20, 20, 20), p=weights)
    return np.asarray(levels, dtype=float)[chosen] + generator.normal(0, noise, size=chosen.shape)


def ct(seed: int) -> np.ndarray:
    """Air, lung, fat, soft tissue, contrast, bone in changing parts; some scanners pad with -1024, some with -2000."""
    generator = np.random.default_rng(seed)
    weights = generator.dirichlet([4, 3, 3, 6, 0.5, 1])
    floor = generator.choice([-1000.0, -1024.0, -2000.0], p=[0.6, 0.3, 0.1])
    values = tissues(generator, [floor, -850, -100, 45, 180, 700], weights, generator.uniform(5, 40))
    return np.round(np.clip(values, floor - 24, 3071))


def ct_inside_the_body(seed: int) -> np.ndarray:
    """A crop about an organ: fat, a twentieth at least, soft tissue, contrast; no air at all."""
    generator = np.random.default_rng(seed)
    weights = 0.95 * generator.dirichlet([3, 8, 1]) + [0.05, 0, 0]
    return np.round(tissues(generator, [-100, 50, 180], weights, generator.uniform(8, 30)))


def mr(seed: int) -> np.ndarray:
    """Magnitude images of any scale, with or without background."""
    generator = np.random.default_rng(seed)
    weights = generator.dirichlet([5, 2, 4, 4, 1])
    scale = np.exp(generator.normal(0, 1))
    noisy = tissues(generator, [0, 120, 350, 600, 1100], weights, generator.uniform(5, 30))
    return np.abs(np.round(noisy * scale))


def mask(seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return (generator.random((20, 20, 20)) < generator.uniform(0.005, 0.3)) * 255.0


KINDS = {"CT": ct, "CT in the body": ct_inside_the_body, "MR": mr, "mask": mask}
MODALITY = {"CT": "CT", "CT in the body": "CT", "MR": "MR", "mask": "other"}
TRAINING = {kind: summarise([scan(make(seed)) for seed in range(60)]) for kind, make in KINDS.items()}


def test_the_profile_is_what_numpy_says() -> None:
    voxels = ct(0)
    seen = scan(voxels)
    assert (seen.minimum, seen.maximum) == (voxels.min(), voxels.max())
    expected = np.percentile(voxels, [0.5, 5, 25, 50, 75, 95, 99.5])
    assert list(asdict(seen).values())[1:8] == pytest.approx(expected.tolist())
    assert seen.distinct == len(np.unique(voxels))


def test_a_large_volume_is_sampled_and_its_extremes_are_not_missed() -> None:
    voxels = np.random.default_rng(0).normal(size=(200, 190, 180)).astype(np.float32)
    voxels[1, 1, 1], voxels[3, 3, 3] = -77, 99
    seen = profile(Volume(voxels=voxels, affine=np.eye(4)))
    assert (seen.minimum, seen.maximum) == (-77, 99)
    assert seen.p50 == pytest.approx(0, abs=0.02) and seen.p995 == pytest.approx(2.576, abs=0.05)


def test_a_profile_survives_json() -> None:
    seen = scan(ct(1))
    assert IntensityProfile(**json.loads(json.dumps(asdict(seen)))) == seen


@pytest.mark.parametrize("kind", KINDS)
def test_B10_the_modality_of_each_kind_is_guessed(kind: str) -> None:
    for seed in range(100):
        guess = guess_modality(scan(KINDS[kind](seed)))
        assert guess.modality == MODALITY[kind], (seed, guess)
        assert guess.reason


def test_what_is_neither_is_other() -> None:
    generator = np.random.default_rng(0)
    assert guess_modality(scan(generator.normal(size=(20, 20, 20)))).modality == "other"  # z-scores
    assert guess_modality(scan(generator.uniform(-4096, 4095, (20, 20, 20)))).modality == "other"  # MR phase
    label_map = np.kron(generator.integers(0, 30, (5, 5, 5)), np.ones((4, 4, 4)))
    assert guess_modality(scan(label_map)).modality == "other"
    assert guess_modality(scan(generator.uniform(-20000, -10000, (20, 20, 20)))).modality == "other"


def test_few_values_are_a_label_map_where_they_lie_in_regions() -> None:
    """A PET of few counts has as few values, and no two neighbours alike."""
    generator = np.random.default_rng(0)
    counts = generator.poisson(4, (40, 40, 20))
    assert len(np.unique(counts)) < 20
    noise, regions = scan(counts), scan(np.kron(generator.integers(0, 9, (10, 10, 5)), np.ones((4, 4, 4))))
    assert not is_label_map(noise) and guess_modality(noise).modality != "other"
    assert is_label_map(regions) and "label map" in guess_modality(regions).reason
    assert noise.grain > 0.7 > 0.3 > regions.grain
    turned = scan(np.flip(counts.transpose(2, 0, 1), axis=1))
    assert turned.grain == noise.grain


@pytest.mark.parametrize("scale", [1.0, 3600.0])
@pytest.mark.parametrize("seed", range(4))
def test_a_pet_of_the_body_looks_like_one(seed: int, scale: float) -> None:
    """In SUV and in Bq/ml; an MR and a CT do not."""
    seen = scan(uptake((48, 48, 40), seed=seed) * scale)
    assert guess_modality(seen).modality == "PT"
    assert guess_modality(scan(mr(seed))).modality == "MR" and guess_modality(scan(ct(seed))).modality == "CT"


def test_B10_pet_in_another_unit_is_told_and_another_patient_is_not() -> None:
    training = summarise([scan(uptake((32, 32, 24), seed=seed)) for seed in range(12)])
    other = uptake((32, 32, 24), seed=99, hot=True)
    assert mismatch(scan(other), training, "PT") is None
    assert mismatch(scan(other * 1.9), training, "PT") is None
    for scale in (3600.0, 1 / 3600):
        assert "SUV and Bq/ml exchanged?" in (mismatch(scan(other * scale), training, "PT") or "")
    assert "Hounsfield" in (mismatch(scan(ct(0)), training, "PT") or "")


def test_a_summary_is_json_and_ordered() -> None:
    summary = TRAINING["CT"]
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert summary["num_scans"] == 60
    assert "grain" in asdict(scan(ct(0))) and "grain" not in summary
    for name in set(asdict(scan(ct(0)))) - {"grain"}:
        assert summary[name]["low"] <= summary[name]["median"] <= summary[name]["high"]
    one = summarise([scan(ct(0))])
    assert one["p50"]["low"] == one["p50"]["high"] == scan(ct(0)).p50
    with pytest.raises(ValueError, match="at least one"):
        summarise([])


@given(st.integers(1000, 2**32 - 1), st.sampled_from(sorted(KINDS)))
@settings(max_examples=400)
def test_B10_a_scan_of_the_same_kind_raises_no_alarm(seed: int, kind: str) -> None:
    assert mismatch(scan(KINDS[kind](seed)), TRAINING[kind], MODALITY[kind]) is None


@given(st.integers(1000, 2**32 - 1), st.floats(0.2, 5))
@settings(max_examples=100)
def test_B10_a_brighter_mr_scan_raises_no_alarm(seed: int, scale: float) -> None:
    assert mismatch(scan(mr(seed) * scale), TRAINING["MR"], "MR") is None


@pytest.mark.parametrize("times", [340, 1 / 340])
def test_B10_a_scan_on_another_level_is_told_where_enough_were_trained_on(times: float) -> None:
    """Of few training scans nothing is said: other exports of the same set may not have been drawn."""
    scans = [scan(mr(seed) / np.percentile(mr(seed), 99.5) * 1000) for seed in range(30)]
    seen = scan(mr(99) / np.percentile(mr(99), 99.5) * 1000 * times)
    for count, told in ((24, False), (25, True), (30, True)):
        message = mismatch(seen, summarise(scans[:count]), "MR") or ""
        assert ("times those of the training scans (another unit, scaling or export?)" in message) is told, count
    # A set that holds such scans has them within its own spread, and a mask has no level.
    assert mismatch(seen, summarise([*scans, seen, seen]), "MR") is None
    assert mismatch(scan(mask(0) * times), summarise([scan(mask(seed)) for seed in range(30)]), "other") is None


def test_B10_a_small_training_set_raises_few_alarms() -> None:
    for kind, make in KINDS.items():
        alarms, new = 0, [scan(make(seed)) for seed in range(1000, 1010)]
        for trial in range(20):
            small = summarise([scan(make(10_000 + 8 * trial + i)) for i in range(8)])
            alarms += sum(mismatch(one, small, MODALITY[kind]) is not None for one in new)
        assert alarms <= 4, kind  # of 200: 2 %


WRONG = {
    "CT stored with +1024": ("CT", lambda seed: ct(seed) + 1024),
    "CT stored with +1000": ("CT", lambda seed: ct(seed) + 1000),
    "CT clipped at zero": ("CT", lambda seed: np.clip(ct(seed), 0, None)),
    "CT rescaled twice": ("CT", lambda seed: ct(seed) - 1024),
    "CT scaled to 0..1": ("CT", lambda seed: (np.clip(ct(seed), -1000, 1000) + 1000) / 2000),
    "MR to a CT plugin": ("CT", mr),
    "mask to a CT plugin": ("CT", mask),
    "crop stored with +1024": ("CT in the body", lambda seed: ct_inside_the_body(seed) + 1024),
    "MR to a CT crop plugin": ("CT in the body", mr),
    "CT to an MR plugin": ("MR", ct),
    "CT crop to an MR plugin": ("MR", ct_inside_the_body),
    "mask to an MR plugin": ("MR", mask),
    "CT to a mask plugin": ("mask", ct),
    "MR to a mask plugin": ("mask", mr),
}


@pytest.mark.parametrize("name", WRONG)
def test_B10_a_scan_of_another_kind_is_told_with_both_profiles(name: str) -> None:
    kind, make = WRONG[name]
    for seed in range(1000, 1060):
        seen = scan(make(seed))
        message = mismatch(seen, TRAINING[kind], MODALITY[kind])
        assert message is not None, (seed, seen)
        assert "\n" not in message
        assert f"this scan {seen.p005:.4g} / {seen.p50:.4g} / {seen.p995:.4g}" in message
        assert f"{TRAINING[kind]['p50']['low']:.4g}..{TRAINING[kind]['p50']['high']:.4g}" in message


@pytest.mark.real_data
def test_B10_real_scans_are_guessed_and_fit_their_own_kind(real_data: Path) -> None:
    mr_scans = [profile(read_volume(path)) for path in sorted((real_data / "hippocampus_mr/images").glob("*.gz"))[:60]]
    heads = [profile(read_volume(path)) for path in sorted((real_data / "ixi_t1/nifti").glob("*.gz"))]
    cts = [
        profile(read_volume(real_data / "ct_totalsegmentator" / f"{n}.nii.gz")) for n in ("example_ct", "example_ct_sm")
    ]
    masks = [profile(read_volume(f"{real_data}/adrenalmnist3d/adrenalmnist3d_64.npz#val/{i}")) for i in range(30)]
    assert {guess_modality(seen).modality for seen in mr_scans + heads} == {"MR"}
    assert {guess_modality(seen).modality for seen in cts} == {"CT"}
    assert {guess_modality(seen).modality for seen in masks} == {"other"}
    for seen in mr_scans[30:]:
        assert mismatch(seen, summarise(mr_scans[:30]), "MR") is None
    for seen in cts:
        assert mismatch(seen, summarise(mr_scans), "MR") and mismatch(seen, summarise(heads), "MR")
    for seen in mr_scans + heads:
        assert mismatch(seen, summarise(cts), "CT")
    for seen in masks[15:]:
        assert mismatch(seen, summarise(masks[:15]), "other") is None
