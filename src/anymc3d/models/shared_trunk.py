"""Several plugins over the same slices: each part of the backbone that they have in common is computed once.

Chunk by chunk: the trunk runs to the lowest seam, the plugins whose seam that is finish from there, and it runs on to
the next one. Plugins of different backbones share what is the same in both by its fingerprint. Frozen
plugins leave everything as it is, so one of them answers for all. A plugin that adapts the whole backbone starts from
the images. Every plugin gets what it would get alone; memory is that of one chunk and one set of adapted weights.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from anymc3d.models.chunked_rows import ChunkedRows
from anymc3d.models.classifier import (
    Encoding,
    PackedSlices,
    VolumeClassifier,
    compute_weights,
    run_backbone,
    to_backbone_input,
)
from anymc3d.models.first_products import FirstProducts
from anymc3d.models.mixed_batch import mixed_tokens
from anymc3d.models.seam import SEAM_DTYPE, TrunkTokens

FEW_TOKENS = 400
"""Of a chunk, up to which several plugins in one call are faster than one after the other
(``benchmarks/many_tasks.md``)."""


@dataclass(frozen=True, eq=False)
class Tail:
    """One view of one classifier, on its backbone.

    ``trunk``: block -> fingerprint of what the backbone computes before it, asked for in every chunk where backbones
    are several.
    """

    classifier: VolumeClassifier
    view: str
    backbone: nn.Module
    trunk: Callable[[int], str]

    @property
    def is_frozen(self) -> bool:
        return self.view not in self.classifier.lora

    @property
    def seam(self) -> int | None:
        """The block up to which others may compute for it; None = it needs the images."""
        if not self.is_frozen:
            return self.classifier.seam
        # The last block of a frozen one is left to it: it needs no more of it than the class token.
        return len(self.backbone.block_paths) - 1 if self.backbone.block_paths else None

    def class_tokens(
        self, start: Tensor | TrunkTokens, encoding: Encoding, common: FirstProducts | None = None
    ) -> Tensor:
        """(S, D) in float32, from images or from the trunk, whose tokens may not be rounded yet; ``common`` with others
        that start there, too."""
        weights = self.classifier.adapted_weights(self.backbone, self.view, encoding.dtype)
        if common is not None:
            weights |= common.weights(self.classifier.lora[self.view])
        start = start if self.is_frozen else at_seam(start)
        return run_backbone(self.backbone, weights, start, encoding, class_token_only=True).tokens[:, 0].float()


def encode_together(tails: Sequence[Tail], packed: PackedSlices, encoding: Encoding) -> list[Tensor]:
    """Class tokens (sum(S), D) in float32 of the same slices, for each of ``tails`` in order.

    All must take one channel or the slices beside it (2.5D) alike, and the backbone's mean and standard deviation.
    """
    if packed.slices.shape[0] == 0:
        return [packed.slices.new_zeros((0, tail.backbone.embed_dim), dtype=torch.float32) for tail in tails]
    first = tails[0]
    rows_of = [ChunkedRows(packed.slices.shape[0]) for _ in tails]
    for chunk in first.classifier.chunks(first.view, packed, encoding.chunk_size):
        images = to_backbone_input(chunk, first.backbone.patch_size, first.classifier.seen_as(first.view, encoding))
        for number, tokens in _of_chunk(images, tails, encoding).items():
            rows_of[number].add(tokens)
    return [rows.whole() for rows in rows_of]


def _of_chunk(images: Tensor, tails: Sequence[Tail], encoding: Encoding) -> dict[int, Tensor]:
    """Number of the tail -> class tokens of one chunk."""
    numbered = dict(enumerate(tails))
    tokens_of = _finished({number: tail for number, tail in numbered.items() if tail.seam is None}, images, encoding)
    return tokens_of | _onwards(
        {number: tail for number, tail in numbered.items() if tail.seam is not None}, images, encoding
    )


def _onwards(waiting: dict[int, Tail], start: Tensor | TrunkTokens, encoding: Encoding) -> dict[int, Tensor]:
    """From ``start``, where all of ``waiting`` are, to the end of each."""
    if not waiting:
        return {}
    seam = min(tail.seam for tail in waiting.values() if tail.seam is not None)
    tokens_of: dict[int, Tensor] = {}
    for group in _with_one_trunk(waiting, seam):
        backbone = next(iter(group.values())).backbone
        reached = run_backbone(backbone, compute_weights(backbone, {}, encoding.dtype), start, encoding, stop=seam)
        tokens_of |= _finished({n: tail for n, tail in group.items() if tail.seam == seam}, reached, encoding)
        tokens_of |= _onwards({n: tail for n, tail in group.items() if tail.seam != seam}, reached, encoding)
    return tokens_of


def _with_one_trunk(tails: dict[int, Tail], seam: int) -> list[dict[int, Tail]]:
    """Groups of tails whose backbones compute the same before block ``seam``."""
    modules = {id(tail.backbone) for tail in tails.values()}
    groups: dict[Hashable, dict[int, Tail]] = {}
    for number, tail in tails.items():
        groups.setdefault(tail.trunk(seam) if len(modules) > 1 else None, {})[number] = tail
    return list(groups.values())


def _finished(tails: dict[int, Tail], start: Tensor | TrunkTokens, encoding: Encoding) -> dict[int, Tensor]:
    """The answers of tails that need nothing more in common. Frozen ones on one backbone have one answer; of few slices
    several plugins go into one call, see ``anymc3d.models.mixed_batch``."""
    tokens_of: dict[int, Tensor] = {}
    groups: dict[tuple[int, bool], dict[int, Tail]] = {}
    for number, tail in tails.items():
        groups.setdefault((id(tail.backbone), tail.is_frozen), {})[number] = tail
    for (_, is_frozen), group in groups.items():
        if is_frozen:
            tokens_of |= dict.fromkeys(group, next(iter(group.values())).class_tokens(start, encoding))
        else:
            tokens_of |= _adapted(group, start, encoding)
    return tokens_of


def _adapted(group: dict[int, Tail], start: Tensor | TrunkTokens, encoding: Encoding) -> dict[int, Tensor]:
    """The answers of plugins on one backbone, from one start: one by one, or several in a call."""
    first = next(iter(group.values()))
    slices, tokens = _size(start, first.backbone.patch_size)
    # In bfloat16 W x + B A x is not (W + B A) x, and an answer must not depend on which other plugins run.
    can = tokens <= FEW_TOKENS and encoding.dtype == torch.float32
    together = max(1, encoding.chunk_size // slices) if can else 1
    numbers = list(group)
    start = at_seam(start)
    common = _common(group, start, encoding)
    tokens_of: dict[int, Tensor] = {}
    for begin in range(0, len(numbers), together):
        part = numbers[begin : begin + together]
        if len(part) == 1:
            tokens_of[part[0]] = group[part[0]].class_tokens(start, encoding, common)
        else:
            loras = [group[number].classifier.lora[group[number].view] for number in part]
            tokens_of |= dict(zip(part, mixed_tokens(first.backbone, loras, start, encoding), strict=True))
    return tokens_of


def _common(group: dict[int, Tail], start: Tensor | TrunkTokens, encoding: Encoding) -> FirstProducts | None:
    """What plugins that enter a block together compute once; of the last block each needs next to nothing."""
    backbone = next(iter(group.values())).backbone
    if len(group) == 1 or encoding.dtype != torch.float32 or not isinstance(start, TrunkTokens):
        return None
    return FirstProducts(backbone, start.block) if start.block < len(backbone.block_paths) - 1 else None


def _size(start: Tensor | TrunkTokens, patch_size: int) -> tuple[int, int]:
    """How many slices, and how many patches they have together."""
    if isinstance(start, TrunkTokens):
        return len(start.tokens), start.tokens.shape[0] * start.tokens.shape[1]
    return len(start), len(start) * (start.shape[-2] // patch_size) * (start.shape[-1] // patch_size)


def at_seam(start: Tensor | TrunkTokens) -> Tensor | TrunkTokens:
    """What an adapted block begins with: tokens rounded to float16, images as they are."""
    return start._replace(tokens=start.tokens.to(SEAM_DTYPE)) if isinstance(start, TrunkTokens) else start
