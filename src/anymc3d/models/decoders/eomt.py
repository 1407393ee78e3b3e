"""EoMT: queries that read the last four blocks of the backbone (tue-mps/eomt, ``models/eomt.py``).

Each query is one segment: a class (background, a structure, or none) and a mask, the product of its embedding with the
enlarged patch tokens. ``eomt-2d`` has segments of a slice; ``eomt-3d`` (not published, ours) of the whole volume: after
each block a query becomes its mean over the slices, and the patch tokens are enlarged by 3D blocks.

In training a query may look only at the patches of its own last mask; this is given up block by block, each over a
sixth of the training, with the probability (1 - t)^0.9, so that use needs no masks. Unlike the public code, the image
never looks at the queries: the class token, and so the classifier, is the same without them.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, gelu, interpolate, pad

from anymc3d.models.decoders.interface import CaseTokens, MaskTarget, Schedule
from anymc3d.models.decoders.matching import matching_loss

NUM_BLOCKS = 4
POWER = 0.9
QUERIES_PER_CLASS, LEAST_QUERIES = 4, 16


class Segments(NamedTuple):
    """I items, slices or one volume, of s slices each. ``classes`` (I, Q, 1 + C + 1): background, structures, none.
    ``masks`` (I, Q, s, h, w): logits."""

    classes: Tensor
    masks: Tensor


class EoMT(nn.Module):
    """``depth``: the backbone's blocks. ``num_queries``: None = four per structure, at least 16."""

    def __init__(
        self,
        *,
        width: int,
        depth: int,
        patch_size: int,
        num_classes: int,
        num_queries: int | None,
        is_3d: bool,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.is_3d = is_3d
        self.blocks = tuple(range(max(0, depth - NUM_BLOCKS), depth))
        number = num_queries or max(LEAST_QUERIES, QUERIES_PER_CLASS * num_classes)
        self.queries = nn.Parameter(torch.randn(number, width, generator=generator))
        self.kind = nn.Linear(width, 1 + num_classes + 1)
        self.mask = nn.ModuleList(nn.Linear(width, width) for _ in range(3))
        doublings = max(1, int(math.log2(patch_size)) - 2)
        self.scale = nn.ModuleList(_ScaleBlock(width, is_3d) for _ in range(doublings))
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.ConvTranspose3d | nn.Conv3d):
                nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5), generator=generator)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, tokens: CaseTokens, schedule: Schedule | None = None) -> list[Segments]:
        """The segments after the last block; in training, before them those before each block."""
        num_slices = tokens.patches.shape[0]
        queries = self.queries.expand(num_slices, -1, -1)
        outputs = []
        for index, block in enumerate(self.blocks):
            allowed = None
            if schedule is not None:
                outputs.append(self._segments(tokens.norm(queries), tokens.before[block]))
                allowed = self._allowed(outputs[-1], tokens, annealed(schedule.progress, index), schedule.draws)
            queries = tokens.read(block, queries, allowed)
            if self.is_3d:
                queries = queries.mean(dim=0, keepdim=True).expand(num_slices, -1, -1)
        return [*outputs, self._segments(tokens.norm(queries), tokens.patches)]

    def loss(self, output: list[Segments], target: MaskTarget, schedule: Schedule) -> Tensor:
        """The mean over all outputs, so that the weight of the loss means the same for every decoder."""
        losses = [matching_loss(segments.classes, segments.masks, target, schedule.draws) for segments in output]
        return torch.stack(losses).mean()

    def probabilities(self, output: list[Segments], size: tuple[int, int]) -> Tensor:
        """The sum over queries of class times mask, divided by its sum over the classes."""
        classes = output[-1].classes.float().softmax(dim=-1)[..., :-1]
        masks = output[-1].masks.float()
        slices = []
        for item, of_item in enumerate(masks):
            for mask in of_item.unbind(dim=1):
                full = interpolate(mask.unsqueeze(0), size=size, mode="bilinear", align_corners=False)[0].sigmoid()
                slices.append(torch.einsum("qk,qhw->khw", classes[item], full))
        scores = torch.stack(slices, dim=1)
        return scores / scores.sum(dim=0, keepdim=True).clamp_min(1e-12)

    def _segments(self, queries: Tensor, patches: Tensor) -> Segments:
        """Normalised queries (S, Q, D) and patch tokens (S, D, gh, gw)."""
        queries = queries[:1] if self.is_3d else queries
        embedding = queries
        for index, layer in enumerate(self.mask):
            embedding = layer(embedding if index == 0 else gelu(embedding))
        # Slices are items of their own, or the depth of one item.
        pixels = patches.transpose(0, 1).unsqueeze(0) if self.is_3d else patches.unsqueeze(2)
        for block in self.scale:
            pixels = block(pixels)
        return Segments(self.kind(queries).float(), torch.einsum("iqd,idshw->iqshw", embedding, pixels).float())

    def _allowed(
        self, segments: Segments, tokens: CaseTokens, probability: float, draws: torch.Generator
    ) -> Tensor | None:
        """Which tokens each query may look at, (S, Q, Q + prefix + patches); None = all."""
        open_queries = torch.rand(self.queries.shape[0], generator=draws) >= probability
        if open_queries.all():
            return None
        rows, columns = tokens.patches.shape[-2:]
        masks = segments.masks.detach().transpose(1, 2).flatten(0, 1)  # (S, Q, h, w)
        coarse = interpolate(masks, size=(rows, columns), mode="bilinear", align_corners=False).flatten(2) > 0
        inside = coarse | open_queries.to(coarse.device)[:, None]
        others = inside.new_ones(inside.shape[0], inside.shape[1], inside.shape[1] + tokens.num_prefix_tokens)
        return torch.cat([others, inside], dim=-1)


class _ScaleBlock(nn.Module):
    """Twice as fine in the plane: (I, D, s, h, w) -> (I, D, s, 2 h, 2 w). In 2D no kernel reaches between slices."""

    def __init__(self, width: int, is_3d: bool) -> None:
        super().__init__()
        self.enlarge = nn.ConvTranspose3d(width, width, kernel_size=(1, 2, 2), stride=(1, 2, 2))
        deep = 3 if is_3d else 1
        kernel, padding = (deep, 3, 3), (deep // 2, 1, 1)
        self.smooth = nn.Conv3d(width, width, kernel, padding=padding, groups=width, bias=False)
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, pixels: Tensor) -> Tensor:
        smooth = depthwise(gelu(self.enlarge(pixels)), self.smooth.weight)
        return self.norm(smooth.movedim(1, -1)).movedim(-1, 1)


def depthwise(pixels: Tensor, weight: Tensor) -> Tensor:
    """What a depthwise 3D convolution of ``weight`` (D, 1, k, 3, 3) makes of (I, D, s, h, w), padded with zeros.

    As k 2D convolutions of which each looks at another slice: several times faster on a CPU in the backward pass.
    """
    num_slices, reach = pixels.shape[2], weight.shape[2] // 2
    slices = pixels.transpose(1, 2).flatten(0, 1)
    total = torch.zeros_like(pixels)
    for offset in range(-reach, reach + 1):
        kernel = weight[:, :, offset + reach]
        convolved = (
            conv2d(slices, kernel, padding=1, groups=kernel.shape[0]).unflatten(0, (-1, num_slices)).transpose(1, 2)
        )
        first, last = max(0, offset), num_slices + min(0, offset)
        if first < last:
            total = total + pad(convolved[:, :, first:last], (0, 0, 0, 0, first - offset, num_slices - last + offset))
    return total


def annealed(progress: float, index: int) -> float:
    """The probability that a query is masked in the ``index``-th block it passes, at ``progress`` of the training."""
    begin, end = (index + 1) / (NUM_BLOCKS + 2), (index + 2) / (NUM_BLOCKS + 2)
    progress_here = min(max((progress - begin) / (end - begin), 0.0), 1.0)
    return (1.0 - progress_here) ** POWER
