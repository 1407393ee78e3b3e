"""CoaT-Lite (Xu et al. 2021, Co-scale conv-attentional image transformers, ICCV, arXiv 2104.06399): images to
embeddings.

Four stages at 1/4, 1/8, 1/16 and 1/32 of the image. Attention costs time in proportion to the tokens, not to their
square: keys are normalised over the tokens and multiplied with the values first. Positions come from depthwise
convolutions, one set for all blocks of a stage.

Parameter names are the published ones. A published file repeats ``cpe{n}`` and ``crpe{n}`` inside each of the blocks
that share them (``serial_blocks{n}.{i}.cpe``, ``serial_blocks{n}.{i}.factoratt_crpe.crpe``); here they stand once.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

MEDIUM_WIDTHS, MEDIUM_DEPTHS = (128, 256, 320, 512), (3, 6, 10, 8)
HEADS = 8
WINDOWS = {3: 2, 5: 3, 7: 3}
"""Side of the window of a relative position -> how many of the eight heads have it."""
MLP_RATIO = 4

Size = tuple[int, int]


class CoaTLite(nn.Module):
    """Images (B, C, H, W) -> embeddings (B, D): the mean of the last stage's image tokens.

    H and W must be multiples of ``multiple``. As where it serves as an encoder, there is no norm behind the last stage
    and no classification head: 44,057,024 parameters of the 44,571,048 that the published medium network has.
    """

    multiple = 32

    def __init__(
        self,
        in_channels: int = 3,
        *,
        widths: Sequence[int] = MEDIUM_WIDTHS,
        depths: Sequence[int] = MEDIUM_DEPTHS,
    ) -> None:
        super().__init__()
        self.embed_dim, self.num_stages, self.widths = widths[-1], len(widths), list(widths)
        width_in = in_channels
        for stage, (width, depth) in enumerate(zip(widths, depths, strict=True), start=1):
            self.add_module(f"patch_embed{stage}", PatchEmbed(width_in, width, 4 if stage == 1 else 2))
            self.register_parameter(f"cls_token{stage}", nn.Parameter(torch.zeros(1, 1, width)))
            self.add_module(f"cpe{stage}", ConvPosition(width))
            self.add_module(f"crpe{stage}", ConvRelativePosition(width))
            self.add_module(f"serial_blocks{stage}", nn.ModuleList(SerialBlock(width) for _ in range(depth)))
            width_in = width
        for name, parameter in self.named_parameters():
            if name.startswith("cls_token"):
                nn.init.trunc_normal_(parameter, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> Tensor:
        maps = images
        for stage in range(1, self.num_stages + 1):
            maps = self._stage(stage, maps)
        return self.pool(maps)

    def pool(self, maps: Tensor) -> Tensor:
        """The last feature maps (B, D, h, w) -> embeddings (B, D)."""
        return maps.mean(dim=(2, 3))

    def pyramid(self, images: Tensor) -> list[Tensor]:
        """The feature maps of every stage, at 1/4, 1/8, ... of the image; ``widths`` are their channels."""
        maps, pyramid = images, []
        for stage in range(1, self.num_stages + 1):
            maps = self._stage(stage, maps)
            pyramid.append(maps)
        return pyramid

    def _stage(self, stage: int, maps: Tensor) -> Tensor:
        """Feature maps (B, C, H, W) -> those of this stage; the class token lives in one stage only."""
        embedded = self.get_submodule(f"patch_embed{stage}")(maps)
        size = tuple(embedded.shape[2:])
        class_token = self.get_parameter(f"cls_token{stage}").expand(len(maps), -1, -1)
        tokens = torch.cat([class_token, embedded.flatten(2).transpose(1, 2)], dim=1)
        positions, relative = self.get_submodule(f"cpe{stage}"), self.get_submodule(f"crpe{stage}")
        for block in self.get_submodule(f"serial_blocks{stage}"):
            tokens = block(positions(tokens, size), size, relative)
        return as_maps(tokens[:, 1:], size)


class PatchEmbed(nn.Module):
    """A convolution of non-overlapping patches and LayerNorm over the channels."""

    def __init__(self, width_in: int, width: int, patch: int) -> None:
        super().__init__()
        self.proj, self.norm = nn.Conv2d(width_in, width, patch, stride=patch), nn.LayerNorm(width)

    def forward(self, maps: Tensor) -> Tensor:
        return self.norm(self.proj(maps).movedim(1, -1)).movedim(-1, 1)


class ConvPosition(nn.Module):
    """Adds a depthwise convolution of 3 to the image tokens; the class token passes."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(width, width, 3, padding=1, groups=width)

    def forward(self, tokens: Tensor, size: Size) -> Tensor:
        """(B, 1 + H W, C) -> the same shape."""
        maps = as_maps(tokens[:, 1:], size)
        return torch.cat([tokens[:, :1], as_tokens(maps + self.proj(maps))], dim=1)


class ConvRelativePosition(nn.Module):
    """Query times a depthwise convolution of the values, in windows of 3, 5 and 7 by head; 0 for the class token."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.widths = [heads * (width // HEADS) for heads in WINDOWS.values()]
        self.conv_list = nn.ModuleList(
            nn.Conv2d(part, part, window, padding=window // 2, groups=part)
            for part, window in zip(self.widths, WINDOWS, strict=True)
        )

    def forward(self, query: Tensor, value: Tensor, size: Size) -> Tensor:
        """Two of (B, heads, 1 + H W, C / heads) -> the same shape."""
        maps = value[:, :, 1:].transpose(2, 3).flatten(1, 2).unflatten(2, size)
        parts = [conv(part) for conv, part in zip(self.conv_list, maps.split(self.widths, dim=1), strict=True)]
        convolved = torch.cat(parts, dim=1).flatten(2).unflatten(1, (HEADS, -1)).transpose(2, 3)
        return nn.functional.pad(query[:, :, 1:] * convolved, (0, 0, 1, 0))


class FactorAttention(nn.Module):
    """q (softmax(k)^T v) / sqrt(width of a head), the softmax over the tokens, and the relative positions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = (width // HEADS) ** -0.5
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, tokens: Tensor, size: Size, relative: nn.Module) -> Tensor:
        query, key, value = self.qkv(tokens).unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        attended = query @ (key.softmax(dim=2).transpose(2, 3) @ value)
        mixed = self.scale * attended + relative(query, value, size)
        return self.proj(mixed.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Wide, GELU, narrow."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, MLP_RATIO * width), nn.Linear(MLP_RATIO * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.fc2(nn.functional.gelu(self.fc1(tokens)))


class SerialBlock(nn.Module):
    """Pre-norm attention and feed-forward part, each with a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.factoratt_crpe = nn.LayerNorm(width, eps=1e-6), FactorAttention(width)
        self.norm2, self.mlp = nn.LayerNorm(width, eps=1e-6), Mlp(width)

    def forward(self, tokens: Tensor, size: Size, relative: nn.Module) -> Tensor:
        tokens = tokens + self.factoratt_crpe(self.norm1(tokens), size, relative)
        return tokens + self.mlp(self.norm2(tokens))


def as_maps(tokens: Tensor, size: Size) -> Tensor:
    """(B, H W, C) -> (B, C, H, W)."""
    return tokens.transpose(1, 2).unflatten(2, size)


def as_tokens(maps: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, H W, C)."""
    return maps.flatten(2).transpose(1, 2)
