"""The RSNA 2024 winner (lumbar spine): slices through a 2D network, an LSTM, attention over its states.

Written from the write-up; no complete code with a licence is published.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from anymc3d.models.classifier import to_backbone_input
from anymc3d.models.decoders.interface import MaskTarget
from anymc3d.models.fusion import pad_cases
from anymc3d.models.recurrent_fusion import LSTMAttention
from anymc3d.models.zoo.convnext import SMALL_DEPTHS, ConvNeXt
from anymc3d.models.zoo.efficientnet import EfficientNet
from anymc3d.models.zoo.entry import ZooEntry
from anymc3d.models.zoo.objective import Answers, Branch, Lesson, largest_slice
from anymc3d.models.zoo.recipe import Recipe
from anymc3d.models.zoo.slice_rnn import IMAGENET
from anymc3d.models.zoo.volumes import Sizes, check_volume, packed

DROPOUT = 0.1
CONVNEXT_MULTIPLE = 32


class SliceAttention(nn.Module):
    """Volume (B, C, S, H, W) -> slices -> embeddings -> LSTM and attention -> logits (B, K).

    Any number of slices; padded ones are left out before anything looks at them.

    Args:
        encoder: images (N, 3, H, W) to embeddings (N, ``embed_dim``).
        num_logits: K.
        in_channels: C.
        multiple: H and W are enlarged to its multiples.
        generator: of the initial values of the LSTM and its attention.
    """

    def __init__(
        self, encoder: nn.Module, num_logits: int, in_channels: int, *, multiple: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.in_channels, self.multiple = in_channels, multiple
        self.encoder = encoder
        self.fusion = LSTMAttention(encoder.embed_dim, generator, dropout=DROPOUT)
        self.head = nn.Linear(encoder.embed_dim, num_logits)
        self.statistics = IMAGENET

    def forward(self, volume: Tensor, slice_mask: Tensor) -> Tensor:
        """(B, C, S, H, W) and (B, S) -> logits (B, K)."""
        states, mask = self._states(volume, slice_mask)
        return self._answer(states, mask)

    def lesson(
        self, volume: Tensor, slice_mask: Tensor, masks: Sequence[MaskTarget | None], branch: Branch | None
    ) -> Lesson:
        """See :class:`anymc3d.models.zoo.objective.Teaching`: the branch learns to point at the slice with most of the
        region."""
        states, mask = self._states(volume, slice_mask)
        logits = self._answer(states, mask)
        if branch is None:
            return Lesson(logits, Answers.none(logits))
        scores = branch(states).float().masked_fill(~mask, -math.inf)
        true = {case: largest_slice(target) for case, target in enumerate(masks) if target is not None}
        losses = {case: -scores[case].log_softmax(dim=0)[place] for case, place in true.items()}
        return Lesson(logits, Answers.none(logits), losses)

    def _states(self, volume: Tensor, slice_mask: Tensor) -> tuple[Tensor, Tensor]:
        check_volume(volume, slice_mask, self.in_channels)
        slices, counts = packed(volume, slice_mask)
        embeddings, mask = pad_cases(self.encoder(to_backbone_input(slices, self.multiple, self.statistics)), counts)
        return self.fusion.states(embeddings, mask), mask

    def _answer(self, states: Tensor, mask: Tensor) -> Tensor:
        return self.head(self.fusion.attend(states, mask).embedding)


class Pointer(Branch):
    """The auxiliary attention: states (B, S, D) to scores (B, S) of its own, apart from those that pool."""

    def __init__(self, width: int, num_structures: int) -> None:
        super().__init__(num_structures)
        self.score = nn.Linear(width, 1, bias=False)

    def forward(self, states: Tensor) -> Tensor:
        return self.score(states.tanh()).squeeze(-1)

    def learns_from(self, target: MaskTarget) -> bool:
        return self.knows_region(target)


def rsna2024_convnext(
    num_logits: int, in_channels: int, generator: torch.Generator, *, encoder: ConvNeXt | None = None
) -> SliceAttention:
    """ConvNeXt-small without drop path, as where it is finetuned; ``encoder`` for tests."""
    encoder = ConvNeXt(2, 3, depths=SMALL_DEPTHS, drop_path=0.0) if encoder is None else encoder
    return SliceAttention(encoder, num_logits, in_channels, multiple=CONVNEXT_MULTIPLE, generator=generator)


def rsna2024_efficientnet(
    num_logits: int, in_channels: int, generator: torch.Generator, *, encoder: EfficientNet | None = None
) -> SliceAttention:
    """EfficientNetV2-S; ``encoder`` for tests."""
    encoder = EfficientNet() if encoder is None else encoder
    return SliceAttention(encoder, num_logits, in_channels, multiple=1, generator=generator)


RECIPE = Recipe(lr=1e-4, mask_weight=0.1, view_weight=0.1, objective=2)
CITATION = "RSNA 2024 Lumbar Spine Degenerative Classification, first place (wadakoki), Kaggle write-up"
NOTES = (
    "every slice of the view is one image (the winner has five around a predicted centre: crop to the region); "
    "ImageNet's mean and std; attention without a bias, which a softmax would not see; with masks (segmentation: own) "
    "an auxiliary attention learns which slice has most of the region; with several views each view's answer is "
    "trained beside their mean; no recipe is published: AdamW at 1e-4, auxiliary losses by 0.1"
)
LEFT_OUT = (
    "the localisation stages, whose part a region of interest takes; five slices about the predicted centre, shifted "
    "at random in training, for which the task's augmentation stands; the mean of folds and encoders"
)

ENTRIES = (
    ZooEntry(
        name="rsna2024-convnext",
        title="RSNA 2024 first place, ConvNeXt-small",
        builder=rsna2024_convnext,
        kind="slices",
        weights="ConvNeXt-small of ImageNet",
        licence="MIT (ConvNeXt); the winner's code is not published, written from the write-up",
        citation=CITATION,
        sizes=Sizes(rule="resize in plane", multiple=(1, CONVNEXT_MULTIPLE, CONVNEXT_MULTIPLE)),
        recipe=RECIPE,
        branch=lambda network, structures: Pointer(network.fusion.out_dim, structures),
        left_out=LEFT_OUT,
        notes=NOTES,
    ),
    ZooEntry(
        name="rsna2024-efficientnet",
        title="RSNA 2024 first place, EfficientNetV2-S",
        builder=rsna2024_efficientnet,
        kind="slices",
        weights="EfficientNetV2-S of ImageNet (tf_efficientnetv2_s.in21k_ft_in1k)",
        licence="Apache-2.0 (weights); the winner's code is not published, written from the write-up",
        citation=CITATION,
        recipe=RECIPE,
        branch=lambda network, structures: Pointer(network.fusion.out_dim, structures),
        left_out=LEFT_OUT,
        notes=NOTES,
    ),
)
