"""The RSNA 2023 winner (abdominal trauma; docs/methods.md): both of its encoders, each with its branch that segments.

Triplets of slices through a 2D network, a recurrent layer in both directions, a linear map for every triplet; the
largest answer counts. Where masks are known, the label of a triplet is that of the case times the visible part of the
region on its middle slice, and a U-Net beside the classifier learns to draw the structures there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from anymc3d.models.classifier import to_backbone_input
from anymc3d.models.decoders.interface import MaskTarget
from anymc3d.models.zoo.coat import CoaTLite
from anymc3d.models.zoo.efficientnet import EfficientNet
from anymc3d.models.zoo.entry import ZooEntry
from anymc3d.models.zoo.mask_branch import FeaturePyramidBranch, UNetBranch, multilabel_dice_loss
from anymc3d.models.zoo.objective import Answers, Branch, Lesson, visible_share
from anymc3d.models.zoo.recipe import Recipe
from anymc3d.models.zoo.slice_rnn import AS_THEY_ARE, Places, SliceRNN, triplets
from anymc3d.models.zoo.volumes import Sizes

NUM_SLICES = 96
DROPOUT = 0.1


class TripletRNN(SliceRNN):
    """The winner's classifier; its encoder also gives the pyramid of its feature maps."""

    def lesson(
        self, volume: Tensor, slice_mask: Tensor, masks: Sequence[MaskTarget | None], branch: Branch | None
    ) -> Lesson:
        """See :class:`anymc3d.models.zoo.objective.Teaching`.

        A case whose region is known and on a slice that is read is trained on its triplets, others on their answer.
        """
        images, places = self.images(volume, slice_mask)
        if branch is None:
            answer = self.pool(*self.read(self.encoder(images), places))
            return Lesson(answer, Answers.none(answer))
        pyramid = self.encoder.pyramid(images)
        logits, real = self.read(self.encoder.pool(pyramid[-1]), places)
        known = {case: _at(mask, middles(places[case])) for case, mask in enumerate(masks) if mask is not None}
        shares = {case: visible_share(mask) for case, mask in known.items() if branch.knows_region(mask)}
        losses = _mask_losses(branch, pyramid, places, known)
        return Lesson(self.pool(logits, real), _of_triplets(logits, real, shares), losses)


def middles(places: Places) -> list[int]:
    """The middle slice of every image."""
    return [image[len(image) // 2] for image in places]


def _at(mask: MaskTarget, places: Sequence[int]) -> MaskTarget:
    """The structures on some slices."""
    return MaskTarget(mask.labels[list(places)], mask.annotated)


def _of_triplets(logits: Tensor, real: Tensor, shares: Mapping[int, Tensor]) -> Answers:
    """The triplets (B, T, K) of the cases in ``shares``, each as far as it shows the region."""
    visible = torch.ones(real.shape, device=logits.device)
    for case, share in shares.items():
        visible[case, : len(share)] = share
    return Answers.of_parts(logits, real, visible).only(list(shares))


def _mask_losses(
    branch: Branch, pyramid: Sequence[Tensor], places: Sequence[Places], known: Mapping[int, MaskTarget]
) -> dict[int, Tensor]:
    """The branch draws on the triplets of the cases with a mask, and is compared on their middle slices."""
    counts = [len(images) for images in places]
    losses = {}
    for case, mask in known.items():
        first = sum(counts[:case])
        case_maps = [maps[first : first + counts[case]] for maps in pyramid]
        losses[case] = multilabel_dice_loss(branch(case_maps, tuple(mask.labels.shape[-2:])), mask)
    return losses


def rsna2023_coat(num_logits: int, in_channels: int, *, encoder: CoaTLite | None = None) -> TripletRNN:
    """CoaT-Lite-Medium and a GRU half as wide as its embeddings; ``encoder`` for tests."""
    encoder = CoaTLite() if encoder is None else encoder
    gru = nn.GRU(encoder.embed_dim, encoder.embed_dim // 2, bidirectional=True, batch_first=True)
    prepare = partial(to_backbone_input, patch_size=CoaTLite.multiple, encoding=AS_THEY_ARE)
    return _classifier(encoder, num_logits, in_channels, gru, prepare)


def rsna2023_efficientnet(num_logits: int, in_channels: int, *, encoder: EfficientNet | None = None) -> TripletRNN:
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
) -> TripletRNN:
    head = nn.Sequential(nn.Dropout(DROPOUT), nn.Linear(2 * recurrent.hidden_size, num_logits))
    group = partial(triplets, most=NUM_SLICES)
    return TripletRNN(encoder, in_channels, lstm=recurrent, head=head, group=group, prepare=prepare)


LICENCE = "Apache-2.0 (winner)"
CITATION = "RSNA 2023 Abdominal Trauma Detection, first place, github.com/Nischaydnk/RSNA-2023-1st-place-solution"
NOTES = (
    "triplets of at most 96 equally spaced slices, or three windows where there are three; values as they are, without "
    "ImageNet's mean; with masks (segmentation: own) labels of triplets follow the visible part of the region and a "
    "U-Net beside it learns to draw, without masks the largest triplet is trained; one region for all labels, where "
    "the winner has an organ for each"
)
LEFT_OUT = (
    "the segmentation stage, whose part a region of interest takes; a label and a mask for each organ; as many "
    "negatives as positives in each epoch, which 'train.sampling: balanced' does; perspective among its "
    "augmentations, for which the task's own stand; the mean of folds and encoders"
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
        recipe=Recipe(lr=1e-4, weight_decay=1e-6, loss="cross-entropy", mask_weight=0.25, hides=True),
        branch=lambda network, structures: FeaturePyramidBranch(network.encoder.widths, structures),
        left_out=f"{LEFT_OUT}; LSTM blocks on the deep maps of the mask branch",
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
        recipe=Recipe(lr=2e-4, weight_decay=1e-6, loss="cross-entropy", mask_weight=0.3, hides=True),
        branch=lambda network, structures: UNetBranch(network.encoder.widths, structures),
        left_out=LEFT_OUT,
        notes=f"{NOTES}; an LSTM as in its code, the write-up says GRU",
    ),
)
