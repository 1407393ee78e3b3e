"""Plugins of any shape that were never trained, in milliseconds."""

from __future__ import annotations

from dataclasses import replace

import torch

from anymc3d.models.build import build_classifier
from anymc3d.models.store import find_backbone
from anymc3d.plugins import save_plugin
from anymc3d.plugins.card import BackboneRecord
from anymc3d.settings.training import MethodSettings
from anymc3d.settings.views import ViewSettings

AXIAL = ViewSettings(size=(28, 28, 4), plane="axial")


def made(base, path, name, *, blocks=None, fusion="query", views=None, frozen=False, rank=8, backbone="tiny-random"):
    """A plugin that was never trained; its tensors are as after some training."""
    loaded = find_backbone(backbone)
    views = views or {"image": AXIAL}
    method = MethodSettings(name="frozen") if frozen else MethodSettings(blocks=blocks, rank=rank)
    record = BackboneRecord(
        name=loaded.card.name,
        fingerprint=loaded.fingerprint,
        positions="official",
        embed_dim=loaded.module.embed_dim,
        patch_size=loaded.module.patch_size,
        mean=loaded.card.mean,
        std=loaded.card.std,
        licence=loaded.card.licence,
        trunk=None if blocks is None else loaded.trunk(2 - blocks),
    )
    card = replace(
        base, name=name, method=method, fusion=fusion, preprocessing=views, backbone=record, calibration=None
    )
    classifier = build_classifier(method, views=views, labels=card.labels, fusion=fusion, backbone=loaded.module)
    generator = torch.Generator().manual_seed(len(name))
    with torch.no_grad():
        for parameter in classifier.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.03)
    save_plugin(path, card, classifier.tensors())
    return path
