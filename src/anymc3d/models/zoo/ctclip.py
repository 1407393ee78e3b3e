"""CT-CLIP's image encoder with ClassFine's classifier on it (Hamamci et al. 2024, arXiv 2403.17834; docs/methods.md).

Written from a description: the public code and weights are CC-BY-NC-SA 4.0, nothing of the code was copied. Names are
our own; :mod:`anymc3d.models.zoo.published_weights` has those of the published files. A volume is cut into blocks of
10 x 20 x 20 voxels; transformers read them within each layer of blocks and along each column, each block's answer is
replaced by the nearest entry of a learned codebook, and the layers' mean is one vector of 512.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, gelu, leaky_relu, normalize, pad, scaled_dot_product_attention

from anymc3d.models.heads import LinearHead
from anymc3d.models.zoo.entry import ZooEntry
from anymc3d.models.zoo.pretrained import PretrainedClassifier
from anymc3d.models.zoo.recipe import Recipe
from anymc3d.models.zoo.volumes import Size, Sizes

SCALE = 8.0
"""Of the scores, which are cosines times learned factors."""
DROPOUT = 0.3
SLOPE = 0.1


@dataclass(frozen=True, kw_only=True)
class CTViTConfig:
    """The published shape; smaller ones are for tests. ``size`` and ``patch`` are (S, H, W)."""

    size: Size = (240, 480, 480)
    patch: Size = (10, 20, 20)
    width: int = 512
    depth: int = 4
    """Layers of the spatial transformer, and as many of the temporal one."""
    num_heads: int = 8
    head_dim: int = 32
    num_codes: int = 8192
    latent: int = 512

    @property
    def grid(self) -> Size:
        """Blocks along S, H and W."""
        slices, rows, columns = (side // length for side, length in zip(self.size, self.patch, strict=True))
        return slices, rows, columns

    @property
    def hidden(self) -> int:
        """Width of the gated feed-forward part: two thirds of four times the width, rounded down."""
        return int(4 * (2 / 3) * self.width)


class ScaleNorm(nn.Module):
    """Layer norm with factors and without offsets."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, tokens: Tensor) -> Tensor:
        return nn.functional.layer_norm(tokens, tokens.shape[-1:], self.gamma)


class PositionConv(nn.Module):
    """A depthwise convolution of 3 over the grid of blocks, by which tokens learn where they are.

    It sees neighbours on all sides in a layer of blocks, and only earlier layers along S. Tokens (N, L, C) are laid
    out on the grid in the order they have in memory: of columns of blocks that is not where they came from, and the
    published weights were trained so.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(width, width, 3, groups=width)

    def forward(self, tokens: Tensor, grid: Size) -> Tensor:
        maps = tokens.reshape(-1, *grid, tokens.shape[-1]).movedim(-1, 1)
        return self.conv(pad(maps, (1, 1, 1, 1, 2, 0))).movedim(1, -1).reshape(tokens.shape)


class Attention(nn.Module):
    """Attention by cosines; keys and values are read from the tokens as they are, only queries from normalised ones."""

    def __init__(self, config: CTViTConfig) -> None:
        super().__init__()
        inner = config.num_heads * config.head_dim
        self.num_heads = config.num_heads
        self.norm = ScaleNorm(config.width)
        self.to_q = nn.Linear(config.width, inner, bias=False)
        self.to_kv = nn.Linear(config.width, 2 * inner, bias=False)
        self.q_scale, self.k_scale = (nn.Parameter(torch.ones(config.head_dim)) for _ in range(2))
        self.to_out = nn.Linear(inner, config.width, bias=False)

    def forward(self, tokens: Tensor, bias: Tensor | None) -> Tensor:
        """(N, L, C) and what is added to the scores of the heads (heads, L, L) -> (N, L, C)."""
        key, value = (self.heads(part) for part in self.to_kv(tokens).chunk(2, dim=-1))
        query = normalize(self.heads(self.to_q(self.norm(tokens))), dim=-1) * self.q_scale
        key = normalize(key, dim=-1) * self.k_scale
        mixed = scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=SCALE)
        return self.to_out(mixed.transpose(1, 2).flatten(2))

    def heads(self, tokens: Tensor) -> Tensor:
        return tokens.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class FeedForward(nn.Module):
    """Norm, a wide linear map of which one half gates the other (GEGLU), and back."""

    def __init__(self, config: CTViTConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.width)
        self.wide = nn.Linear(config.width, 2 * config.hidden, bias=False)
        self.narrow = nn.Linear(config.hidden, config.width, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        values, gate = self.wide(self.norm(tokens)).chunk(2, dim=-1)
        return self.narrow(values * gelu(gate))


class Layer(nn.Module):
    """Positions, attention, feed-forward part, each with a shortcut."""

    def __init__(self, config: CTViTConfig) -> None:
        super().__init__()
        self.position = PositionConv(config.width)
        self.attention = Attention(config)
        self.feed_forward = FeedForward(config)

    def forward(self, tokens: Tensor, grid: Size, bias: Tensor | None) -> Tensor:
        tokens = tokens + self.position(tokens, grid)
        tokens = tokens + self.attention(tokens, bias)
        return tokens + self.feed_forward(tokens)


class Transformer(nn.Module):
    """Layers and a last norm."""

    def __init__(self, config: CTViTConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.depth))
        self.norm = ScaleNorm(config.width)

    def forward(self, tokens: Tensor, grid: Size, bias: Tensor | None = None) -> Tensor:
        for layer in self.layers:
            tokens = layer(tokens, grid, bias)
        return self.norm(tokens)


class PositionBias(nn.Module):
    """What is added to the score of two blocks of one layer: a small network of their distance along H and W."""

    def __init__(self, config: CTViTConfig) -> None:
        super().__init__()
        self.linear1, self.linear2 = nn.Linear(2, config.width), nn.Linear(config.width, config.width)
        self.linear3 = nn.Linear(config.width, config.num_heads)

    def forward(self, rows: int, columns: int) -> Tensor:
        """(heads, L, L) with L = rows * columns."""
        device = self.linear1.weight.device
        axes = torch.meshgrid(torch.arange(rows, device=device), torch.arange(columns, device=device), indexing="ij")
        places = torch.stack(axes, dim=-1).flatten(0, 1).to(self.linear1.weight.dtype)
        offsets = places[:, None] - places[None, :]
        inner = leaky_relu(self.linear1(offsets.sign() * offsets.abs().log1p()), SLOPE)
        return self.linear3(leaky_relu(self.linear2(inner), SLOPE)).permute(2, 0, 1)


class CTViT(nn.Module):
    """Volumes (B, 1, S, H, W) with values in [0, 1] of the window [-1000, 1000] HU -> latents (B, 512) of length 1."""

    def __init__(self, config: CTViTConfig = CTViTConfig()) -> None:
        super().__init__()
        voxels = math.prod(config.patch)
        self.config, self.embed_dim = config, config.latent
        self.sizes = Sizes(rule="crop or pad", fixed=config.size)
        self.patch_norm, self.patch_linear = nn.LayerNorm(voxels), nn.Linear(voxels, config.width)
        self.patch_norm_out = nn.LayerNorm(config.width)
        self.bias = PositionBias(config)
        self.spatial, self.temporal = Transformer(config), Transformer(config)
        codes = torch.empty(config.num_codes, config.width)
        self.register_buffer("codebook", nn.init.normal_(codes, std=1 / math.sqrt(config.width)))
        _, rows, columns = config.grid
        self.to_latent = nn.Linear(rows * columns * config.width, config.latent, bias=False)

    def forward(self, volume: Tensor) -> Tensor:
        # Volumes of other sizes are padded with the window's minimum, -1000 HU, which is 0 before this map.
        tokens = self.quantise(self.encode(self.patches(2 * self.sizes.fit(volume) - 1)))
        return normalize(self.to_latent(tokens.mean(dim=1).flatten(1)), dim=-1)

    def patches(self, volume: Tensor) -> Tensor:
        """(B, 1, S, H, W) in [-1, 1] -> tokens (B, s, h, w, C) of the blocks."""
        (slices, rows, columns), (deep, high, wide) = self.config.grid, self.config.patch
        blocks = volume.reshape(-1, slices, deep, rows, high, columns, wide).permute(0, 1, 3, 5, 2, 4, 6).flatten(4)
        return self.patch_norm_out(self.patch_linear(self.patch_norm(blocks)))

    def encode(self, tokens: Tensor) -> Tensor:
        """(B, s, h, w, C) -> the same; first within layers of blocks, then along columns."""
        grid = self.config.grid
        flat = self.spatial(tokens.flatten(0, 1).flatten(1, 2), grid, self.bias(*grid[1:]))
        columns = flat.reshape(tokens.shape).movedim(1, 3).flatten(0, 2)
        return self.temporal(columns, grid).reshape(-1, grid[1], grid[2], grid[0], self.config.width).movedim(3, 1)

    def quantise(self, tokens: Tensor) -> Tensor:
        """Each token (..., C) replaced by the entry of the codebook in whose direction it points most."""
        directions = normalize(self.codebook, dim=-1)
        return embedding((normalize(tokens, dim=-1) @ directions.T).argmax(dim=-1), self.codebook)


class ClassFine(PretrainedClassifier):
    """Volume (B, 1, S, H, W) -> logits (B, K): the frozen encoder's latent, ReLU, dropout, one linear map."""

    sizes = Sizes(rule="crop or pad", fixed=CTViTConfig().size)

    def __init__(self, num_logits: int, generator: torch.Generator, *, encoder: CTViT | None = None) -> None:
        encoder = CTViT() if encoder is None else encoder
        super().__init__(encoder, num_logits, strategy="linear", targets=(), generator=generator)
        self.head = nn.Sequential(nn.ReLU(), nn.Dropout(DROPOUT), LinearHead(encoder.embed_dim, num_logits, generator))


ENTRIES = (
    ZooEntry(
        name="ct-clip-classfine",
        title="CT-CLIP with ClassFine",
        builder=lambda logits, _, generator: ClassFine(logits, generator),
        kind="volume",
        weights="CT-CLIP_v2.pt or CT_LiPro_v2.pt of CT-RATE (gated), frozen",
        licence="CC-BY-NC-SA 4.0, not for commercial use (CT-CLIP; written anew from a description)",
        citation="Hamamci et al. 2024, Developing generalist foundation models from a multimodal dataset for 3D "
        "computed tomography, arXiv 2403.17834",
        channels=(1,),
        sizes=ClassFine.sizes,
        recipe=Recipe(lr=1e-3, weight_decay=0.1, loss="weighted-bce"),
        axes_source="ibrahimethemhamamci/CT-CLIP, scripts/data_inference_nii.py: permute(2, 0, 1) of (x, y, z)",
        notes="expects the window [-1000, 1000] and voxels of 0.75 x 0.75 x 1.5 mm; the text encoder is not part of "
        "it; the codebook is looked up and never updated; which way the published volumes were turned is not stated",
    ),
)
