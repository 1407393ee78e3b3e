"""THE table of representations: what of a backbone's answer stands for a slice, or with masks for a whole scan.

Every part of an entry comes from the same forward pass. Letters: S slices, N patches of a slice, D width of a token, M
structures of a mask. ``class`` is the paper's (supplement, Algorithm 1); the others are ours, for frozen backbones:
several blocks as in the linear probes of DINOv2 (arXiv 2304.07193, appendix B.3), the means that keep the place after
Raptor (arXiv 2507.08254), the means over masks after ORACLE-CT (arXiv 2606.05460).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from anymc3d.errors import PluginError, UsageError, did_you_mean
from anymc3d.models.vit import ViTConfig

PLACE_WIDTH = 32
"""Numbers that are kept of a patch token where its place is kept."""
_EARLIER = {"class-1": 1, "class-2": 2, "class-3": 3}
"""Part -> how many blocks before the last one its class token leaves."""


@dataclass(frozen=True)
class Representation:
    """One entry: the parts that stand side by side, and what it is in words."""

    parts: tuple[str, ...]
    summary: str

    @property
    def needs_mask(self) -> bool:
        """Whether a case without a segmentation has none."""
        return "mask" in self.parts

    @property
    def keeps_place(self) -> bool:
        """Whether slices are averaged and views stand side by side: their numbers belong to places in the plane."""
        return "place" in self.parts

    @property
    def of_scan(self) -> bool:
        """Whether its widths differ between views, so that no pooling over slices or views may weigh them."""
        return self.keeps_place or self.needs_mask


FEATURES: dict[str, Representation] = {
    "class": Representation(("class",), "the class token of every slice, as in the paper"),
    "class+mean": Representation(("class", "mean"), "class token and mean of the patch tokens"),
    "class+mean+max": Representation(("class", "mean", "max"), "class token, mean and maximum of the patch tokens"),
    "last4": Representation(("class", *_EARLIER), "class tokens of the last four blocks"),
    "mask": Representation(("mask",), "mean of the patch tokens inside each structure of the mask, over all slices"),
    "place": Representation(
        ("place",), f"mean over slices of the patch tokens at each place of the plane, reduced to {PLACE_WIDTH} numbers"
    ),
}


def representation(name: str) -> Representation:
    """Look up one entry.

    Raises:
        UsageError: no representation has this name.
    """
    if name not in FEATURES:
        raise UsageError(f"features: unknown name {name!r}{did_you_mean(name, FEATURES)}; have {', '.join(FEATURES)}")
    return FEATURES[name]


def check_backbone(name: str, backbone: nn.Module) -> None:
    """Refuse parts that a backbone does not have.

    Raises:
        UsageError: it has no class token before the last block.
    """
    config = backbone.config
    enough = isinstance(config, ViTConfig) and config.depth > len(_EARLIER)
    if set(representation(name).parts) & set(_EARLIER) and not enough:
        raise UsageError(f"features: {name} needs class tokens of four blocks, and this backbone ({config}) has none")


def width_of(name: str, *, embed_dim: int, num_patches: int, num_structures: int = 0) -> int:
    """How many numbers one slice of a view has (of ``of_scan`` entries: one scan)."""
    factors = {"place": num_patches * PLACE_WIDTH, "mask": num_structures * embed_dim}
    return sum(factors.get(part, embed_dim) for part in representation(name).parts)


def num_patches(size: Sequence[int | None], patch_size: int) -> int:
    """N of a view whose size is (in-plane x, in-plane y, slices): images are enlarged to whole patches."""
    rows, columns = (-(-int(length or 0) // patch_size) for length in size[:2])
    return rows * columns


def read_parts(
    backbone: nn.Module,
    call: Callable[..., Any],
    parts: Collection[str],
    grid: tuple[int, int],
    labels: Tensor | None = None,
    structures: Sequence[int] = (),
) -> dict[str, Tensor]:
    """One forward pass over S slices -> part -> (S, its width), float32.

    ``mask`` is (S, M (D + 1)): per structure the sum of the tokens, each weighted by the share of its patch inside, and
    the sum of the weights; see :func:`pool_masks`.

    Args:
        backbone: the network.
        call: it on these slices, with weights and number format as they are wanted; takes its options by name.
        parts: those wanted.
        grid: patches (rows, columns).
        labels: (S, h, w) of the segmentation on the same extent, for ``mask``.
        structures: M labels of it, for ``mask``.

    Raises:
        PluginError: ``mask`` is wanted and there are no labels.
    """
    earlier = {part: backbone.config.depth - _EARLIER[part] for part in parts if part in _EARLIER}
    options: dict[str, object] = {"input_blocks": tuple(earlier.values())} if earlier else {}
    if set(parts) <= {"class", *_EARLIER} and "class" in parts:
        options["class_token_only"] = True
    encoded = call(**options)
    tokens = encoded.tokens.float()
    patches = tokens[:, backbone.num_prefix_tokens :]
    rows_of: dict[str, Tensor] = {}
    for part in parts:
        if part in earlier:
            rows_of[part] = backbone.norm(encoded.inputs[earlier[part]][:, 0].float())
        elif part == "mask":
            rows_of[part] = _inside(patches, _coverage(labels, structures, grid))
        else:
            rows_of[part] = _PLAIN[part](tokens, patches)
    return rows_of


_PLAIN = {
    "class": lambda tokens, patches: tokens[:, 0],
    "mean": lambda tokens, patches: patches.mean(dim=1),
    "max": lambda tokens, patches: patches.amax(dim=1),
    "place": lambda tokens, patches: (patches @ projection(patches.shape[-1]).to(patches.device)).flatten(1),
}


def pool_masks(rows: Tensor, num_structures: int) -> Tensor:
    """The part ``mask`` of the slices of one case (S, M (D + 1)) -> means of tokens over the structures, (1, M D).

    A structure that the case does not have is all zeros.
    """
    sums = rows.sum(dim=0).view(num_structures, -1)
    return (sums[:, :-1] / sums[:, -1:].clamp_min(torch.finfo(sums.dtype).tiny)).reshape(1, -1)


@lru_cache(maxsize=8)
def projection(width: int) -> Tensor:
    """(D, PLACE_WIDTH): random signs, scaled to keep lengths (D. Achlioptas, 2003). Their bits are SHAKE-256 of the two
    numbers, so that they are the same on every machine and with every version of every library."""
    count = width * PLACE_WIDTH
    digest = hashlib.shake_256(f"anymc3d place {width} {PLACE_WIDTH}".encode()).digest(-(-count // 8))
    bits = np.unpackbits(np.frombuffer(digest, dtype=np.uint8))[:count].astype(np.float32)
    return torch.from_numpy((2 * bits - 1) / PLACE_WIDTH**0.5).view(width, PLACE_WIDTH)


def _coverage(labels: Tensor | None, structures: Sequence[int], grid: tuple[int, int]) -> Tensor:
    """(S, M, N): the share of each patch that lies inside each structure."""
    if labels is None:
        raise PluginError("features: mask: expected a segmentation with the slices, got none")
    inside = torch.stack([labels == label for label in structures], dim=1).float()
    return nn.functional.adaptive_avg_pool2d(inside, grid).flatten(2)


def _inside(patches: Tensor, coverage: Tensor) -> Tensor:
    summed = coverage @ patches
    return torch.cat([summed, coverage.sum(dim=2, keepdim=True)], dim=2).flatten(1)
