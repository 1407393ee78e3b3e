"""The table of segmentation decoders, and how those of a task are built."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import nn

from anymc3d.errors import BackboneError, UsageError, did_you_mean
from anymc3d.models.decoders.eomt import EoMT
from anymc3d.models.decoders.nnunet import NnUNetDecoder
from anymc3d.models.vit import VisionTransformer

Builder = Callable[[VisionTransformer, int, int | None, torch.Generator], nn.Module]
"""(backbone, structures, queries or None, source of the initial values) -> decoder of one view."""


def _nnunet(
    backbone: VisionTransformer, num_classes: int, num_queries: int | None, generator: torch.Generator
) -> nn.Module:
    return NnUNetDecoder(backbone.embed_dim, num_classes, generator)


def _eomt(
    backbone: VisionTransformer,
    num_classes: int,
    num_queries: int | None,
    generator: torch.Generator,
    *,
    is_3d: bool,
) -> nn.Module:
    return EoMT(
        width=backbone.embed_dim,
        depth=backbone.config.depth,
        patch_size=backbone.patch_size,
        num_classes=num_classes,
        num_queries=num_queries,
        is_3d=is_3d,
        generator=generator,
    )


DECODERS: dict[str, Builder] = {
    "nnunet": _nnunet,
    "eomt-2d": partial(_eomt, is_3d=False),
    "eomt-3d": partial(_eomt, is_3d=True),
}


OWN = "own"
"""In place of a decoder's name: what the authors of a network of the zoo train on masks (``ZooEntry.branch``)."""


def check_name(name: str) -> None:
    """Check that a decoder, ``own`` or ``none``, has this name.

    Raises:
        UsageError: with the nearest known one.
    """
    known = ("none", *DECODERS, OWN)
    if name not in known:
        raise UsageError(f"segmentation: unknown decoder {name!r}{did_you_mean(name, known)}")


def check_backbone(backbone: nn.Module, name: str) -> None:
    """Check that a backbone has what decoders read: patch tokens, and blocks that queries can pass through.

    Raises:
        BackboneError: it has not.
    """
    if not isinstance(backbone, VisionTransformer):
        raise BackboneError(
            f"segmentation needs the patch tokens of a ViT such as DINOv2, DINOv3 or CLIP, {name} has none that fit; "
            "use such a backbone, or segmentation: none"
        )


def build_decoders(
    name: str,
    backbone: VisionTransformer,
    *,
    views: Sequence[str],
    num_classes: int,
    num_queries: int | None = None,
    seed: int = 0,
) -> dict[str, nn.Module]:
    """View -> its own decoder. Their initial values come from ``seed`` and take nothing from any other draw."""
    generator = torch.Generator().manual_seed(seed)
    return {view: DECODERS[name](backbone, num_classes, num_queries, generator) for view in views}
