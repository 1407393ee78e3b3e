"""Names and shapes of published files of weights, written down from the published code and not from the networks here.

Each function gives name -> shape. What a file holds beside the network (heads, decoders, text) is there too.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]


def norm(name: str, width: int) -> Shapes:
    """A batch norm."""
    vectors = {f"{name}.{leaf}": (width,) for leaf in ("weight", "bias", "running_mean", "running_var")}
    return vectors | {f"{name}.num_batches_tracked": ()}


def resnet50(dims: int, channels: int) -> Shapes:
    """torchvision's and MedicalNet's names of a ResNet-50 without its head."""
    shapes = {"conv1.weight": (64, channels, *[7] * dims)} | norm("bn1", 64)
    width_in = 64
    for stage, (depth, width) in enumerate(zip((3, 4, 6, 3), (64, 128, 256, 512), strict=True), start=1):
        for block in range(depth):
            at = f"layer{stage}.{block}"
            shapes |= {f"{at}.conv1.weight": (width, width_in, *[1] * dims)} | norm(f"{at}.bn1", width)
            shapes |= {f"{at}.conv2.weight": (width, width, *[3] * dims)} | norm(f"{at}.bn2", width)
            shapes |= {f"{at}.conv3.weight": (4 * width, width, *[1] * dims)} | norm(f"{at}.bn3", 4 * width)
            if block == 0:
                shapes |= {f"{at}.downsample.0.weight": (4 * width, width_in, *[1] * dims)}
                shapes |= norm(f"{at}.downsample.1", 4 * width)
            width_in = 4 * width
    return shapes


def medicalnet() -> Shapes:
    """``state_dict`` of resnet_50_23dataset.pth."""
    return {f"module.{name}": shape for name, shape in resnet50(3, 1).items()}


def torchvision_resnet50() -> Shapes:
    return resnet50(2, 3) | {"fc.weight": (1000, 2048), "fc.bias": (1000,)}


def voco() -> Shapes:
    """MONAI's SwinUNETR, version 2, 21 classes, width 48."""
    shapes: Shapes = {"patch_embed.proj.weight": (48, 1, 2, 2, 2), "patch_embed.proj.bias": (48,)}
    for stage, heads in enumerate((3, 6, 12, 24), start=1):
        width = 48 << (stage - 1)
        for block in range(2):
            shapes |= _swin_block(f"layers{stage}.0.blocks.{block}", width, heads)
        at = f"layers{stage}.0.downsample"
        shapes |= {f"{at}.norm.weight": (8 * width,), f"{at}.norm.bias": (8 * width,)}
        shapes |= {f"{at}.reduction.weight": (2 * width, 8 * width)}
        shapes |= _residual(f"layers{stage}c.0.layer", width, width)
    shapes = {f"swinViT.{name}": shape for name, shape in shapes.items()}
    for name, width_in, width in (
        ("encoder1", 1, 48),
        ("encoder2", 48, 48),
        ("encoder3", 96, 96),
        ("encoder4", 192, 192),
    ):
        shapes |= _residual(f"{name}.layer", width_in, width)
    shapes |= _residual("encoder10.layer", 768, 768)
    for name, width_in, width in (("decoder5", 768, 384), ("decoder1", 48, 48)):
        shapes |= {f"{name}.transp_conv.conv.weight": (width_in, width, 2, 2, 2)}
        shapes |= _residual(f"{name}.conv_block", 2 * width, width)
    return shapes | {"out.conv.conv.weight": (21, 48, 1, 1, 1), "out.conv.conv.bias": (21,)}


def _swin_block(at: str, width: int, heads: int) -> Shapes:
    return {
        **{f"{at}.{norm}.{leaf}": (width,) for norm in ("norm1", "norm2") for leaf in ("weight", "bias")},
        f"{at}.attn.relative_position_bias_table": (13**3, heads),
        f"{at}.attn.relative_position_index": (343, 343),
        f"{at}.attn.qkv.weight": (3 * width, width),
        f"{at}.attn.qkv.bias": (3 * width,),
        f"{at}.attn.proj.weight": (width, width),
        f"{at}.attn.proj.bias": (width,),
        f"{at}.mlp.linear1.weight": (4 * width, width),
        f"{at}.mlp.linear1.bias": (4 * width,),
        f"{at}.mlp.linear2.weight": (width, 4 * width),
        f"{at}.mlp.linear2.bias": (width,),
    }


def _residual(at: str, width_in: int, width: int) -> Shapes:
    shapes = {f"{at}.conv1.conv.weight": (width, width_in, 3, 3, 3), f"{at}.conv2.conv.weight": (width, width, 3, 3, 3)}
    return shapes | ({f"{at}.conv3.conv.weight": (width, width_in, 1, 1, 1)} if width_in != width else {})


def efficientnetv2_s() -> Shapes:
    """timm's tf_efficientnetv2_s."""
    shapes = {"conv_stem.weight": (24, 3, 3, 3)} | norm("bn1", 24)
    width_in = 24
    for stage, (kind, depth, expansion, width) in enumerate(
        (("cn", 2, 1, 24), ("er", 4, 4, 48), ("er", 4, 4, 64), ("ir", 6, 4, 128), ("ir", 9, 6, 160), ("ir", 15, 6, 256))
    ):
        for block in range(depth):
            at, wide = f"blocks.{stage}.{block}", width_in * expansion
            if kind == "cn":
                shapes |= {f"{at}.conv.weight": (width, width_in, 3, 3)} | norm(f"{at}.bn1", width)
            elif kind == "er":
                shapes |= {f"{at}.conv_exp.weight": (wide, width_in, 3, 3)} | norm(f"{at}.bn1", wide)
                shapes |= {f"{at}.conv_pwl.weight": (width, wide, 1, 1)} | norm(f"{at}.bn2", width)
            else:
                few = width_in // 4
                shapes |= {f"{at}.conv_pw.weight": (wide, width_in, 1, 1)} | norm(f"{at}.bn1", wide)
                shapes |= {f"{at}.conv_dw.weight": (wide, 1, 3, 3)} | norm(f"{at}.bn2", wide)
                shapes |= {f"{at}.se.conv_reduce.weight": (few, wide, 1, 1), f"{at}.se.conv_reduce.bias": (few,)}
                shapes |= {f"{at}.se.conv_expand.weight": (wide, few, 1, 1), f"{at}.se.conv_expand.bias": (wide,)}
                shapes |= {f"{at}.conv_pwl.weight": (width, wide, 1, 1)} | norm(f"{at}.bn3", width)
            width_in = width
    shapes |= {"conv_head.weight": (1280, 256, 1, 1)} | norm("bn2", 1280)
    return shapes | {"classifier.weight": (1000, 1280), "classifier.bias": (1000,)}


def torchvision_resnet18() -> Shapes:
    shapes = {"conv1.weight": (64, 3, 7, 7)} | norm("bn1", 64)
    width_in = 64
    for stage, width in enumerate((64, 128, 256, 512), start=1):
        for block in range(2):
            at = f"layer{stage}.{block}"
            shapes |= {f"{at}.conv1.weight": (width, width_in, 3, 3)} | norm(f"{at}.bn1", width)
            shapes |= {f"{at}.conv2.weight": (width, width, 3, 3)} | norm(f"{at}.bn2", width)
            if width_in != width:
                shapes |= {f"{at}.downsample.0.weight": (width, width_in, 1, 1)} | norm(f"{at}.downsample.1", width)
            width_in = width
    return shapes | {"fc.weight": (1000, 512), "fc.bias": (1000,)}


def pair(name: str, *weight: int) -> Shapes:
    """A layer with a bias, or a layer norm."""
    return {f"{name}.weight": weight, f"{name}.bias": weight[:1]}


def convnext(depths: tuple[int, ...]) -> Shapes:
    """The official names."""
    widths = (96, 192, 384, 768)
    shapes = pair("downsample_layers.0.0", 96, 3, 4, 4) | pair("downsample_layers.0.1", 96)
    for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
        if stage:
            at, width_in = f"downsample_layers.{stage}", widths[stage - 1]
            shapes |= pair(f"{at}.0", width_in) | pair(f"{at}.1", width, width_in, 2, 2)
        for block in range(depth):
            at = f"stages.{stage}.{block}"
            shapes |= {f"{at}.gamma": (width,)} | pair(f"{at}.dwconv", width, 1, 7, 7) | pair(f"{at}.norm", width)
            shapes |= pair(f"{at}.pwconv1", 4 * width, width) | pair(f"{at}.pwconv2", width, 4 * width)
    return shapes | pair("norm", 768) | pair("head", 1000, 768)


def coat_lite_medium() -> Shapes:
    """timm's names; every block names the positions of its stage again."""
    shapes: Shapes = {}
    width_in, patch = 3, 4
    for stage, (depth, width) in enumerate(zip((3, 6, 10, 8), (128, 256, 320, 512), strict=True), start=1):
        shapes |= {f"cls_token{stage}": (1, 1, width)}
        shapes |= pair(f"patch_embed{stage}.proj", width, width_in, patch, patch)
        shapes |= pair(f"patch_embed{stage}.norm", width)
        blocks = [f"serial_blocks{stage}.{block}" for block in range(depth)]
        for at in (f"cpe{stage}", *(f"{block}.cpe" for block in blocks)):
            shapes |= pair(f"{at}.proj", width, 1, 3, 3)
        for at in (f"crpe{stage}", *(f"{block}.factoratt_crpe.crpe" for block in blocks)):
            for index, (window, heads) in enumerate(((3, 2), (5, 3), (7, 3))):
                shapes |= pair(f"{at}.conv_list.{index}", heads * width // 8, 1, window, window)
        for at in blocks:
            shapes |= pair(f"{at}.norm1", width) | pair(f"{at}.norm2", width)
            shapes |= pair(f"{at}.factoratt_crpe.qkv", 3 * width, width)
            shapes |= pair(f"{at}.factoratt_crpe.proj", width, width)
            shapes |= pair(f"{at}.mlp.fc1", 4 * width, width) | pair(f"{at}.mlp.fc2", width, 4 * width)
        width_in, patch = width, 2
    return shapes | pair("norm4", 512) | pair("head", 1000, 512)


def mst(*, positions: bool) -> Shapes:
    """A checkpoint of MST: DINOv2 ViT-S/14 as the hub gives it, one transformer layer, a head of two."""
    width = 384
    shapes: Shapes = {"cls_token": (1, 1, width), "pos_embed": (1, 1370, width), "mask_token": (1, width)}
    shapes |= {"patch_embed.proj.weight": (width, 3, 14, 14), "patch_embed.proj.bias": (width,)}
    for block in range(12):
        at = f"blocks.{block}"
        shapes |= {f"{at}.{norm}.{leaf}": (width,) for norm in ("norm1", "norm2") for leaf in ("weight", "bias")}
        shapes |= {f"{at}.{scale}.gamma": (width,) for scale in ("ls1", "ls2")}
        shapes |= {f"{at}.attn.qkv.weight": (3 * width, width), f"{at}.attn.qkv.bias": (3 * width,)}
        shapes |= {f"{at}.attn.proj.weight": (width, width), f"{at}.attn.proj.bias": (width,)}
        shapes |= {f"{at}.mlp.fc1.weight": (4 * width, width), f"{at}.mlp.fc1.bias": (4 * width,)}
        shapes |= {f"{at}.mlp.fc2.weight": (width, 4 * width), f"{at}.mlp.fc2.bias": (width,)}
    shapes |= {"norm.weight": (width,), "norm.bias": (width,)}
    shapes = {f"encoder.{name}": shape for name, shape in shapes.items()}
    at = "slice_fusion.layers.0"
    shapes |= {f"{at}.self_attn.in_proj_weight": (3 * width, width), f"{at}.self_attn.in_proj_bias": (3 * width,)}
    shapes |= {f"{at}.self_attn.out_proj.weight": (width, width), f"{at}.self_attn.out_proj.bias": (width,)}
    for name in ("linear1", "linear2"):
        shapes |= {f"{at}.{name}.weight": (width, width), f"{at}.{name}.bias": (width,)}
    for name in (f"{at}.norm1", f"{at}.norm2", "slice_fusion.norm"):
        shapes |= {f"{name}.weight": (width,), f"{name}.bias": (width,)}
    shapes |= {"slice_pos_emb.weight": (256, width)} if positions else {}
    return shapes | {"cls_token": (1, 1, width), "linear.weight": (2, width), "linear.bias": (2,)}


def ct_clip(*, classifier: bool) -> Shapes:
    """CT-CLIP_v2.pt, or with ``classifier`` CT_LiPro_v2.pt; of the text encoder only the first tensors."""
    width = 512
    shapes: Shapes = dict(_ctvit())
    shapes = {f"visual_transformer.{name}": shape for name, shape in shapes.items()}
    shapes |= {"to_visual_latent.weight": (width, 24 * 24 * width), "to_text_latent.weight": (width, 768)}
    shapes |= {"to_visual_latent_extra.weight": (width, 8), "to_text_latent_extra.weight": (width, 768)}
    shapes |= {"temperature": (), "text_transformer.embeddings.word_embeddings.weight": (30522, 2)}
    shapes |= {"text_transformer.embeddings.position_ids": (1, 512)}
    if not classifier:
        return shapes
    shapes = {f"trained_model.{name}": shape for name, shape in shapes.items()}
    return shapes | {"classifier.weight": (18, width), "classifier.bias": (18,)}


def _ctvit() -> Iterator[tuple[str, tuple[int, ...]]]:
    width, heads = 512, 8
    for at, ins, out in (("0.0", 2, width), ("1.0", width, width), ("2", width, heads)):
        yield f"spatial_rel_pos_bias.net.{at}.weight", (out, ins)
        yield f"spatial_rel_pos_bias.net.{at}.bias", (out,)
    for name, voxels in (("to_patch_emb_first_frame", 400), ("to_patch_emb", 4000)):
        yield from ((f"{name}.1.{leaf}", (voxels,)) for leaf in ("weight", "bias"))
        yield f"{name}.2.weight", (width, voxels)
        yield from ((f"{name}.2.bias", (width,)), (f"{name}.3.weight", (width,)), (f"{name}.3.bias", (width,)))
    for name in ("enc_spatial_transformer", "enc_temporal_transformer"):
        for layer in range(4):
            at = f"{name}.layers.{layer}"
            yield from ((f"{at}.0.dsconv.weight", (width, 1, 3, 3, 3)), (f"{at}.0.dsconv.bias", (width,)))
            yield from ((f"{at}.1.null_kv", (heads, 0, 32)), (f"{at}.1.q_scale", (32,)), (f"{at}.1.k_scale", (32,)))
            for kind in ("norm", "context_norm"):
                yield from ((f"{at}.1.{kind}.gamma", (width,)), (f"{at}.1.{kind}.beta", (width,)))
            yield from ((f"{at}.1.to_q.weight", (256, width)), (f"{at}.1.to_kv.weight", (512, width)))
            yield from ((f"{at}.1.to_out.weight", (width, 256)), (f"{at}.3.0.weight", (width,)))
            yield from ((f"{at}.3.0.bias", (width,)), (f"{at}.3.1.weight", (2730, width)))
            yield f"{at}.3.4.weight", (width, 1365)
        yield from ((f"{name}.norm_out.gamma", (width,)), (f"{name}.norm_out.beta", (width,)))
    yield from (("vq._codebook.initted", (1,)), ("vq._codebook.cluster_size", (1, 8192)))
    yield "vq._codebook.embed", (1, 8192, width)


LAYOUTS: dict[str, Shapes] = {
    "medicalnet-resnet50-23": medicalnet(),
    "medicalnet-resnet50": medicalnet(),
    "voco-vocomni-b": voco(),
    "resnet50-imagenet": torchvision_resnet50(),
    "efficientnetv2-s": efficientnetv2_s(),
    "resnet18-imagenet": torchvision_resnet18(),
    "convnext-small-imagenet": convnext((3, 3, 27, 3)),
    "convnext-tiny-imagenet": convnext((3, 3, 9, 3)),
    "coat-lite-medium": coat_lite_medium(),
    "mst": mst(positions=False),
    "mst-positions": mst(positions=True),
    "ct-clip": ct_clip(classifier=False),
}
COUNTED = ("num_batches_tracked", "relative_position_index", "position_ids")


def zeros(shapes: Shapes) -> dict[str, Tensor]:
    """One zero per tensor, seen as many: no memory, and no file (a file needs :func:`values`)."""
    return {name: torch.zeros((), dtype=_dtype(name)).expand(shape) for name, shape in shapes.items()}


def values(shapes: Shapes, *, seed: int = 0) -> dict[str, Tensor]:
    """Tensors in half precision with values, for files."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.zeros(shape, dtype=torch.int64)
        if _dtype(name) == torch.int64
        else torch.rand(shape, generator=generator).half() + 0.5
        for name, shape in shapes.items()
    }


def _dtype(name: str) -> torch.dtype:
    return torch.int64 if name.endswith(COUNTED) else torch.float32
