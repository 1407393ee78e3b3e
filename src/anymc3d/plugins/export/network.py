"""A plugin and its backbone as one module: prepared slices of one case in, raw logits out, the adapter merged."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from anymc3d.errors import PluginError
from anymc3d.models.classifier import Encoding, PackedSlices, VolumeClassifier, grid_of, to_backbone_input
from anymc3d.models.features import read_parts
from anymc3d.models.store import LoadedBackbone
from anymc3d.plugins.card import PluginCard
from anymc3d.plugins.file import Plugin

FEWEST, MORE = 3, 7
"""Slices with which the network is traced, and with which it is compared."""


class CaseNetwork(nn.Module):
    """Slices (S, C, H, W) of every view of one case, float32, in the order of the views -> raw logits (L,) as in
    ``predictions.csv``. S may differ between calls and views; every view has to be there.

    Raises:
        PluginError: the plugin is of a kind that is no one such network; see :func:`check_exportable`.
    """

    def __init__(self, plugin: Plugin, backbone: LoadedBackbone) -> None:
        super().__init__()
        check_exportable(plugin.card)
        classifier = plugin.build(backbone.module, backbone.fingerprint)
        record = plugin.card.backbone
        if not isinstance(classifier, VolumeClassifier) or record is None:
            raise PluginError(f"{plugin.card.name!r} does not stand on a backbone")
        self.card = plugin.card
        self.encoding = Encoding(mean=record.mean, std=record.std)
        self.classifier = classifier
        self.backbones = nn.ModuleDict({view: self._merged(backbone.module, view) for view in classifier.views})
        self.eval().requires_grad_(False)

    def _merged(self, backbone: nn.Module, view: str) -> nn.Module:
        adapted = self.classifier.adapted_weights(backbone, view, torch.float32)
        merged = copy.deepcopy(backbone).float()
        merged.load_state_dict({**merged.state_dict(), **{name: weight.detach() for name, weight in adapted.items()}})
        return merged

    def forward(self, *slices: Tensor) -> Tensor:
        """See the class."""
        fused = [self._view(view, view_slices) for view, view_slices in zip(self.classifier.views, slices, strict=True)]
        has_view = torch.ones(1, len(fused), dtype=torch.bool)
        whole = fused[0]
        if self.classifier.view_fusion is not None:
            embeddings = fused if hasattr(self.classifier.view_fusion, "centers") else torch.stack(fused, dim=1)
            whole = self.classifier.view_fusion(embeddings, has_view).embedding
        logits = self.classifier.head(whole)[0]
        return logits[1:2] - logits[0:1] if self.card.labels.kind == "binary" else logits

    def _view(self, view: str, slices: Tensor) -> Tensor:
        """(1, D): the fused embedding of one view."""
        if view in self.classifier.neighbours:
            positions = torch.arange(slices.shape[0])
            neighbours = torch.stack([positions - 1, positions, positions + 1], dim=1).clamp(min=0)
            slices = slices[torch.minimum(neighbours, positions[-1]), 0]
        backbone = self.backbones[view]
        images = to_backbone_input(slices, backbone.patch_size, self.classifier.seen_as(view, self.encoding))
        parts = self.classifier.features.parts
        call = partial(backbone, images, **self.classifier.options)
        parts_read = read_parts(backbone, call, parts, grid_of(images, backbone))
        rows = torch.cat([parts_read[part] for part in parts], dim=1).unsqueeze(0)
        real = torch.ones_like(rows[..., 0], dtype=torch.bool)
        return self.classifier.slice_fusion[view](rows, real).embedding

    def examples(self, count: int = FEWEST, seed: int = 0) -> tuple[Tensor, ...]:
        """Slices of the right shapes with made-up values, ``count`` of each view."""
        generator = torch.Generator().manual_seed(seed)
        return tuple(torch.randn(shape_of(self.card, view, count), generator=generator) for view in self.card.views)

    def as_predicted(self, backbone: nn.Module, slices: Sequence[Tensor]) -> Tensor:
        """What ``predict`` computes from the same slices, by the way it goes there."""
        pairs = zip(self.classifier.views, slices, strict=True)
        batch = {view: PackedSlices(view_slices, (len(view_slices),)) for view, view_slices in pairs}
        with torch.inference_mode():
            logits = self.classifier(backbone, batch, self.encoding).logits[0]
        return logits[1:2] - logits[0:1] if self.card.labels.kind == "binary" else logits


def shape_of(card: PluginCard, view: str, slices: int) -> tuple[int, int, int, int]:
    """(S, C, H, W) of a view's prepared slices."""
    settings = card.preprocessing[view]
    return slices, settings.num_channels, settings.size[0], settings.size[1]


def check_exportable(card: PluginCard) -> None:
    """Refuse what is no one network of slices.

    Raises:
        PluginError: with the reason and what to do.
    """
    reasons: Mapping[str, str] = {
        "ensemble": "an ensemble, whose members may see other slices; export each member",
        "baseline": "a network of its own that is given whole volumes",
        "plain": "no network",
    }
    if card.kind in reasons:
        raise PluginError(f"{card.name!r} cannot be exported: it is {reasons[card.kind]}")
    if card.structures:
        raise PluginError(f"{card.name!r} cannot be exported: it pools over segmentations (features {card.features})")
