"""Random changes of a training volume: the draw, and the order of the operations.

Randomness is drawn first (:func:`draw`, plain numbers on the CPU) and applied afterwards (:func:`apply`, the same code
on a CPU and on a GPU), so a change can be logged, repeated and tested. The order is nnU-Net's: rotation, zoom and
translation, noise, blur, brightness, contrast, low resolution, inverted gamma, gamma, flips. All channels of a slice
change alike. Each view of a case is drawn on its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import overload

import torch
from torch import Tensor

from anymc3d.data.augmentation import intensity, spatial
from anymc3d.data.augmentation.recipes import AUGMENTATIONS, Chance, Recipe, recipe
from anymc3d.errors import UsageError
from anymc3d.settings.views import ViewSettings

__all__ = ["AUGMENTATIONS", "AugmentationParameters", "Chance", "Recipe", "apply", "draw", "recipe", "value_range"]

Triple = tuple[float, float, float]

MAX_SHIFT_FRACTION = 0.4
"""No axis moves by more than this part of its length: a short stack is not pushed out of its own frame. Every size of
the paper (at least 28 slices) keeps the whole ±10 voxels."""


@dataclass(frozen=True, kw_only=True)
class AugmentationParameters:
    """One draw, in plain numbers (``dataclasses.asdict`` is JSON-ready); ``None`` = the operation does not happen.

    Triples follow the array: slice axis, first in-plane axis, second in-plane axis (S, H, W).
    """

    flip: tuple[bool, bool, bool] = (False, False, False)
    rotation: Triple | None = None
    zoom: float | None = None
    translation: Triple | None = None
    noise: float | None = None
    noise_seed: int = 0
    blur: float | None = None
    brightness: float | None = None
    contrast: float | None = None
    low_resolution: float | None = None
    gamma_inverted: float | None = None
    gamma: float | None = None


def draw(recipe: Recipe, *, generator: torch.Generator, shape: tuple[int, int, int, int]) -> AugmentationParameters:
    """Draw one set of parameters for slices of ``shape`` (S, C, H, W).

    The number of random numbers taken from ``generator`` is always the same, so the draws of later cases do not depend
    on the outcome of earlier ones.

    Raises:
        UsageError: the generator is not on the CPU.
    """
    dice = _Dice(generator)
    sides = (shape[0], shape[2], shape[3])
    rotation = dice.triple(recipe.rotation)
    if rotation is not None and max(sides[1:]) > recipe.tilt_limit * sides[0]:
        rotation = (rotation[0], 0.0, 0.0)
    return AugmentationParameters(
        rotation=rotation,
        zoom=dice.number(recipe.zoom),
        translation=_shorten(dice.triple(recipe.translation), recipe.translation, sides),
        noise=dice.number(recipe.noise),
        noise_seed=dice.seed,
        blur=dice.number(recipe.blur),
        brightness=dice.number(recipe.brightness),
        contrast=dice.number(recipe.contrast),
        low_resolution=dice.number(recipe.low_resolution),
        gamma_inverted=dice.number(recipe.gamma_inverted),
        gamma=dice.number(recipe.gamma),
        flip=(dice.happens(recipe.flip), dice.happens(recipe.flip), dice.happens(recipe.flip)),
    )


def value_range(view: ViewSettings) -> tuple[float, float] | None:
    """The range that the prepared intensities of a view stay in; None for z-scores, which must not be clipped."""
    return None if view.normalise == "zscore" else (0.0, 1.0)


_ROLLS_PER_DRAW = 64
"""Random numbers taken from the generator for one draw, more than any recipe can use."""


class _Dice:
    """Numbers from one generator; each question uses the same number of rolls whatever its answer."""

    def __init__(self, generator: torch.Generator) -> None:
        if generator.device.type != "cpu":
            raise UsageError(
                f"augmentation: expected a CPU generator, so that draws are alike on every device, got one on "
                f"{generator.device}; build it with torch.Generator()"
            )
        self.seed = int(torch.randint(2**62, (), generator=generator).item())
        self._rolls = iter(torch.rand(_ROLLS_PER_DRAW, generator=generator, dtype=torch.float64).tolist())

    def happens(self, probability: float) -> bool:
        return next(self._rolls) < probability

    def number(self, chance: Chance | None) -> float | None:
        """A number of ``chance``, or None where it does not happen."""
        numbers = self._numbers(chance, 1)
        return None if numbers is None else numbers[0]

    def triple(self, chance: Chance | None) -> Triple | None:
        """Three independent numbers of ``chance``, or None where it does not happen."""
        numbers = self._numbers(chance, 3)
        return None if numbers is None else (numbers[0], numbers[1], numbers[2])

    def _numbers(self, chance: Chance | None, count: int) -> list[float] | None:
        happens = next(self._rolls)
        rolls = [(next(self._rolls), next(self._rolls)) for _ in range(count)]
        if chance is None or happens >= chance.probability:
            return None
        return [_place(chance, side, part) for side, part in rolls]


def _place(chance: Chance, side: float, part: float) -> float:
    """Map two uniform numbers to one within the bounds of ``chance``."""
    low, high = chance.low, chance.high
    if chance.around_one:
        low, high = (low, 1.0) if side < 0.5 else (1.0, high)
    return low + (high - low) * part


def _shorten(moves: Triple | None, chance: Chance | None, sides: tuple[int, int, int]) -> Triple | None:
    """Scale a drawn translation so that the farthest possible one is within MAX_SHIFT_FRACTION of each axis."""
    if moves is None or chance is None:
        return None
    farthest = max(abs(chance.low), abs(chance.high))
    scales = [min(1.0, MAX_SHIFT_FRACTION * (side - 1) / farthest) for side in sides]
    return (moves[0] * scales[0], moves[1] * scales[1], moves[2] * scales[2])


@overload
def apply(
    parameters: AugmentationParameters, slices: Tensor, *, value_range: tuple[float, float] | None = None
) -> Tensor: ...


@overload
def apply(
    parameters: AugmentationParameters,
    slices: Tensor,
    *,
    mask: Tensor,
    value_range: tuple[float, float] | None = None,
) -> tuple[Tensor, Tensor]: ...


@torch.no_grad()
def apply(
    parameters: AugmentationParameters,
    slices: Tensor,
    *,
    mask: Tensor | None = None,
    value_range: tuple[float, float] | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """Apply one draw to the slices of one view of one case; the inputs are never changed.

    Args:
        slices: (S, C, H, W) float32 on any device, normalised, before channel replication and the backbone's mean/std.
        mask: (S, H, W) integer or boolean labels on the same grid; follows the spatial operations, nearest neighbour.
        value_range: the bounds of windowed or percentile-clipped values, usually (0, 1): brightness, contrast and gamma
            do not leave it (noise may). None for z-scores, which are never clipped.

    Returns:
        New slices of the same shape; with ``mask`` also the new mask. Neither shares memory with its input.

    Raises:
        UsageError: the shape or type of the slices or of the mask is not the expected one.
    """
    _check(slices, mask)
    out, mask = _apply_spatial(parameters, slices.contiguous(), mask, value_range)
    _apply_intensity_(parameters, out, value_range)
    return out if mask is None else (out, mask)


def _check(slices: Tensor, mask: Tensor | None) -> None:
    if slices.ndim != 4 or slices.dtype != torch.float32 or slices.numel() == 0:
        raise UsageError(
            f"augmentation: expected float32 slices of shape (S, C, H, W), none of them 0, got {slices.dtype} "
            f"{tuple(slices.shape)}"
        )
    if mask is None:
        return
    expected = (slices.shape[0], *slices.shape[2:])
    if mask.shape != expected or mask.is_floating_point() or mask.device != slices.device:
        raise UsageError(
            f"augmentation: expected an integer or boolean mask of shape {expected} on {slices.device}, got "
            f"{mask.dtype} {tuple(mask.shape)} on {mask.device}"
        )


def _apply_spatial(
    parameters: AugmentationParameters,
    slices: Tensor,
    mask: Tensor | None,
    value_range: tuple[float, float] | None,
) -> tuple[Tensor, Tensor | None]:
    """Flips alone move voxels without interpolation; otherwise one resampling does everything."""
    if parameters.rotation is None and parameters.zoom is None and parameters.translation is None:
        flipped = spatial.flip(slices, parameters.flip, (0, 2, 3))
        return flipped, None if mask is None else spatial.flip(mask, parameters.flip, (0, 1, 2))
    where = spatial.placement(
        (slices.shape[0], slices.shape[2], slices.shape[3]),
        flips=parameters.flip,
        rotation=parameters.rotation,
        zoom=parameters.zoom,
        translation=parameters.translation,
    )
    if value_range is None:
        fill = [low for low, _ in intensity.channel_bounds(slices)]
    else:
        fill = [value_range[0]] * slices.shape[1]
    resampled = spatial.resample_slices(slices, where, fill=fill)
    return resampled, None if mask is None else spatial.resample_mask(mask, where)


def _apply_intensity_(parameters: AugmentationParameters, out: Tensor, value_range: tuple[float, float] | None) -> None:
    """nnU-Net's order. The flips, last in nnU-Net, are already done: none of these knows left from right."""
    if parameters.noise is not None:
        intensity.add_noise_(out, standard_deviation=parameters.noise, seed=parameters.noise_seed)
    if parameters.blur is not None:
        intensity.blur_(out, standard_deviation=parameters.blur)
    bounds = _bounds(parameters, out, value_range)
    if parameters.brightness is not None:
        intensity.scale_brightness_(out, factor=parameters.brightness)
        _clip_(out, bounds)
    if parameters.contrast is not None:
        intensity.scale_contrast_(out, factor=parameters.contrast)
    if parameters.low_resolution is not None:
        intensity.lower_resolution_(out, zoom=parameters.low_resolution)
    for exponent, inverted in ((parameters.gamma_inverted, True), (parameters.gamma, False)):
        if exponent is not None:
            intensity.apply_gamma_(out, exponent=exponent, inverted=inverted)
            _clip_(out, bounds)


def _bounds(
    parameters: AugmentationParameters, slices: Tensor, value_range: tuple[float, float] | None
) -> tuple[float, float] | None:
    """The value range, widened to what noise has already reached: noise itself is never cut."""
    if value_range is None or parameters.noise is None:
        return value_range
    low, high = slices.aminmax()
    return min(low.item(), value_range[0]), max(high.item(), value_range[1])


def _clip_(slices: Tensor, bounds: tuple[float, float] | None) -> None:
    if bounds is not None:
        slices.clamp_(*bounds)
