"""For the shared test of the zoo: the RSNA winners and CT-Net, with their counts and quick ones of the same classes."""

from torch import Generator, nn
from zoo_cases import tiny_efficientnet

from anymc3d.models.zoo.coat import CoaTLite
from anymc3d.models.zoo.convnext import ConvNeXt
from anymc3d.models.zoo.ctnet import CTNet
from anymc3d.models.zoo.rsna2022 import CHANNELS, rsna2022, rsna2022_patient
from anymc3d.models.zoo.rsna2023 import rsna2023_coat, rsna2023_efficientnet
from anymc3d.models.zoo.rsna2024 import SliceAttention, rsna2024_convnext, rsna2024_efficientnet

COUNTS = {  # for two logits: trainable, total
    "rsna2022": (25_037_058, 25_037_058),
    "rsna2022-patient": (34_920_036, 34_920_036),
    "rsna2023-coat": (45_240_770, 45_240_770),
    "rsna2023-efficientnet": (30_020_690, 30_020_690),
    "rsna2024-convnext": (56_547_170, 56_547_170),
    "rsna2024-efficientnet": (39_862_610, 39_862_610),
    "ct-net": (12_403_922, 12_403_922),
}


def tiny_convnext(in_channels: int = 3) -> ConvNeXt:
    encoder = ConvNeXt(2, in_channels, depths=(1, 1, 1, 1), widths=(4, 4, 8, 8), drop_path=0.0)
    for stage in encoder.stages:
        nn.init.ones_(stage[0].gamma)  # with 1e-6 one step moves some norms by less than a float can tell
    return encoder


def quick_convnext(num_logits: int, in_channels: int, generator: Generator) -> SliceAttention:
    return rsna2024_convnext(num_logits, in_channels, generator, encoder=tiny_convnext())


SMALL = {  # builder (logits, channels, generator) of a network that is quick, and a size (S, H, W) for it
    "rsna2022": (lambda k, _, __: rsna2022(k, encoder=tiny_efficientnet(CHANNELS), hidden=8), (17, 20, 24)),
    "rsna2022-patient": (
        lambda k, _, __: rsna2022_patient(k, encoder=tiny_convnext(CHANNELS), hidden=8),
        (17, 40, 64),
    ),
    "rsna2023-coat": (
        lambda k, c, _: rsna2023_coat(k, c, encoder=CoaTLite(widths=(8, 8, 16, 16), depths=(1, 1, 2, 2))),
        (7, 40, 64),
    ),
    "rsna2023-efficientnet": (lambda k, c, _: rsna2023_efficientnet(k, c, encoder=tiny_efficientnet()), (7, 20, 24)),
    "rsna2024-convnext": (quick_convnext, (5, 40, 64)),
    "rsna2024-efficientnet": (
        lambda k, c, g: rsna2024_efficientnet(k, c, g, encoder=tiny_efficientnet()),
        (5, 20, 24),
    ),
    "ct-net": (lambda k, _, __: CTNet(k, size=(9, 192, 161), widths=(4, 4, 8, 54)), (10, 170, 180)),
}
UNUSED: dict[str, set[str]] = {
    "rsna2022-patient": {f"head.{layer}.{kind}" for layer in (0, 1, 4) for kind in ("weight", "bias")}
}
"""Trained on what its authors' objective says of slices, and no part of the answer."""
