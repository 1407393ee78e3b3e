"""A 2D network on groups of neighbouring slices and a recurrent network over them: the RSNA Kaggle winners.

``rsna_kaggle``: what the paper compares with (supplement C1; METHODS 5.2), EfficientNetV2-S and the recurrent head of
the 2022 winner on the triplets of the 2023 winner.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from anymc3d.models.backbones import IMAGENET_MEAN, IMAGENET_STD
from anymc3d.models.classifier import Encoding, to_backbone_input
from anymc3d.models.fusion import pad_cases
from anymc3d.models.zoo.efficientnet import EfficientNet
from anymc3d.models.zoo.entry import ZooEntry
from anymc3d.models.zoo.recipe import Recipe
from anymc3d.models.zoo.volumes import check_volume, packed

IMAGENET = Encoding(mean=IMAGENET_MEAN, std=IMAGENET_STD)


def max_over_slices(logits: Tensor, mask: Tensor) -> Tensor:
    """(B, S, K) -> (B, K): the largest logit of the real slices."""
    return logits.masked_fill(~mask.unsqueeze(-1), -math.inf).amax(dim=1)


def triplets(slices: Tensor, counts: tuple[int, ...]) -> tuple[Tensor, tuple[int, ...]]:
    """Three neighbouring slices as the three channels, without overlap; a case's last slice fills its last triplet.

    (sum(S), 1, H, W) -> (sum(T), 3, H, W) and the number of triplets T of each case, S / 3 rounded up. Slices of three
    channels already (three windows) are taken one by one, as they are.
    """
    if slices.shape[1] == 3:
        return slices, counts
    starts = [sum(counts[:case]) for case in range(len(counts))]
    index = [
        [start + min(first + offset, count - 1) for offset in range(3)]
        for start, count in zip(starts, counts, strict=True)
        for first in range(0, count, 3)
    ]
    chosen = slices[torch.tensor(index, device=slices.device), 0]
    return chosen, tuple(-(-count // 3) for count in counts)


class SliceRNN(nn.Module):
    """Volume (B, C, S, H, W) -> groups of slices -> embeddings -> LSTM -> logits per group -> logits (B, K).

    Any number of slices of any size; padded ones are left out before anything looks at them.

    Args:
        encoder: images (N, 3, H, W) to embeddings (N, ``embed_dim``).
        in_channels: C.
        lstm: over the embeddings of a case, bidirectional and batch first.
        head: states (N, 2 * hidden) to logits (N, K); with batch norm in it, training needs two groups in a batch.
        pool: logits (B, T, K) and the mask of the real groups (B, T) to logits (B, K).
    """

    def __init__(
        self,
        encoder: nn.Module,
        in_channels: int,
        *,
        lstm: nn.LSTM,
        head: nn.Module,
        pool: Callable[[Tensor, Tensor], Tensor] = max_over_slices,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.encoder, self.lstm, self.head = encoder, lstm, head
        self.pool = pool

    def forward(self, volume: Tensor, slice_mask: Tensor) -> Tensor:
        """(B, C, S, H, W) and (B, S) -> logits (B, K)."""
        return self.pool(*self.group_logits(volume, slice_mask))

    def group_logits(self, volume: Tensor, slice_mask: Tensor) -> tuple[Tensor, Tensor]:
        """The logits of every group (B, T, K) and which groups are real (B, T)."""
        check_volume(volume, slice_mask, self.in_channels)
        groups, counts = triplets(*packed(volume, slice_mask))
        embeddings, mask = pad_cases(self.encoder(to_backbone_input(groups, 1, IMAGENET)), counts)
        states = read(self.lstm, embeddings, counts)
        logits, _ = pad_cases(self.head(states[mask]), counts)
        return logits, mask


def read(lstm: nn.LSTM, embeddings: Tensor, counts: tuple[int, ...]) -> Tensor:
    """States (B, T, 2 * hidden) of an LSTM that reads the real items of each case only, in both directions."""
    sequence = pack_padded_sequence(
        embeddings, torch.tensor(counts, device="cpu"), batch_first=True, enforce_sorted=False
    )
    return pad_packed_sequence(lstm(sequence)[0], batch_first=True)[0]


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
    """The paper's reimplementation; ``encoder`` and ``hidden`` for tests. Pools by the maximum (METHODS 14, row 24)."""
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
