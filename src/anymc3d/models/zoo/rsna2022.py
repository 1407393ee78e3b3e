"""The RSNA 2022 winner (cervical spine fractures; METHODS 5.3): its classifier of one region, "type 1".

Equally spaced slices, each with its neighbours as channels, through EfficientNetV2-S; an LSTM in both directions; a
head for every slice. Written from the write-up; the public code has no licence.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from anymc3d.models.zoo.efficientnet import EfficientNet
from anymc3d.models.zoo.entry import ZooEntry
from anymc3d.models.zoo.recipe import Recipe
from anymc3d.models.zoo.slice_rnn import SliceRNN, equally_spaced, mean_over_slices, mlp_head, stacked

NUM_SLICES, REACH = 15, 2
CHANNELS = 2 * REACH + 1


def with_neighbours(slices: Tensor, counts: Sequence[int]) -> tuple[Tensor, tuple[int, ...]]:
    """15 equally spaced slices of each case (all of a shorter one), each between its two neighbours on either side.

    (sum(S), 1, H, W) -> (sum(T), 5, H, W) and the number T of each case; beyond its ends a case repeats its first and
    last slice.
    """

    def images_of(count: int) -> list[list[int]]:
        steps = range(-REACH, REACH + 1)
        return [[min(max(place + step, 0), count - 1) for step in steps] for place in equally_spaced(count, NUM_SLICES)]

    return stacked(slices, counts, images_of)


def rsna2022(num_logits: int, *, encoder: EfficientNet | None = None, hidden: int = 256) -> SliceRNN:
    """The type 1 classifier; ``encoder`` (of five channels) and ``hidden`` for tests."""
    encoder = EfficientNet(CHANNELS) if encoder is None else encoder
    lstm = nn.LSTM(encoder.embed_dim, hidden, num_layers=2, bidirectional=True, batch_first=True)
    return SliceRNN(
        encoder,
        1,
        lstm=lstm,
        head=mlp_head(2 * hidden, 256, num_logits),
        pool=mean_over_slices,
        group=with_neighbours,
        prepare=Tensor.float,
    )


ENTRIES = (
    ZooEntry(
        name="rsna2022",
        title="RSNA 2022 first place",
        builder=lambda logits, _, __: rsna2022(logits),
        kind="slices",
        weights="EfficientNetV2-S of ImageNet (tf_efficientnetv2_s.in21k_ft_in1k), its stem repeated to five channels",
        licence="Apache-2.0 (weights), none stated (winner's code; written anew from the write-up)",
        citation="RSNA 2022 Cervical Spine Fracture Detection, first place (Qishen Ha), Kaggle discussion 362607",
        channels=(1,),
        recipe=Recipe(lr=2.3e-4, weight_decay=1e-2, loss="cross-entropy"),
        notes="type 1 without the mask as a sixth channel: crop to the region instead; trained on the mean logit of "
        "the slices, where the winner repeats the label for each; not here: its segmentation stage, mix-up, shuffled "
        "slices, and type 2, which needs seven vertebrae; training needs two slices in a batch; weight decay: the "
        "default of AdamW, none is published",
    ),
)
