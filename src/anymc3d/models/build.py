"""From the method of a task to its classifier: the one place that knows both AnyMC3D and the networks of the zoo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

from anymc3d.errors import PluginError, did_you_mean
from anymc3d.models.baseline import BaselineClassifier
from anymc3d.models.classifier import VolumeClassifier
from anymc3d.models.decoders.table import build_decoders
from anymc3d.models.features import check_backbone, num_patches, width_of
from anymc3d.models.plain import PLAIN, PlainClassifier, is_plain
from anymc3d.models.zoo.table import ELSEWHERE, ZOO, zoo_entry
from anymc3d.settings.config import LabelSettings
from anymc3d.settings.training import MethodSettings, SegmentationSettings
from anymc3d.settings.views import ViewSettings

Classifier = VolumeClassifier | BaselineClassifier | PlainClassifier
"""The first two are called with (backbone or None, batch, encoding), the last with numbers; all have ``tensors()`` and
``load_tensors()``."""

ON_BACKBONE = ("anymc3d", "frozen")
"""Methods that train on a frozen backbone."""


def is_baseline(method: MethodSettings) -> bool:
    """Whether the method is a network of the zoo, which holds its own weights and takes no backbone.

    Raises:
        PluginError: no such method.
    """
    if method.name in ON_BACKBONE or is_plain(method):
        return False
    if method.name in ELSEWHERE:
        raise PluginError(f"method: {ELSEWHERE[method.name]}")
    if method.name not in ZOO:
        known = [*ON_BACKBONE, *PLAIN, *ZOO]
        raise PluginError(f"method: unknown name {method.name!r}{did_you_mean(method.name, known)}")
    return True


def lora_rank(method: MethodSettings) -> int | None:
    """Rank of LoRA, or None for the method that leaves the backbone frozen."""
    return method.rank if method.name == "anymc3d" else None


def build_classifier(
    method: MethodSettings,
    *,
    views: Mapping[str, ViewSettings],
    labels: LabelSettings,
    fusion: str,
    backbone: nn.Module | None,
    segmentation: SegmentationSettings | None = None,
    features: str = "class",
    structures: Sequence[int] = (),
    seed: int = 0,
) -> Classifier:
    """Build an untrained classifier.

    Args:
        method: an entry of the zoo, or one of ``ON_BACKBONE``.
        views: in order.
        labels: say how many logits there are and which head gives them.
        fusion: of slices, on a backbone.
        backbone: None for a network of the zoo.
        segmentation: its classes are known by now; None or off: no decoders.
        features: what of the backbone's answer stands for a slice.
        structures: labels of the segmentation, for ``features: mask``.
        seed: of all initial values.

    Raises:
        PluginError: no such method.
        UsageError: the network cannot take these views.
        BackboneError: ``method.blocks`` is not for this backbone.
    """
    if is_baseline(method):
        return _baseline(method, views, labels, segmentation, seed)
    if is_plain(method):
        raise PluginError(f"method {method.name} has no network to train; add --quick")
    if backbone is None:
        raise PluginError(f"method {method.name} trains on a backbone, and none was given")
    check_backbone(features, backbone)
    return VolumeClassifier(
        backbone,
        views=tuple(views),
        num_logits=labels.num_logits,
        head=method.head or labels.head,
        neighbours=[name for name, view in views.items() if view.input == "neighbours"],
        standardised=_standardised(views),
        fusion=fusion,
        features=features,
        structures=structures,
        widths=embedding_widths(features, views, backbone, structures),
        decoders=_decoders(segmentation, backbone, tuple(views), seed),
        rank=lora_rank(method),
        alpha=method.alpha,
        blocks=method.blocks,
        seed=seed,
    )


def _baseline(
    method: MethodSettings,
    views: Mapping[str, ViewSettings],
    labels: LabelSettings,
    segmentation: SegmentationSettings | None,
    seed: int,
) -> BaselineClassifier:
    return BaselineClassifier(
        zoo_entry(method.name),
        channels={name: view.num_channels for name, view in views.items()},
        standardised=_standardised(views),
        num_logits=labels.num_logits,
        head=labels.head,
        num_structures=0 if segmentation is None or not segmentation.is_on else len(segmentation.classes),
        seed=seed,
    )


def _standardised(views: Mapping[str, ViewSettings]) -> list[str]:
    return [name for name, view in views.items() if view.is_standardised]


def embedding_widths(
    features: str, views: Mapping[str, ViewSettings], backbone: nn.Module, structures: Sequence[int] = ()
) -> dict[str, int]:
    """View -> how many numbers a slice has (of representations with ``of_scan``: a scan)."""
    return {
        name: width_of(
            features,
            embed_dim=backbone.embed_dim,
            num_patches=num_patches(view.size, backbone.patch_size),
            num_structures=len(structures),
        )
        for name, view in views.items()
    }


def _decoders(
    settings: SegmentationSettings | None, backbone: nn.Module, views: Sequence[str], seed: int
) -> dict[str, nn.Module]:
    """Untrained decoders of the views, none without segmentation."""
    if settings is None or not settings.is_on:
        return {}
    return build_decoders(
        settings.decoder,
        backbone,
        views=views,
        num_classes=len(settings.classes),
        num_queries=settings.queries,
        seed=seed,
    )
