"""Layouts of MedImageInsight's image encoder: the names of ``image_encoder.*`` are the canonical ones.

Source: MedImageInsight's published code (docs/methods.md), its table of older names included.
"""

from __future__ import annotations

from torch import Tensor

from anymc3d.errors import BackboneError, UsageError
from anymc3d.models.davit import DaViTConfig
from anymc3d.models.layout_rules import Layout, Rule, Thirds

_BLOCK = (
    "spatial_block.conv1.fn.dw",
    "spatial_block.window_attn.norm",
    "spatial_block.window_attn.fn.qkv",
    "spatial_block.window_attn.fn.proj",
    "spatial_block.conv2.fn.dw",
    "spatial_block.ffn.norm",
    "spatial_block.ffn.fn.net.fc1",
    "spatial_block.ffn.fn.net.fc2",
    "channel_block.conv1.fn.dw",
    "channel_block.channel_attn.norm",
    "channel_block.channel_attn.fn.qkv",
    "channel_block.channel_attn.fn.proj",
    "channel_block.conv2.fn.dw",
    "channel_block.ffn.norm",
    "channel_block.ffn.fn.net.fc1",
    "channel_block.ffn.fn.net.fc2",
)
_OLDER_BLOCK = tuple(
    f"{half}.{name}"
    for half in (0, 1)
    for name in ("cpe.0.proj", "norm1", "attn.qkv", "attn.proj", "cpe.1.proj", "norm2", "mlp.fc1", "mlp.fc2")
)
"""The same tensors in the same order, as the first release named them."""


def _encoder(prefix: str) -> tuple[Rule, ...]:
    """The rules of the image encoder below ``prefix``, in either naming."""
    rules = [Rule(f"{prefix}norms.{{leaf}}", "norms.{leaf}")]
    for convs, blocks, names in (("convs", "blocks", _BLOCK), ("conv_embeds", "main_blocks", _OLDER_BLOCK)):
        rules += [Rule(f"{prefix}{convs}.{{i}}.{n}.{{leaf}}", f"convs.{{i}}.{n}.{{leaf}}") for n in ("proj", "norm")]
        rules += [
            Rule(f"{prefix}{blocks}.{{i}}.{{j}}.{name}.{{leaf}}", f"blocks.{{i}}.{{j}}.{canonical}.{{leaf}}")
            for name, canonical in zip(names, _BLOCK, strict=True)
        ]
    return tuple(rules)


def finish_davit(whole: dict[str, Tensor], _thirds: Thirds, layout: str) -> tuple[DaViTConfig, dict[str, Tensor]]:
    """Read widths and depths off the names and shapes; heads of 32 and windows of 12 are MedImageInsight's.

    Raises:
        BackboneError: these are not four stages.
    """
    try:
        dims = tuple(whole[f"convs.{stage}.proj.weight"].shape[0] for stage in range(4))
        pairs = {tuple(name.split(".")[1:3]) for name in whole if name.startswith("blocks.")}
        depths = tuple(sum(stage == str(index) for stage, _ in pairs) for index in range(4))
        return DaViTConfig(dims=dims, depths=depths), whole
    except (KeyError, IndexError, UsageError) as error:
        raise BackboneError(f"weights in the {layout} layout do not fit: expected four stages ({error})") from error


_UNUSED = ("image_projection", "lang_projection", "vision_projection", "text_projection", "logit_scale")
_LANGUAGE = tuple(Rule(f"{prefix}.{{rest}}", None) for prefix in ("lang_encoder", "text"))


def _layout(name: str, prefix: str) -> Layout:
    markers = tuple(f"{prefix}{convs}.0.proj.weight" for convs in ("convs", "conv_embeds"))
    beside = () if not prefix else (*(Rule(unused, None) for unused in _UNUSED), *_LANGUAGE)
    return Layout(name, markers, (*_encoder(prefix), *beside), finish_davit)


DAVIT_LAYOUTS: tuple[Layout, ...] = (
    _layout("DaViT", ""),
    _layout("MedImageInsight", "image_encoder."),
    _layout("MedImageInsight (older names)", "visual."),
)
