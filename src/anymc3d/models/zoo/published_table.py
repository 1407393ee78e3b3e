"""THE table of published weights for networks of the zoo: what the files are, whose, and how their names read here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from anymc3d.models.zoo.pretrained import STRATEGIES


@dataclass(frozen=True)
class Drop:
    """Tensors of a file that no network here uses. ``zero``: only if they are zero, else the network is another."""

    pattern: str
    """Matches the whole name, prefixes taken off."""
    reason: str
    zero: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Published:
    """One file of published weights, or several of one layout."""

    name: str
    """The name of its folder in the local store."""
    title: str
    """The name to use in reports."""
    files: tuple[str, ...]
    """As they are called where they are published."""
    source: str
    licence: str
    gated: bool = False
    """Their owner hands them out only after a registration."""
    users: Mapping[str, str]
    """Entry of the zoo -> beginning of the names of the part that is filled; all parts are built alike."""
    marker: str
    """A tensor, by its name here, of which a file of this layout is known."""
    prefixes: tuple[str, ...] = ()
    """Taken off names, one after the other, where they are there."""
    renames: tuple[tuple[str, str], ...] = ()
    """(pattern of the whole name, name here); other names stay as they are."""
    drops: tuple[Drop, ...] = ()
    fresh: tuple[tuple[str, str], ...] = ()
    """(pattern of names here, reason): what the file cannot fill, which keeps its initial values."""
    stem: str | None = None
    """Name of a first convolution of three channels, repeated where a network reads another number of them."""
    heads: tuple[str, ...] = ()
    """Beginnings of names here that belong to a task and not to the weights."""


COUNTERS = Drop(r".*\.num_batches_tracked", "counters of training steps, which no answer depends on")


def _medicalnet(name: str, file: str, title: str) -> Published:
    return Published(
        name=name,
        title=title,
        files=(file,),
        source="https://github.com/Tencent/MedicalNet",
        licence="MIT",
        users={f"medicalnet-{strategy}": "encoder." for strategy in STRATEGIES},
        marker="layer1.0.conv1.weight",
        prefixes=("module.",),
        drops=(COUNTERS, Drop(r"(conv_seg|fc)\..*", "the head of its own task")),
    )


_VOCO = Published(
    name="voco-vocomni-b",
    title="VoCo VoComni-B",
    files=("VoComni_B.pt",),
    source="https://huggingface.co/Luffy503/VoCo",
    licence="Apache-2.0",
    users={f"voco-{strategy}": "encoder." for strategy in STRATEGIES},
    marker="swinViT.patch_embed.proj.weight",
    prefixes=("module.", "backbone."),
    renames=((r"swin_vit\.(.*)", r"swinViT.\1"),),
    drops=(
        Drop(r".*\.relative_position_index", "computed from the size of a window"),
        Drop(r"(encoder[1-4]|decoder[1-5]|out)\..*", "the decoder and the skip connections of segmentation"),
    ),
)

_RESNET50 = Published(
    name="resnet50-imagenet",
    title="ResNet-50 of ImageNet",
    files=("resnet50-0676ba61.pth", "resnet50-19c8e357.pth", "resnet50.tv_in1k"),
    source="https://download.pytorch.org/models, https://huggingface.co/timm/resnet50.tv_in1k",
    licence="BSD-3-Clause (torchvision)",
    users={"m3t": "cnn_2d."},
    marker="layer1.0.conv1.weight",
    drops=(COUNTERS, Drop(r"fc\..*", "the head of its own task"), Drop(r"conv1\.weight", "reads three channels")),
    fresh=((r"conv1\.weight", "reads 32 channels here, the published one three"),),
)

_EFFICIENTNET = Published(
    name="efficientnetv2-s",
    title="EfficientNetV2-S of ImageNet-21k and -1k",
    files=("tf_efficientnetv2_s.in21k_ft_in1k", "tf_efficientnetv2_s_21ft1k-d7dafa41.pth"),
    source="https://huggingface.co/timm/tf_efficientnetv2_s.in21k_ft_in1k",
    licence="Apache-2.0",
    users=dict.fromkeys(("rsna-kaggle", "rsna2022", "rsna2023-efficientnet", "rsna2024-efficientnet"), "encoder."),
    marker="conv_stem.weight",
    stem="conv_stem.weight",
    drops=(COUNTERS, Drop(r"classifier\..*", "the head of its own task")),
)

_RESNET18 = Published(
    name="resnet18-imagenet",
    title="ResNet-18 of ImageNet",
    files=("resnet18-f37072fd.pth", "resnet18-5c106cde.pth", "resnet18.tv_in1k"),
    source="https://download.pytorch.org/models, https://huggingface.co/timm/resnet18.tv_in1k",
    licence="BSD-3-Clause (torchvision)",
    users={"ct-net": "features."},
    marker="4.0.conv1.weight",
    renames=(
        (r"conv1\.(.*)", r"0.\1"),
        (r"bn1\.(.*)", r"1.\1"),
        *((rf"layer{stage}\.(.*)", rf"{stage + 3}.\1") for stage in (1, 2, 3, 4)),
    ),
    drops=(COUNTERS, Drop(r"fc\..*", "the head of its own task")),
)


def _convnext(size: str, user: str) -> Published:
    return Published(
        name=f"convnext-{size}-imagenet",
        title=f"ConvNeXt-{size} of ImageNet",
        files=(
            f"convnext_{size}_22k_1k_224.pth",
            f"convnext_{size}_1k_224_ema.pth",
            f"convnext_{size}.fb_in22k_ft_in1k",
        ),
        source="https://github.com/facebookresearch/ConvNeXt, "
        f"https://huggingface.co/timm/convnext_{size}.fb_in22k_ft_in1k",
        licence="MIT",
        users={user: "encoder."},
        marker="downsample_layers.0.0.weight",
        renames=(
            (r"stem\.([01])\.(.*)", r"downsample_layers.0.\1.\2"),
            (r"stages\.(\d)\.downsample\.([01])\.(.*)", r"downsample_layers.\1.\2.\3"),
            (r"stages\.(\d)\.blocks\.(\d+)\.conv_dw\.(.*)", r"stages.\1.\2.dwconv.\3"),
            (r"stages\.(\d)\.blocks\.(\d+)\.mlp\.fc([12])\.(.*)", r"stages.\1.\2.pwconv\3.\4"),
            (r"stages\.(\d)\.blocks\.(\d+)\.(norm\..*|gamma)", r"stages.\1.\2.\3"),
            (r"head\.norm\.(.*)", r"norm.\1"),
        ),
        stem="downsample_layers.0.0.weight",
        drops=(Drop(r"head\.(fc\.)?(weight|bias)", "the head of its own task"),),
    )


_COAT = Published(
    name="coat-lite-medium",
    title="CoaT-Lite-Medium of ImageNet",
    files=("coat_lite_medium_384.in1k", "coat_lite_medium_384x384_f9129688.pth", "coat_lite_medium.in1k"),
    source="https://huggingface.co/timm/coat_lite_medium_384.in1k, https://github.com/mlpc-ucsd/CoaT",
    licence="Apache-2.0",
    users={"rsna2023-coat": "encoder."},
    marker="patch_embed1.proj.weight",
    drops=(
        Drop(
            r"serial_blocks\d\.\d+\.(cpe|factoratt_crpe\.crpe)\..*",
            "copies of the positions, which the blocks of a stage share",
        ),
        Drop(r"(norm[1-4]|aggregate|head)\..*", "norms and the head of its own task, behind the maps that are used"),
    ),
)


def _mst(name: str, title: str, *, positions: bool) -> Published:
    table = ((r"[a-z_]*pos[a-z_]*\.weight", "slice_fusion.positions"),) if positions else ()
    return Published(
        name=name,
        title=title,
        files=(f"{name}.ckpt",),
        source="https://github.com/mueller-franzes/MST",
        licence="MIT",
        users={name: ""},
        marker="slice_fusion.norm.weight",
        prefixes=("model.",),
        renames=((r"cls_token", "slice_fusion.class_token"), *table),
        drops=(Drop(r"linear\..*", "the head of its own task"),),
        heads=("linear.",),
    )


_LAYER = r"visual_transformer\.enc_(spatial|temporal)_transformer\.layers\.(\d+)\."
_CT_CLIP = Published(
    name="ct-clip",
    title="CT-CLIP",
    files=("CT-CLIP_v2.pt", "CT_LiPro_v2.pt", "CT_VocabFine_v2.pt"),
    source="https://huggingface.co/datasets/ibrahimhamamci/CT-RATE",
    licence="CC-BY-NC-SA 4.0, not for commercial use",
    gated=True,
    users={"ct-clip-classfine": "encoder."},
    marker="codebook",
    prefixes=("module.", "trained_model."),
    renames=(
        (r"visual_transformer\.spatial_rel_pos_bias\.net\.0\.0\.(.*)", r"bias.linear1.\1"),
        (r"visual_transformer\.spatial_rel_pos_bias\.net\.1\.0\.(.*)", r"bias.linear2.\1"),
        (r"visual_transformer\.spatial_rel_pos_bias\.net\.2\.(.*)", r"bias.linear3.\1"),
        (r"visual_transformer\.to_patch_emb\.1\.(.*)", r"patch_norm.\1"),
        (r"visual_transformer\.to_patch_emb\.2\.(.*)", r"patch_linear.\1"),
        (r"visual_transformer\.to_patch_emb\.3\.(.*)", r"patch_norm_out.\1"),
        (_LAYER + r"0\.dsconv\.(.*)", r"\1.layers.\2.position.conv.\3"),
        (
            _LAYER + r"1\.(norm\.gamma|to_q\.weight|to_kv\.weight|to_out\.weight|[qk]_scale)",
            r"\1.layers.\2.attention.\3",
        ),
        (_LAYER + r"3\.0\.(.*)", r"\1.layers.\2.feed_forward.norm.\3"),
        (_LAYER + r"3\.1\.(.*)", r"\1.layers.\2.feed_forward.wide.\3"),
        (_LAYER + r"3\.4\.(.*)", r"\1.layers.\2.feed_forward.narrow.\3"),
        (r"visual_transformer\.enc_(spatial|temporal)_transformer\.norm_out\.gamma", r"\1.norm.gamma"),
        (r"visual_transformer\.vq\._codebook\.embed", "codebook"),
        (r"to_visual_latent\.weight", "to_latent.weight"),
    ),
    drops=(
        Drop(r"text_transformer\..*|to_text_latent\..*|temperature", "text, which no volume needs"),
        Drop(r"to_(text|visual)_latent_extra\..*", "a second projection, which is not used"),
        Drop(r"classifier\..*", "the classifier for the 18 labels of CT-RATE; this one is trained for the task"),
        Drop(r"visual_transformer\.enc_.*\.(norm|norm_out)\.beta", "offsets of norms, which are zero", zero=True),
        Drop(r"visual_transformer\.enc_.*\.(context_norm\..*|null_kv)", "for texts that the encoder is not given"),
        Drop(r"visual_transformer\.to_patch_emb_first_frame\..*", "for single pictures"),
        Drop(r"visual_transformer\.vq\._codebook\.(initted|cluster_size|embed_avg)", "how the codebook was learned"),
        Drop(r"visual_transformer\.(dec_|to_pixels|vgg|discr).*", "the decoder of its pretraining"),
    ),
)

_ENTRIES = (
    _medicalnet("medicalnet-resnet50-23", "resnet_50_23dataset.pth", "MedicalNet ResNet-50 of 23 data sets"),
    _medicalnet("medicalnet-resnet50", "resnet_50.pth", "MedicalNet ResNet-50 of 8 data sets"),
    _VOCO,
    _RESNET50,
    _EFFICIENTNET,
    _RESNET18,
    _convnext("small", "rsna2024-convnext"),
    _convnext("tiny", "rsna2022-patient"),
    _COAT,
    _mst("mst", "MST", positions=False),
    _mst("mst-positions", "MST with slice positions", positions=True),
    _CT_CLIP,
)

PUBLISHED: dict[str, Published] = {published.name: published for published in _ENTRIES}


def weights_for(entry: str) -> list[Published]:
    """The published weights that an entry of the zoo can start from, the one of the paper first."""
    return [published for published in PUBLISHED.values() if entry in published.users]
