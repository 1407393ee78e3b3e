"""How many parameters nnU-Net's network has for a plan: by arithmetic, for it is built and trained by nnU-Net."""

from __future__ import annotations

import math
from dataclasses import dataclass

Triple = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A plain convolutional U-Net of nnU-Net v2: two convolutions in every stage, down and up."""

    widths: tuple[int, ...]
    kernels: tuple[Triple, ...]
    strides: tuple[Triple, ...]
    classes: int
    channels: int = 1

    @property
    def num_parameters(self) -> int:
        """Convolutions with bias, instance norms with factor and offset, transposed convolutions that double the
        sides, and a map to the classes at every stage of the way up."""
        total, width_in = 0, self.channels
        for width, kernel in zip(self.widths, self.kernels, strict=True):
            total += _unit(width_in, width, kernel) + _unit(width, width, kernel)
            width_in = width
        for stage in range(len(self.widths) - 1, 0, -1):
            below, width, kernel = self.widths[stage], self.widths[stage - 1], self.kernels[stage - 1]
            total += below * width * math.prod(self.strides[stage]) + width
            total += _unit(2 * width, width, kernel) + _unit(width, width, kernel)
            total += width * self.classes + self.classes
        return total


def _unit(width_in: int, width: int, kernel: Triple) -> int:
    return width_in * width * math.prod(kernel) + width + 2 * width


HIGH_RESOLUTION = Plan(
    widths=(32, 64, 128, 256, 320, 320),
    kernels=((1, 3, 3), *[(3, 3, 3)] * 5),
    strides=((1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2), (1, 2, 2)),
    classes=7,
)
"""The second network: the plan of the official baseline (Dataset104, 1.5 x 0.747 x 0.747 mm, so no convolution across
slices at first), with PanDx's seven classes."""

METHOD: dict[str, str | int] = {
    "name": "pandx",
    "trainable_parameters": HIGH_RESOLUTION.num_parameters,
    "total_parameters": HIGH_RESOLUTION.num_parameters,
    "weights": "trained by the user with nnU-Net v2, outside of this package",
    "licence": "MIT (PanDx), Apache-2.0 (nnU-Net, PANORAMA baseline)",
    "citation": "Liu et al., PanDx, github.com/han-liu/PanDx; Isensee et al. 2021, nnU-Net, Nature Methods",
    "left_out": "the training of its networks, which is nnU-Net's",
}
"""As a row of the table of methods; parameters of one high-resolution network of the five folds, by arithmetic."""
