"""MST, the Medical Slice Transformer (Müller-Franzes et al. 2025, arXiv 2411.15802; docs/methods.md).

DINOv2 ViT-S/14, trained whole, on every slice; one transformer layer over a class token and the slices; one linear map.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from anymc3d.models.backbones import IMAGENET_MEAN, IMAGENET_STD, card
from anymc3d.models.classifier import Encoding, to_backbone_input
from anymc3d.models.fusion import pad_cases
from anymc3d.models.sequence_fusion import mst, mst_positions
from anymc3d.models.vit import VisionTransformer, ViTConfig, random_vit
from anymc3d.models.zoo.entry import ZooEntry
from anymc3d.models.zoo.recipe import Recipe
from anymc3d.models.zoo.volumes import Sizes, check_volume, packed

IMAGENET = Encoding(mean=IMAGENET_MEAN, std=IMAGENET_STD)
CONFIG = card("dinov2-small").config


class MST(nn.Module):
    """Volume (B, C, S, H, W) -> logits (B, K).

    H and W are enlarged to multiples of 14 (bilinear). With ``positions`` at most 256 slices; without, any number.
    Names: ``encoder.*`` are DINOv2's own, ``slice_fusion.layers.0.*``, ``slice_fusion.norm.*`` and ``linear.*`` those
    of the published code; the class token and the table of positions stand inside ``slice_fusion`` here.
    """

    sizes = Sizes(rule="resize in plane", multiple=(1, 14, 14))

    def __init__(
        self,
        num_logits: int,
        in_channels: int,
        generator: torch.Generator,
        *,
        positions: bool = False,
        config: ViTConfig = CONFIG,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.encoder = _trained_vit(config, generator)
        fusion = mst_positions if positions else mst
        self.slice_fusion = fusion(config.embed_dim, generator)
        # The published class token starts as N(0, 1), unlike the one of the fusion it shares its layers with.
        nn.init.normal_(self.slice_fusion.class_token, generator=generator)
        self.linear = nn.Linear(config.embed_dim, num_logits)
        self.statistics = IMAGENET

    def forward(self, volume: Tensor, slice_mask: Tensor) -> Tensor:
        """(B, C, S, H, W) and (B, S) -> logits (B, K)."""
        check_volume(volume, slice_mask, self.in_channels)
        slices, counts = packed(volume, slice_mask)
        images = to_backbone_input(slices, self.encoder.patch_size, self.statistics)
        embeddings, mask = pad_cases(self.encoder(images, class_token_only=True).tokens[:, 0], counts)
        return self.linear(self.slice_fusion(embeddings, mask).embedding)


def _trained_vit(config: ViTConfig, generator: torch.Generator) -> VisionTransformer:
    """A ViT of random weights with the mask token of pretraining: no answer depends on it, but the published network
    has it and counts it."""
    if torch.empty(0).is_meta:
        encoder = VisionTransformer(config)
    else:
        encoder = random_vit(config, seed=int(torch.randint(2**31, (), generator=generator)))
    encoder.register_parameter("mask_token", nn.Parameter(torch.zeros(1, config.embed_dim)))
    return encoder


PAPER = "Müller-Franzes et al. 2025, Medical slice transformer, arXiv 2411.15802"

RECIPE = Recipe(lr=1e-6, weight_decay=1e-2, loss="cross-entropy")

ENTRIES = (
    ZooEntry(
        name="mst",
        title="MST",
        builder=lambda logits, channels, generator: MST(logits, channels, generator),
        kind="slices",
        weights="DINOv2 ViT-S/14, trained whole",
        licence="MIT (MST), Apache-2.0 (DINOv2)",
        citation=PAPER,
        sizes=MST.sizes,
        recipe=RECIPE,
        notes="without slice positions, as the paper's text and the published default; ImageNet mean and std",
    ),
    ZooEntry(
        name="mst-positions",
        title="MST with slice positions",
        builder=lambda logits, channels, generator: MST(logits, channels, generator, positions=True),
        kind="slices",
        weights="DINOv2 ViT-S/14, trained whole",
        licence="MIT (MST), Apache-2.0 (DINOv2)",
        citation=PAPER,
        sizes=MST.sizes,
        recipe=RECIPE,
        notes="its parameters are the 23.05 M printed for MST; at most 256 slices",
    ),
)
