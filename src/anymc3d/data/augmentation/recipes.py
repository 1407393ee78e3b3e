"""The table of augmentation recipes: which operations can happen, how often, and between which bounds.

'paper' is the list of the paper's supplement A3. Where A3 gives no number (noise, contrast) nnU-Net's stands.
'paper-flat' is the same, but stacks of few slices turn in-plane only, as nnU-Net turns them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from anymc3d.errors import UsageError, did_you_mean
from anymc3d.settings.limits import require


@dataclass(frozen=True, kw_only=True)
class Chance:
    """How often an operation happens and between which bounds its number is drawn."""

    probability: float
    low: float
    high: float
    around_one: bool = False
    """nnU-Net's sampler of multipliers: one half of the draws from [low, 1], the other from [1, high]."""

    def __post_init__(self) -> None:
        require(0 <= self.probability <= 1, f"augmentation: expected a probability, 0 to 1, got {self.probability}")
        require(self.low < self.high, f"augmentation: expected low below high, got {self.low} and {self.high}")
        require(
            not self.around_one or self.low <= 1 <= self.high,
            f"augmentation: expected multipliers on both sides of 1, got {self.low} to {self.high}",
        )


PAPER_TILT, NNUNET_TILT = 12.0, 3.0
"""The limit under which every size of the paper (up to 320 x 320 x 28) keeps supplement A3's 30 degrees about each
axis, and nnU-Net's own, under which all sizes above 3 to 1 turn in-plane (``benchmarks/tilt.md``)."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Which operations can happen; ``None`` = never. The numbers of 'paper' are in supplement A3."""

    flip: float = 0.0
    """Probability of each axis."""
    rotation: Chance | None = None
    """Degrees, about each axis."""
    tilt_limit: float = PAPER_TILT
    """Slices with a side longer than this many times their number turn in-plane only: tilted, a thin stack becomes
    copies of its first and last slice."""
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


PAPER = Recipe(
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
)

AUGMENTATIONS: Mapping[str, Recipe] = MappingProxyType(
    {
        "none": Recipe(),
        "flips": Recipe(flip=0.5),
        "paper": PAPER,
        "paper-flat": replace(PAPER, tilt_limit=NNUNET_TILT),
    }
)


def recipe(name: str) -> Recipe:
    """Return the named entry of :data:`AUGMENTATIONS`.

    Raises:
        UsageError: no such entry; the message names the nearest one.
    """
    if name not in AUGMENTATIONS:
        raise UsageError(f"augmentation: no recipe {name!r}{did_you_mean(name, AUGMENTATIONS)}")
    return AUGMENTATIONS[name]
