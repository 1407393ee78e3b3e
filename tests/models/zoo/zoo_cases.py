"""For the shared test of the zoo: of each network the count, and a quick one of the same class with a size for it."""

from torch import Generator, nn

from anymc3d.models.vit import ViTConfig
from anymc3d.models.zoo.convnext import ConvNeXt3DClassifier
from anymc3d.models.zoo.ctclip import ClassFine, CTViT, CTViTConfig
from anymc3d.models.zoo.deepcntd import DeepCNTD
from anymc3d.models.zoo.densenet import DenseNet
from anymc3d.models.zoo.efficientnet import EfficientNet, Stage
from anymc3d.models.zoo.entry import Builder
from anymc3d.models.zoo.m3t import M3T
from anymc3d.models.zoo.medicalnet import MedicalNet, medicalnet
from anymc3d.models.zoo.mst import MST
from anymc3d.models.zoo.pretrained import Strategy
from anymc3d.models.zoo.resnet import resnet18_3d
from anymc3d.models.zoo.slice_rnn import rsna_kaggle
from anymc3d.models.zoo.swin import VoCoEncoder, voco

TINY_CTVIT = CTViTConfig(size=(20, 40, 40), width=8, depth=1, num_heads=2, head_dim=4, num_codes=16, latent=16)
TINY_VIT = ViTConfig(embed_dim=48, depth=1, num_heads=2, patch_size=14, grid=3)


def quick_medicalnet(strategy: Strategy) -> Builder:
    def build(num_logits: int, _: int, generator: Generator) -> nn.Module:
        encoder = MedicalNet(depths=(1, 1, 1, 1), widths=(4, 4, 8, 8))
        return medicalnet(num_logits, generator, strategy=strategy, encoder=encoder)

    return build


def quick_voco(strategy: Strategy) -> Builder:
    def build(num_logits: int, _: int, generator: Generator) -> nn.Module:
        encoder = VoCoEncoder(width=4, num_heads=(1, 2, 2, 4))
        return voco(num_logits, generator, strategy=strategy, encoder=encoder)

    return build


def tiny_efficientnet(in_channels: int = 3) -> EfficientNet:
    stages = (
        Stage(kind="conv", depth=1, stride=1, expansion=1, width=8),
        Stage(kind="edge", depth=2, stride=2, expansion=2, width=8),
        Stage(kind="inverted", depth=2, stride=2, expansion=2, width=12),
    )
    return EfficientNet(in_channels, stages=stages, stem=8, embed_dim=16)


COUNTS = {  # for two logits: trainable, total
    "resnet18-3d": (33_161_922, 33_161_922),
    "densenet121-3d": (11_244_674, 11_244_674),
    "convnext-tiny-3d": (31_318_946, 31_318_946),
    "mst": (22_947_074, 22_947_074),
    "mst-positions": (23_045_378, 23_045_378),
    "m3t": (29_229_538, 29_229_538),
    "rsna-kaggle": (25_036_626, 25_036_626),
    "medicalnet-linear": (4_098, 46_159_170),
    "medicalnet-lora": (1_139_386, 46_159_170 + 1_135_288),
    "medicalnet-full": (46_159_170, 46_159_170),
    "voco-linear": (1_538, 50_489_396),
    "voco-lora": (70_658, 50_489_396 + 69_120),
    "voco-full": (50_489_396, 50_489_396),
    "ct-clip-classfine": (1_026, 174_416_712 + 1_026),
    "deepcntd": (22_605_614, 22_605_614),
}
SMALL = {  # builder (logits, channels, generator) of a network that is quick, and a size (S, H, W) for it
    "resnet18-3d": (lambda k, c, _: resnet18_3d(k, c, widths=(4, 8, 8, 16)), (9, 16, 20)),
    "densenet121-3d": (lambda k, c, _: DenseNet(k, c, depths=(2, 2, 2, 2), growth=4, stem=8), (20, 32, 40)),
    "convnext-tiny-3d": (
        lambda k, c, _: ConvNeXt3DClassifier(k, c, depths=(1, 1, 2, 1), widths=(8, 8, 16, 16)),
        (20, 36, 40),
    ),
    "mst": (lambda k, c, g: MST(k, c, g, config=TINY_VIT), (5, 20, 28)),
    "mst-positions": (lambda k, c, g: MST(k, c, g, config=TINY_VIT, positions=True), (5, 20, 28)),
    "m3t": (
        lambda k, c, _: M3T(k, c, side=8, num_layers=2, depths=(1, 1, 1, 1), widths=(4, 4, 8, 8)),
        (6, 9, 8),
    ),
    "rsna-kaggle": (lambda k, c, _: rsna_kaggle(k, c, encoder=tiny_efficientnet(), hidden=8), (7, 20, 24)),
    **{f"medicalnet-{s}": (quick_medicalnet(s), (9, 16, 20)) for s in ("linear", "lora", "full")},
    **{f"voco-{s}": (quick_voco(s), (32, 64, 64)) for s in ("linear", "lora", "full")},
    "ct-clip-classfine": (lambda k, _, g: ClassFine(k, g, encoder=CTViT(TINY_CTVIT)), (20, 40, 40)),
    "deepcntd": (
        lambda k, c, _: DeepCNTD(k, c, widths=(4, 4, 8, 8), depths=(1, 1, 1, 1), growth=4, stem=8),
        (12, 40, 36),
    ),
}
UNUSED = {"mst": {"encoder.mask_token"}, "mst-positions": {"encoder.mask_token"}}
"""Parameters of an original that no answer depends on; they are there so that its weights load by name."""
