"""The RSNA 2022 winner (cervical spine fractures; docs/methods.md): its classifiers of one region ("type 1") and of the
patient ("type 2").

Equally spaced slices, each with its neighbours as channels, through a 2D network; an LSTM in both directions; a head
for every slice, trained on the label of the whole. Written from the write-up; the public code has no licence.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from anymc3d.models.decoders.interface import MaskTarget
from anymc3d.models.fusion import pad_cases
from anymc3d.models.recurrent_fusion import read
from anymc3d.models.zoo.convnext import ConvNeXt
from anymc3d.models.zoo.efficientnet import EfficientNet
from anymc3d.models.zoo.entry import ZooEntry
from anymc3d.models.zoo.objective import Answers, Branch, Lesson, joined
from anymc3d.models.zoo.recipe import Recipe
from anymc3d.models.zoo.slice_rnn import Places, SliceRNN, equally_spaced, mean_over_slices, mlp_head
from anymc3d.models.zoo.volumes import Sizes

NUM_SLICES, NUM_REGIONS, REACH = 15, 7, 2
CHANNELS = 2 * REACH + 1
SHUFFLE = 0.2
"""How often the order is shuffled in training: of the slices (type 1), of the regions (type 2)."""
CONVNEXT_MULTIPLE = 32
HIDDEN, HEAD_WIDTH = 256, 256


def with_neighbours(count: int, channels: int, *, most: int = NUM_SLICES) -> Places:
    """``most`` equally spaced slices of a case (all of a shorter one), each between its two neighbours on either side;
    beyond its ends a case repeats its first and last slice."""
    steps = range(-REACH, REACH + 1)
    return [[min(max(place + step, 0), count - 1) for step in steps] for place in equally_spaced(count, most)]


def shuffled(places: Places, *, region: int = 1) -> Places:
    """With a probability of ``SHUFFLE`` the images in another order, ``region`` neighbouring ones staying together."""
    if torch.rand(()) >= SHUFFLE:
        return places
    regions = [places[first : first + region] for first in range(0, len(places), region)]
    return [image for index in torch.randperm(len(regions)).tolist() for image in regions[index]]


class RegionRNN(SliceRNN):
    """Type 1: the mean logit of the slices answers; each slice is trained on the label of the volume."""

    def arrange(self, count: int) -> Places:
        places = super().arrange(count)
        return shuffled(places) if self.training else places

    def lesson(
        self, volume: Tensor, slice_mask: Tensor, masks: Sequence[MaskTarget | None], branch: Branch | None
    ) -> Lesson:
        """See :class:`anymc3d.models.zoo.objective.Teaching`; masks are not used."""
        logits, real = self.group_logits(volume, slice_mask)
        return Lesson(self.pool(logits, real), Answers.of_parts(logits, real))


class PatientRNN(SliceRNN):
    """Type 2: up to 7 x 15 slices; over the first LSTM's states a second LSTM and head, whose mean logit answers.

    Both heads are trained, 1:1 (docs/methods.md): each slice of the first on the label of the volume, as the winner
    trains it on that of its vertebra, and the mean of the second.
    """

    def __init__(self, encoder: nn.Module, num_logits: int, *, hidden: int) -> None:
        super().__init__(
            encoder,
            1,
            lstm=_lstm(encoder.embed_dim, hidden),
            head=mlp_head(2 * hidden, HEAD_WIDTH, num_logits),
            pool=mean_over_slices,
            group=partial(with_neighbours, most=NUM_REGIONS * NUM_SLICES),
            prepare=to_whole_patches,
        )
        self.lstm2, self.head2 = _lstm(2 * hidden, hidden), mlp_head(2 * hidden, HEAD_WIDTH, num_logits)

    def arrange(self, count: int) -> Places:
        places = super().arrange(count)
        return shuffled(places, region=NUM_SLICES) if self.training else places

    def forward(self, volume: Tensor, slice_mask: Tensor) -> Tensor:
        """(B, C, S, H, W) and (B, S) -> logits (B, K)."""
        states, mask = self._states(volume, slice_mask)
        return self._of_patient(states, mask)

    def lesson(
        self, volume: Tensor, slice_mask: Tensor, masks: Sequence[MaskTarget | None], branch: Branch | None
    ) -> Lesson:
        """See :class:`anymc3d.models.zoo.objective.Teaching`; masks are not used."""
        states, mask = self._states(volume, slice_mask)
        slices, _ = pad_cases(self.head(states[mask]), tuple(mask.sum(dim=1).tolist()))
        patient = self._of_patient(states, mask)
        halves = patient.new_full((len(patient),), 0.5)
        taught = joined([Answers.of_parts(slices, mask), Answers.of_cases(patient)])
        return Lesson(patient, taught.weighted(halves))

    def _states(self, volume: Tensor, slice_mask: Tensor) -> tuple[Tensor, Tensor]:
        """States of the first LSTM (B, T, 2 * hidden) and which slices are real (B, T)."""
        images, places = self.images(volume, slice_mask)
        counts = tuple(len(of_case) for of_case in places)
        embeddings, mask = pad_cases(self.encoder(images), counts)
        return read(self.lstm, embeddings, counts), mask

    def _of_patient(self, states: Tensor, mask: Tensor) -> Tensor:
        counts = tuple(mask.sum(dim=1).tolist())
        logits, _ = pad_cases(self.head2(read(self.lstm2, states, counts)[mask]), counts)
        return self.pool(logits, mask)


def to_whole_patches(images: Tensor) -> Tensor:
    """Images (N, C, H, W) with sides of whole multiples of 32, as ConvNeXt needs them (bilinear)."""
    size = tuple(-(-side // CONVNEXT_MULTIPLE) * CONVNEXT_MULTIPLE for side in images.shape[-2:])
    images = images.float()
    if size == tuple(images.shape[-2:]):
        return images
    return nn.functional.interpolate(images, size=size, mode="bilinear", align_corners=False)


def _lstm(width: int, hidden: int) -> nn.LSTM:
    return nn.LSTM(width, hidden, num_layers=2, bidirectional=True, batch_first=True)


def rsna2022(num_logits: int, *, encoder: EfficientNet | None = None, hidden: int = HIDDEN) -> RegionRNN:
    """The type 1 classifier; ``encoder`` (of five channels) and ``hidden`` for tests."""
    encoder = EfficientNet(CHANNELS) if encoder is None else encoder
    return RegionRNN(
        encoder,
        1,
        lstm=_lstm(encoder.embed_dim, hidden),
        head=mlp_head(2 * hidden, HEAD_WIDTH, num_logits),
        pool=mean_over_slices,
        group=with_neighbours,
        prepare=Tensor.float,
    )


def rsna2022_patient(num_logits: int, *, encoder: ConvNeXt | None = None, hidden: int = HIDDEN) -> PatientRNN:
    """The type 2 classifier on ConvNeXt-tiny, the largest of its encoders; ``encoder`` and ``hidden`` for tests."""
    return PatientRNN(ConvNeXt(2, CHANNELS) if encoder is None else encoder, num_logits, hidden=hidden)


CITATION = "RSNA 2022 Cervical Spine Fracture Detection, first place (Qishen Ha), Kaggle discussion 362607"
RECIPE = Recipe(lr=2.3e-4, weight_decay=1e-2, loss="cross-entropy", objective=2)
NOTES = "training needs two slices in a batch; weight decay: the default of AdamW, none is published"
LEFT_OUT = (
    "the segmentation of vertebrae, whose part a region of interest takes; its mask as a sixth channel; mix-up; "
    "dropping a part of the encoder; distortions and cut-out among its augmentations, for which the task's own stand; "
    "the mean of folds and encoders, which 'anymc3d ensemble' makes"
)

ENTRIES = (
    ZooEntry(
        name="rsna2022",
        title="RSNA 2022 first place",
        builder=lambda logits, _, __: rsna2022(logits),
        kind="slices",
        weights="EfficientNetV2-S of ImageNet (tf_efficientnetv2_s.in21k_ft_in1k), its stem repeated to five channels",
        licence="Apache-2.0 (weights), none stated (winner's code; written anew from the write-up)",
        citation=CITATION,
        channels=(1,),
        recipe=RECIPE,
        left_out=LEFT_OUT,
        notes="type 1, of one region: 15 slices, each trained on the label of the volume, in a shuffled order one "
        f"time in five; the mean logit answers; {NOTES}",
    ),
    ZooEntry(
        name="rsna2022-patient",
        title="RSNA 2022 first place, patient",
        builder=lambda logits, _, __: rsna2022_patient(logits),
        kind="slices",
        weights="ConvNeXt-tiny of ImageNet, its stem repeated to five channels",
        licence="MIT (ConvNeXt), none stated (winner's code; written anew from the write-up)",
        citation=CITATION,
        channels=(1,),
        sizes=Sizes(rule="resize in plane", multiple=(1, CONVNEXT_MULTIPLE, CONVNEXT_MULTIPLE)),
        recipe=RECIPE,
        left_out=f"{LEFT_OUT}; a label for each vertebra",
        notes="type 2, of the patient: 105 slices of the volume stand for 15 of each of seven vertebrae, and the "
        "label of the volume for those of the vertebrae; regions of 15 are shuffled one time in five; the second LSTM "
        f"is as wide as the first; {NOTES}",
    ),
)
