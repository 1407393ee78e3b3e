"""Random changes of a training volume: the table of recipes, the draw, and the order of the operations.

Randomness is drawn first (:func:`draw`, plain numbers on the CPU) and applied afterwards (:func:`apply`, the same code
on a CPU and on a GPU), so a change can be logged, repeated and tested. The operations, their ranges and probabilities
are those of the paper's supplement A3; their order is nnU-Net's: rotation, zoom and translation, noise, blur,
brightness, contrast, low resolution, inverted gamma, gamma, flips. Where A3 gives no number (noise, contrast) nnU-Net's
stands. All channels of a slice change alike. Each view of a case is drawn on its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import overload

import torch
from torch import Tensor

from anymc3d.data import augment_intensity, augment_spatial
from anymc3d.errors import UsageError, did_you_mean

Triple = tuple[float, float, float]

MAX_SHIFT_FRACTION = 0.4
"""No axis moves by more than this part of its length: a short stack is not pushed out of its own frame. Every size of
the paper (at least 28 slices) keeps the whole ±10 voxels."""

MAX_TILT_RATIO = 12
"""Slices with a side longer than this many times the number of slices turn in-plane only. nnU-Net's rule, with its
threshold (3) raised so that every size of the paper (up to 320 x 320 x 28) keeps the paper's ±30° about each axis."""


@dataclass(frozen=True, kw_only=True)
class Chance:
    """How often an operation happens and between which bounds its number is drawn."""

    probability: float
    low: float
    high: float
    around_one: bool = False
    """nnU-Net's sampler of multipliers: one half of the draws from [low, 1], the other from [1, high]."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Which operations can happen; ``None`` = never. The numbers of 'paper' are in supplement A3."""

    flip: float = 0.0
    """Probability of each axis."""
    rotation: Chance | None = None
    """Degrees, about each axis."""
    zoom: Chance | None = None
    """Above 1 = the content grows; one number for the three axes."""
    translation: Chance | None = None
    """Voxels, along each axis."""
    noise: Chance | None = None
    """Standard deviation, in units of the slices' values."""
    blur: Chance | None = None
    """Standard deviation in voxels."""
    brightness: Chance | None = None
    """Multiplier."""
    contrast: Chance | None = None
    """Multiplier of the distance from the mean; the range of values is kept."""
    low_resolution: Chance | None = None
    """Size of the coarse grid as a part of the fine one."""
    gamma_inverted: Chance | None = None
    """Exponent, applied to the negative; mean and standard deviation are kept."""
    gamma: Chance | None = None
    """Exponent; mean and standard deviation are kept."""


AUGMENTATIONS: Mapping[str, Recipe] = MappingProxyType(
    {
        "none": Recipe(),
        "flips": Recipe(flip=0.5),
        "paper": Recipe(
            flip=0.5,
            rotation=Chance(probability=0.2, low=-30.0, high=30.0),
            zoom=Chance(probability=0.2, low=0.7, high=1.4),
            translation=Chance(probability=0.2, low=-10.0, high=10.0),
            noise=Chance(probability=0.25, low=0.0, high=0.1),
            blur=Chance(probability=0.2, low=0.5, high=1.0),
            brightness=Chance(probability=0.15, low=0.75, high=1.25, around_one=True),
            contrast=Chance(probability=0.15, low=0.75, high=1.25, around_one=True),
            low_resolution=Chance(probability=0.2, low=0.5, high=1.0),
            gamma_inverted=Chance(probability=0.2, low=0.7, high=1.5),
            gamma=Chance(probability=0.3, low=0.7, high=1.5),
        ),
    }
)


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


def recipe(name: str) -> Recipe:
    """Return the named entry of :data:`AUGMENTATIONS`.

    Raises:
        UsageError: no such entry; the message names the nearest one.
    """
    if name not in AUGMENTATIONS:
        raise UsageError(f"augmentation: no recipe {name!r}{did_you_mean(name, AUGMENTATIONS)}")
    return AUGMENTATIONS[name]


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
    if rotation is not None and max(sides[1:]) > MAX_TILT_RATIO * sides[0]:
        rotation = (rotation[0], 0.0, 0.0)
    return AugmentationParameters(
        rotation=rotation,
        zoom=dice.number(recipe.zoom),
        translation=_shorten(dice.triple(recipe.translation), recipe.translation, sides),
        noise=dice.number(recipe.noise),
        noise_seed=dice.seed(),
        blur=dice.number(recipe.blur),
        brightness=dice.number(recipe.brightness),
        contrast=dice.number(recipe.contrast),
        low_resolution=dice.number(recipe.low_resolution),
        gamma_inverted=dice.number(recipe.gamma_inverted),
        gamma=dice.number(recipe.gamma),
        flip=(dice.happens(recipe.flip), dice.happens(recipe.flip), dice.happens(recipe.flip)),
    )


class _Dice:
    """Numbers from one generator; each question takes the same number of draws whatever its answer."""

    def __init__(self, generator: torch.Generator) -> None:
        if generator.device.type != "cpu":
            raise UsageError(
                f"augmentation: expected a CPU generator, so that draws are alike on every device, got one on "
                f"{generator.device}; build it with torch.Generator()"
            )
        self._generator = generator

    def happens(self, probability: float) -> bool:
        return self._roll() < probability

    def number(self, chance: Chance | None) -> float | None:
        """A number of ``chance``, or None where it does not happen."""
        numbers = self._numbers(chance, 1)
        return None if numbers is None else numbers[0]

    def triple(self, chance: Chance | None) -> Triple | None:
        """Three independent numbers of ``chance``, or None where it does not happen."""
        numbers = self._numbers(chance, 3)
        return None if numbers is None else (numbers[0], numbers[1], numbers[2])

    def seed(self) -> int:
        return int(torch.randint(2**62, (), generator=self._generator).item())

    def _roll(self) -> float:
        return torch.rand((), generator=self._generator, dtype=torch.float64).item()

    def _numbers(self, chance: Chance | None, count: int) -> list[float] | None:
        happens = self._roll()
        rolls = [(self._roll(), self._roll()) for _ in range(count)]
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
        New slices of the same shape; with ``mask`` also the new mask. With parameters that change nothing the inputs
        themselves are returned.

    Raises:
        UsageError: the shape or type of the slices or of the mask is not the expected one.
    """
    _check(slices, mask)
    out, mask = _apply_spatial(parameters, slices, mask, value_range)
    out = _apply_intensity(parameters, out, value_range)
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
        flipped = augment_spatial.flip(slices, parameters.flip, augment_spatial.AXES_OF_SLICES)
        return flipped, None if mask is None else augment_spatial.flip(mask, parameters.flip, (0, 1, 2))
    where = augment_spatial.placement(
        (slices.shape[0], slices.shape[2], slices.shape[3]),
        flips=parameters.flip,
        rotation=parameters.rotation,
        zoom=parameters.zoom,
        translation=parameters.translation,
    )
    fill = augment_intensity.channel_minimum(slices)
    if value_range is not None:
        fill = torch.full_like(fill, value_range[0])
    resampled = augment_spatial.resample_slices(slices, where, fill=fill)
    return resampled, None if mask is None else augment_spatial.resample_mask(mask, where)


def _apply_intensity(
    parameters: AugmentationParameters, slices: Tensor, value_range: tuple[float, float] | None
) -> Tensor:
    """nnU-Net's order. The flips, last in nnU-Net, are already done: they commute with all of these."""
    names = ("noise", "blur", "brightness", "contrast", "low_resolution", "gamma_inverted", "gamma")
    if all(getattr(parameters, name) is None for name in names):
        return slices
    out = slices.clone()
    if parameters.noise is not None:
        augment_intensity.add_noise_(out, standard_deviation=parameters.noise, seed=parameters.noise_seed)
    if parameters.blur is not None:
        augment_intensity.blur_(out, standard_deviation=parameters.blur)
    bounds = _bounds(out, value_range)
    if parameters.brightness is not None:
        augment_intensity.scale_brightness_(out, factor=parameters.brightness)
        _clip_(out, bounds)
    if parameters.contrast is not None:
        augment_intensity.scale_contrast_(out, factor=parameters.contrast)
    if parameters.low_resolution is not None:
        augment_intensity.lower_resolution_(out, zoom=parameters.low_resolution)
    for exponent, inverted in ((parameters.gamma_inverted, True), (parameters.gamma, False)):
        if exponent is not None:
            augment_intensity.apply_gamma_(out, exponent=exponent, inverted=inverted)
            _clip_(out, bounds)
    return out


def _bounds(slices: Tensor, value_range: tuple[float, float] | None) -> tuple[Tensor, Tensor] | None:
    """The value range, widened to what noise has already reached: noise itself is never cut."""
    if value_range is None:
        return None
    low, high = slices.aminmax()
    return low.clamp_(max=value_range[0]), high.clamp_(min=value_range[1])


def _clip_(slices: Tensor, bounds: tuple[Tensor, Tensor] | None) -> None:
    if bounds is not None:
        slices.clamp_(*bounds)
