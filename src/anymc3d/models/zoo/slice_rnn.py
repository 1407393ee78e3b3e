"""A 2D network on groups of neighbouring slices and a recurrent network over them: the RSNA Kaggle winners.

``rsna_kaggle``: what the paper compares with (supplement C1; docs/methods.md), EfficientNetV2-S and the recurrent head
of the 2022 winner on the triplets of the 2023 winner.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from anymc3d.models.backbones import IMAGENET_MEAN, IMAGENET_STD
from anymc3d.models.classifier import Encoding, to_backbone_input
from anymc3d.models.fusion import pad_cases
from anymc3d.models.recurrent_fusion import read
from anymc3d.models.zoo.efficientnet import EfficientNet
from anymc3d.models.zoo.entry import ZooEntry
from anymc3d.models.zoo.recipe import Recipe
from anymc3d.models.zoo.volumes import check_volume, packed

IMAGENET = Encoding(mean=IMAGENET_MEAN, std=IMAGENET_STD)
AS_THEY_ARE = Encoding(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))

Places = list[list[int]]
"""Of the slices that make up each image of a case, the same number for every image."""

Grouping = Callable[[int, int], Places]
"""(slices of a case, channels C of a slice) -> which slices make up each image."""


def take_as_they_are(network: nn.Module) -> None:
    """Leave ImageNet's mean and standard deviation out of a network that takes them out itself; others have none."""
    for module in network.modules():
        if hasattr(module, "statistics"):
            module.statistics = AS_THEY_ARE


def max_over_slices(logits: Tensor, mask: Tensor) -> Tensor:
    """(B, S, K) -> (B, K): the largest logit of the real slices."""
    return logits.masked_fill(~mask.unsqueeze(-1), -math.inf).amax(dim=1)


def mean_over_slices(logits: Tensor, mask: Tensor) -> Tensor:
    """(B, S, K) -> (B, K): the mean logit of the real slices."""
    return (logits * mask.unsqueeze(-1)).sum(dim=1) / mask.sum(dim=1, keepdim=True)


def equally_spaced(count: int, most: int | None) -> list[int]:
    """Places of at most ``most`` of ``count`` slices, place i at ``i * count / most`` rounded down; None = all."""
    if most is None or count <= most:
        return list(range(count))
    return [place * count // most for place in range(most)]


def stacked(slices: Tensor, counts: Sequence[int], cases: Sequence[Places]) -> Tensor:
    """Slices of a case behind each other as the channels of one image.

    (sum(S), C, H, W), the number of slices of each case, and which of them make up its images ->
    (sum(T), places * C, H, W).
    """
    starts = [sum(counts[:case]) for case in range(len(counts))]
    pairs = zip(starts, cases, strict=True)
    index = [[start + place for place in image] for start, images in pairs for image in images]
    return slices[torch.tensor(index, device=slices.device)].flatten(1, 2)


def triplets(count: int, channels: int, *, most: int | None = None) -> Places:
    """Three neighbouring slices as the three channels, without overlap; a case's last slice fills its last triplet.

    Of a case with more than ``most`` slices so many equally spaced ones are taken. Slices of three channels already
    (three windows) are taken one by one, as they are.
    """
    places = equally_spaced(count, most)
    if channels == 3:
        return [[place] for place in places]
    places += places[-1:] * (-len(places) % 3)
    return [places[first : first + 3] for first in range(0, len(places), 3)]


class SliceRNN(nn.Module):
    """Volume (B, C, S, H, W) -> groups of slices -> embeddings -> LSTM -> logits per group -> logits (B, K).

    Any number of slices of any size; padded ones are left out before anything looks at them.

    Args:
        encoder: images (N, 3, H, W) to embeddings (N, ``embed_dim``).
        in_channels: C.
        lstm: over the embeddings of a case, bidirectional and batch first; a GRU too.
        head: states (N, 2 * hidden) to logits (N, K); with batch norm in it, training needs two groups in a batch.
        pool: logits (B, T, K) and the mask of the real groups (B, T) to logits (B, K).
        group: which slices make up the encoder's images.
        prepare: those images to what the encoder's weights expect; None: ImageNet's mean and standard deviation.
    """

    def __init__(
        self,
        encoder: nn.Module,
        in_channels: int,
        *,
        lstm: nn.LSTM | nn.GRU,
        head: nn.Module,
        pool: Callable[[Tensor, Tensor], Tensor] = max_over_slices,
        group: Grouping = triplets,
        prepare: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.encoder, self.lstm, self.head = encoder, lstm, head
        self.pool, self.group, self.prepare = pool, group, prepare
        self.statistics = IMAGENET

    def forward(self, volume: Tensor, slice_mask: Tensor) -> Tensor:
        """(B, C, S, H, W) and (B, S) -> logits (B, K)."""
        return self.pool(*self.group_logits(volume, slice_mask))

    def group_logits(self, volume: Tensor, slice_mask: Tensor) -> tuple[Tensor, Tensor]:
        """The logits of every group (B, T, K) and which groups are real (B, T)."""
        images, places = self.images(volume, slice_mask)
        return self.read(self.encoder(images), places)

    def images(self, volume: Tensor, slice_mask: Tensor) -> tuple[Tensor, list[Places]]:
        """What the encoder is given (sum(T), channels, H, W), and which slices of each case that is."""
        check_volume(volume, slice_mask, self.in_channels)
        slices, counts = packed(volume, slice_mask)
        places = [self.arrange(count) for count in counts]
        images = stacked(slices, counts, places)
        return (to_backbone_input(images, 1, self.statistics) if self.prepare is None else self.prepare(images)), places

    def arrange(self, count: int) -> Places:
        """Which of a case's slices make up each image, in the order in which they are read."""
        return self.group(count, self.in_channels)

    def read(self, embeddings: Tensor, places: Sequence[Places]) -> tuple[Tensor, Tensor]:
        """Embeddings (sum(T), D) to the logits of every group (B, T, K) and which groups are real (B, T)."""
        counts = tuple(len(images) for images in places)
        padded, mask = pad_cases(embeddings, counts)
        states = read(self.lstm, padded, counts)
        logits, _ = pad_cases(self.head(states[mask]), counts)
        return logits, mask


def mlp_head(width: int, hidden: int, num_logits: int) -> nn.Sequential:
    """The head of the 2022 winner."""
    return nn.Sequential(
        nn.Linear(width, hidden),
        nn.BatchNorm1d(hidden),
        nn.Dropout(0.3),
        nn.LeakyReLU(0.1),
        nn.Linear(hidden, num_logits),
    )


def rsna_kaggle(
    num_logits: int, in_channels: int, *, encoder: EfficientNet | None = None, hidden: int = 256
) -> SliceRNN:
    """The paper's reimplementation; ``encoder`` and ``hidden`` for tests. Pools by the maximum (docs/method.md)."""
    encoder = EfficientNet() if encoder is None else encoder
    lstm = nn.LSTM(encoder.embed_dim, hidden, num_layers=2, bidirectional=True, batch_first=True)
    return SliceRNN(encoder, in_channels, lstm=lstm, head=mlp_head(2 * hidden, 256, num_logits))


ENTRIES = (
    ZooEntry(
        name="rsna-kaggle",
        title="RSNA-Kaggle",
        builder=lambda logits, channels, _: rsna_kaggle(logits, channels),
        kind="slices",
        weights="EfficientNetV2-S of ImageNet (tf_efficientnetv2_s.in21k_ft_in1k)",
        licence="Apache-2.0 (weights), Apache-2.0 (2023 winner)",
        citation="RSNA 2023 Abdominal Trauma Detection, first place, as rebuilt in arXiv 2512.12887, supplement C1",
        recipe=Recipe(lr=2e-4, weight_decay=1e-6),
        notes="three neighbouring slices are the channels, without overlap, or three windows where there are three; "
        "the largest logit of all slices; training needs two groups of slices in a batch",
    ),
)
