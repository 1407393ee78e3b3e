"""The RSNA 2023 winner (abdominal trauma; METHODS 5.4): both of its encoders, without the branch that segments.

Triplets of slices through a 2D network, a recurrent layer in both directions, a linear map for every triplet; the
largest answer counts.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

from anymc3d.models.classifier import to_backbone_input
from anymc3d.models.zoo.coat import CoaTLite
from anymc3d.models.zoo.efficientnet import EfficientNet
from anymc3d.models.zoo.entry import ZooEntry
from anymc3d.models.zoo.recipe import Recipe
from anymc3d.models.zoo.slice_rnn import AS_THEY_ARE, SliceRNN, triplets
from anymc3d.models.zoo.volumes import Sizes

NUM_SLICES = 96
DROPOUT = 0.1


def rsna2023_coat(num_logits: int, in_channels: int, *, encoder: CoaTLite | None = None) -> SliceRNN:
    """CoaT-Lite-Medium and a GRU half as wide as its embeddings; ``encoder`` for tests."""
    encoder = CoaTLite() if encoder is None else encoder
    gru = nn.GRU(encoder.embed_dim, encoder.embed_dim // 2, bidirectional=True, batch_first=True)
    prepare = partial(to_backbone_input, patch_size=CoaTLite.multiple, encoding=AS_THEY_ARE)
    return _classifier(encoder, num_logits, in_channels, gru, prepare)


def rsna2023_efficientnet(num_logits: int, in_channels: int, *, encoder: EfficientNet | None = None) -> SliceRNN:
    """EfficientNetV2-S and an LSTM half as wide as its embeddings; ``encoder`` for tests."""
    encoder = EfficientNet() if encoder is None else encoder
    lstm = nn.LSTM(encoder.embed_dim, encoder.embed_dim // 2, bidirectional=True, batch_first=True)
    return _classifier(encoder, num_logits, in_channels, lstm, Tensor.float)


def _classifier(
    encoder: CoaTLite | EfficientNet,
    num_logits: int,
    in_channels: int,
    recurrent: nn.LSTM | nn.GRU,
    prepare: Callable[[Tensor], Tensor],
) -> SliceRNN:
    head = nn.Sequential(nn.Dropout(DROPOUT), nn.Linear(2 * recurrent.hidden_size, num_logits))
    group = partial(triplets, most=NUM_SLICES)
    return SliceRNN(encoder, in_channels, lstm=recurrent, head=head, group=group, prepare=prepare)


LICENCE = "Apache-2.0 (winner)"
CITATION = "RSNA 2023 Abdominal Trauma Detection, first place, github.com/Nischaydnk/RSNA-2023-1st-place-solution"
NOTES = (
    "triplets of at most 96 equally spaced slices, or three windows where there are three; values as they are, without "
    "ImageNet's mean; trained on the largest triplet, where the winner's labels follow the visible part of each organ; "
    "not here: the branch that segments and its loss, the segmentation stage, ensembles"
)

ENTRIES = (
    ZooEntry(
        name="rsna2023-coat",
        title="RSNA 2023 first place, CoaT-Lite-Medium",
        builder=lambda logits, channels, _: rsna2023_coat(logits, channels),
        kind="slices",
        weights="CoaT-Lite-Medium of ImageNet (coat_lite_medium_384.in1k)",
        licence=f"{LICENCE}, Apache-2.0 (CoaT)",
        citation=CITATION,
        sizes=Sizes(rule="resize in plane", multiple=(1, CoaTLite.multiple, CoaTLite.multiple)),
        recipe=Recipe(lr=1e-4, weight_decay=1e-6, loss="cross-entropy"),
        notes=f"{NOTES}; the GRU of 256 of its first models, some have 512",
    ),
    ZooEntry(
        name="rsna2023-efficientnet",
        title="RSNA 2023 first place, EfficientNetV2-S",
        builder=lambda logits, channels, _: rsna2023_efficientnet(logits, channels),
        kind="slices",
        weights="EfficientNetV2-S of ImageNet (tf_efficientnetv2_s.in21k_ft_in1k)",
        licence=f"{LICENCE}, Apache-2.0 (weights)",
        citation=CITATION,
        recipe=Recipe(lr=2e-4, weight_decay=1e-6, loss="cross-entropy"),
        notes=f"{NOTES}; an LSTM as in its code, the write-up says GRU",
    ),
)
