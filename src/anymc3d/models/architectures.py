"""THE table of backbone architectures: the type of a configuration says which network is built from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from anymc3d.models.backbone_protocol import Backbone, BackboneConfig
from anymc3d.models.davit import DaViT, DaViTConfig
from anymc3d.models.siglip import SiglipConfig, SiglipVision
from anymc3d.models.vit import VisionTransformer, ViTConfig, random_vit
from anymc3d.models.vit_positions import PositionRule


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """One kind of network. ``build`` makes it with arbitrary initial values."""

    name: str
    build: Callable[[Any], Any]
    random: Callable[[Any, int], Any]
    """Configuration and seed -> a network whose every tensor is random and depends on the two alone."""
    family: Callable[[Any], str]
    facts: Callable[[Any], Mapping[str, object]]
    """What people want to know of it, besides width, patch and tokens."""


def _vit_family(config: ViTConfig) -> str:
    if config.positions == "rope":
        return "dinov3"
    return "clip" if config.clip else "dinov2" if config.layer_scale else "vit"


def _vit_facts(config: ViTConfig) -> dict[str, object]:
    return {
        "blocks": config.depth,
        "heads": config.num_heads,
        "positions": config.positions,
        "position_rule": config.position_rule,
    }


def _davit_facts(config: DaViTConfig) -> dict[str, object]:
    heads = [width // config.head_dim for width in config.dims]
    return {"blocks": list(config.depths), "heads": heads, "positions": "none", "window": config.window}


def _siglip_facts(config: SiglipConfig) -> dict[str, object]:
    return {"blocks": config.layers, "heads": config.num_heads, "positions": "learned", "position_rule": "hf"}


def random_by_parameter(build: Callable[[Any], nn.Module]) -> Callable[[Any, int], nn.Module]:
    """How a network gets random values of every parameter, by :func:`random_weights`."""

    def made(config: Any, seed: int) -> nn.Module:
        with torch.device("meta"):
            module = build(config)
        module.load_state_dict(random_weights(module, seed), assign=True)
        return module

    return made


ARCHITECTURES: dict[type, Architecture] = {
    ViTConfig: Architecture(
        name="ViT",
        build=VisionTransformer,
        random=random_vit,
        family=_vit_family,
        facts=_vit_facts,
    ),
    DaViTConfig: Architecture(
        name="DaViT", build=DaViT, random=random_by_parameter(DaViT), family=lambda config: "davit", facts=_davit_facts
    ),
    SiglipConfig: Architecture(
        name="SigLIP",
        build=SiglipVision,
        random=random_by_parameter(SiglipVision),
        family=lambda config: "siglip",
        facts=_siglip_facts,
    ),
}


def architecture(config: BackboneConfig) -> Architecture:
    """The entry for a configuration; there is one for every type that a card may hold."""
    return ARCHITECTURES[type(config)]


def empty_backbone(config: BackboneConfig) -> Backbone:
    """The module without memory for its weights, for ``load_state_dict(..., assign=True)``; draws nothing at random."""
    with torch.device("meta"):
        return architecture(config).build(config)


def random_backbone(config: BackboneConfig, seed: int = 0) -> Backbone:
    """A network of random float32 weights that depend on ``config`` and ``seed`` alone."""
    return architecture(config).random(config, seed)


def with_position_rule(config: BackboneConfig, rule: PositionRule) -> BackboneConfig:
    """The configuration with this rule for resizing positions; networks with one rule or no positions keep theirs."""
    return replace(config, position_rule=rule) if isinstance(config, ViTConfig) else config


def random_weights(module: nn.Module, seed: int) -> dict[str, Tensor]:
    """A random value for every parameter of a network on the meta device: 0.02 wide, around 1 for factors of norms."""
    generator = torch.Generator().manual_seed(seed)
    factors = {f"{path}.weight" for path, part in module.named_modules() if isinstance(part, nn.LayerNorm)}
    return {
        name: (name in factors) + 0.02 * torch.randn(parameter.shape, generator=generator)
        for name, parameter in module.named_parameters()
    }
