"""One pass of a frozen backbone over the slices of one case: the parts of every representation that is asked for.

Training keeps them in a cache, prediction hands them to every frozen plugin that sees the same slices.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from anymc3d.models.chunked_rows import ChunkedRows
from anymc3d.models.classifier import (
    Encoding,
    PackedSlices,
    VolumeClassifier,
    grid_of,
    run_backbone,
    to_backbone_input,
)
from anymc3d.models.features import pool_masks, read_parts, representation


@dataclass(frozen=True, kw_only=True)
class Pass:
    """What is asked of the backbone: the representations, and the labels of the masks that some pool over."""

    features: tuple[str, ...] = ("class",)
    structures: tuple[int, ...] = ()

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts of all of them, each once."""
        return tuple(dict.fromkeys(part for name in self.features for part in representation(name).parts))

    @property
    def needs_mask(self) -> bool:
        """Whether a case without a mask cannot be asked."""
        return any(representation(name).needs_mask for name in self.features)


def frozen_parts(
    encoder: VolumeClassifier,
    backbone: nn.Module,
    view: str,
    packed: PackedSlices,
    encoding: Encoding,
    wanted: Pass,
) -> dict[str, Tensor]:
    """One pass over the slices of one view of one case -> part -> (S, width), or (1, width) of the whole scan.

    ``encoder`` says how slices go in; its weights are not used.
    """
    size = encoding.chunk_size
    labels = None if packed.labels is None else packed.labels.split(size)
    weights = encoder.adapted_weights(backbone, view, encoding.dtype)
    rows_of = {part: ChunkedRows(sum(packed.counts)) for part in wanted.parts}
    for number, chunk in enumerate(encoder.chunks(view, packed, size)):
        images = to_backbone_input(chunk, backbone.patch_size, encoder.seen_as(view, encoding))
        chunk_labels = None if labels is None else labels[number]
        call = partial(run_backbone, backbone, weights, images, encoding)
        parts = read_parts(backbone, call, wanted.parts, grid_of(images, backbone), chunk_labels, wanted.structures)
        for part, rows in parts.items():
            rows_of[part].add(rows)
    whole = {part: rows.whole() for part, rows in rows_of.items()}
    if "place" in whole:
        whole["place"] = whole["place"].mean(dim=0, keepdim=True)
    if "mask" in whole:
        whole["mask"] = pool_masks(whole["mask"], len(wanted.structures))
    return whole


def tokens_of(features: str, parts: Mapping[str, Tensor]) -> Tensor:
    """The rows of one representation: (S, D), or (1, D) of the whole scan."""
    return torch.cat([parts[part] for part in representation(features).parts], dim=1)
