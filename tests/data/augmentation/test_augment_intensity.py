"""Noise, blur, brightness, contrast, low resolution and gamma against numpy, scipy and, where installed, MONAI."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
import torch

from anymc3d.data.augmentation import chunks
from anymc3d.data.augmentation.augment import AugmentationParameters, apply

SIZES = [(9, 2, 17, 22), (1, 1, 16, 11), (2, 3, 9, 9), (3, 1, 1, 40), (40, 1, 5, 1)]


def random_slices(size: tuple[int, int, int, int], *, seed: int = 0) -> torch.Tensor:
    return torch.rand(size, generator=torch.Generator().manual_seed(seed))


def per_channel(slices: torch.Tensor) -> list[np.ndarray]:
    return [slices[:, channel].double().numpy() for channel in range(slices.shape[1])]


@pytest.mark.parametrize("sigma", [0.02, 0.1])
def test_noise_is_white_and_gaussian_with_the_stated_deviation(sigma: float) -> None:
    slices = random_slices((20, 1, 40, 50))
    noise = apply(AugmentationParameters(noise=sigma, noise_seed=5), slices).sub_(slices).double().numpy()
    assert scipy.stats.kstest(noise.ravel() / sigma, "norm").pvalue > 0.01
    for axis in (0, 2, 3):
        neighbours = np.moveaxis(noise, axis, 0)
        assert abs(np.corrcoef(neighbours[1:].ravel(), neighbours[:-1].ravel())[0, 1]) < 0.02


def test_noise_follows_its_seed() -> None:
    slices = random_slices((4, 1, 9, 9))
    first, again, other = (
        apply(AugmentationParameters(noise=0.1, noise_seed=seed), slices) for seed in (2**61 + 3, 2**61 + 3, 4)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("sigma", [0.5, 0.8, 1.0])
@pytest.mark.parametrize("size", SIZES)
def test_blur_agrees_with_scipys_gaussian_filter(size: tuple[int, int, int, int], sigma: float) -> None:
    slices = random_slices(size)
    blurred = apply(AugmentationParameters(blur=sigma), slices)
    for channel, stack in enumerate(per_channel(slices)):
        theirs = scipy.ndimage.gaussian_filter(stack, sigma, mode="nearest", truncate=2 / sigma)
        np.testing.assert_allclose(blurred[:, channel].numpy(), theirs, atol=1e-6)


def test_blur_does_not_depend_on_how_many_slices_are_worked_on_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    slices = random_slices((11, 2, 9, 12))
    whole = apply(AugmentationParameters(blur=0.9), slices)
    for budget in (1, 500):
        monkeypatch.setattr(chunks, "_CPU_VOXELS", budget)
        assert torch.equal(apply(AugmentationParameters(blur=0.9), slices), whole)


def test_brightness_multiplies() -> None:
    slices = random_slices((3, 2, 8, 8))
    np.testing.assert_array_equal(
        apply(AugmentationParameters(brightness=1.25), slices).numpy(), slices.numpy() * np.float32(1.25)
    )


@pytest.mark.parametrize("factor", [0.75, 1.25])
@pytest.mark.parametrize("size", SIZES)
def test_contrast_is_nnunets_formula(size: tuple[int, int, int, int], factor: float) -> None:
    slices = torch.randn(size, generator=torch.Generator().manual_seed(1))
    changed = apply(AugmentationParameters(contrast=factor), slices)
    for channel, stack in enumerate(per_channel(slices)):
        theirs = np.clip((stack - stack.mean()) * factor + stack.mean(), stack.min(), stack.max())
        np.testing.assert_allclose(changed[:, channel].numpy(), theirs, atol=2e-6)


def interpolate_line(position: np.ndarray, line: np.ndarray) -> np.ndarray:
    return np.interp(position, np.arange(len(line)), line)


@pytest.mark.parametrize("zoom", [0.5, 0.63, 0.9, 1.0])
@pytest.mark.parametrize("size", SIZES)
def test_low_resolution_is_nearest_down_and_linear_up(size: tuple[int, int, int, int], zoom: float) -> None:
    slices = random_slices(size)
    changed = apply(AugmentationParameters(low_resolution=zoom), slices)
    for channel, stack in enumerate(per_channel(slices)):
        for axis, side in enumerate(stack.shape):
            coarse = max(1, round(side * zoom))
            nearest = np.floor((np.arange(coarse) + 0.5) * side / coarse).astype(int)
            position = (np.arange(side) + 0.5) * coarse / side - 0.5
            small = np.take(stack, nearest, axis=axis)
            stack = np.apply_along_axis(partial(interpolate_line, position), axis, small)
        np.testing.assert_allclose(changed[:, channel].numpy(), stack, atol=5e-6)


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("exponent", [0.7, 1.0, 1.5])
@pytest.mark.parametrize("size", SIZES)
def test_gamma_is_nnunets_formula(size: tuple[int, int, int, int], exponent: float, inverted: bool) -> None:
    slices = torch.randn(size, generator=torch.Generator().manual_seed(2))
    name = "gamma_inverted" if inverted else "gamma"
    changed = apply(AugmentationParameters(**{name: exponent}), slices)
    sign = -1.0 if inverted else 1.0
    for channel, stack in enumerate(per_channel(slices)):
        image = sign * stack
        low, spread = image.min(), np.ptp(image)
        power = ((image - low) / spread) ** exponent * spread + low
        theirs = sign * ((power - power.mean()) / power.std() * image.std() + image.mean())
        np.testing.assert_allclose(changed[:, channel].numpy(), theirs, atol=2e-5)
        assert changed[:, channel].double().mean().item() == pytest.approx(stack.mean(), abs=1e-6)
        assert changed[:, channel].double().numpy().std() == pytest.approx(stack.std(), rel=1e-5)


@pytest.mark.parametrize("name", ["gamma", "gamma_inverted", "contrast", "blur", "low_resolution"])
@pytest.mark.parametrize("value", [0.0, 0.4, -3.0])
def test_a_constant_stack_stays_constant(name: str, value: float) -> None:
    slices = torch.full((3, 2, 6, 7), value)
    torch.testing.assert_close(apply(AugmentationParameters(**{name: 0.8}), slices), slices, rtol=0, atol=1e-6)


@pytest.mark.parametrize("inverted", [False, True])
def test_gamma_agrees_with_monai(inverted: bool) -> None:
    transforms = pytest.importorskip("monai.transforms", reason="MONAI is in the benchmark extra only")
    slices = random_slices((12, 1, 20, 20))
    theirs = transforms.AdjustContrast(gamma=1.3, invert_image=inverted, retain_stats=True)(slices[:, 0].unsqueeze(0))
    ours = apply(AugmentationParameters(**{"gamma_inverted" if inverted else "gamma": 1.3}), slices)
    np.testing.assert_allclose(ours[:, 0].numpy(), np.asarray(theirs[0]), atol=5e-5)


def test_contrast_agrees_with_monai() -> None:
    transforms = pytest.importorskip("monai.transforms", reason="MONAI is in the benchmark extra only")
    slices = random_slices((12, 1, 20, 20))
    theirs = transforms.ScaleIntensityFixedMean(factor=0.2, preserve_range=True)(slices[:, 0].unsqueeze(0))
    ours = apply(AugmentationParameters(contrast=1.2), slices)
    np.testing.assert_allclose(ours[:, 0].numpy(), np.asarray(theirs[0]), atol=1e-5)
