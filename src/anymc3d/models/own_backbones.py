"""Architectures of backbones that others add: network, configuration, names in its weights file, what LoRA adapts."""

from __future__ import annotations

from dataclasses import dataclass, is_dataclass
from typing import Any

from torch import nn

from anymc3d.errors import UsageError
from anymc3d.models.architectures import ARCHITECTURES, Architecture, random_by_parameter
from anymc3d.models.backbones import IMAGENET_MEAN, IMAGENET_STD, NORMALISATION
from anymc3d.models.layout_rules import Layout
from anymc3d.models.lora import TARGETS
from anymc3d.registry import Registry, expected, takes

_EXPECTED = "an anymc3d.models.own_backbones.OwnBackbone"


@dataclass(frozen=True, kw_only=True)
class OwnBackbone:
    """One architecture.

    ``mean`` and ``std``: per RGB channel of images in [0, 1], where the weights bring no word of theirs.
    """

    config: type
    """A frozen dataclass of everything that decides the forward pass, apart from the weights; it has what
    :class:`~anymc3d.models.backbone_protocol.BackboneConfig` names."""
    network: type[nn.Module]
    """Called with such a configuration; keeps the contract of :class:`~anymc3d.models.backbone_protocol.Backbone`."""
    layouts: tuple[Layout, ...]
    """How files name its tensors; one of them by the names of ``network`` itself, which the local store uses."""
    targets: frozenset[str]
    """Ends of the paths of the linear maps and convolutions that LoRA adapts, such as ``attn.qkv``."""
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD


def _admit(name: str, backbone: Any) -> OwnBackbone:
    if (
        not isinstance(backbone, OwnBackbone)
        or not is_dataclass(backbone.config)
        or not takes(backbone.network, "config")
    ):
        raise expected("backbone", name, _EXPECTED, backbone)
    if not backbone.layouts or not backbone.targets:
        raise UsageError(f"backbone {name!r}: expected at least one layout and one target of LoRA, got none")
    for what, taken_class, table in (
        ("configuration", backbone.config, ARCHITECTURES),
        ("network", _class(backbone), TARGETS),
    ):
        if taken_class in table:
            raise UsageError(
                f"backbone {name!r}: the {what} {taken_class} is another backbone's; give it a class of its own"
            )
    ARCHITECTURES[backbone.config] = Architecture(
        name=name,
        build=backbone.network,
        random=random_by_parameter(backbone.network),
        family=lambda config: name,
        facts=lambda config: {"blocks": config.depth},
    )
    TARGETS[_class(backbone)] = backbone.targets
    NORMALISATION[name] = (backbone.mean, backbone.std)
    return backbone


def _class(given: OwnBackbone) -> str:
    return given.network.__name__


OWN_BACKBONES: Registry[OwnBackbone] = Registry("backbone", {}, group="anymc3d.backbones", admit=_admit)


def register_backbone(name: str, backbone: OwnBackbone) -> None:
    """Add an own architecture. Weights of it are then imported (``anymc3d backbone import``) and used as any others.

    Args:
        name: of the architecture, for reports.
        backbone: its parts.

    Raises:
        UsageError: the name, configuration or network is taken, or the parts are not what they must be.
    """
    OWN_BACKBONES.register(name, backbone)
