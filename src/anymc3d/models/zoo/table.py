"""THE table of networks to compare AnyMC3D with: name -> what it is and how it is built (METHODS 0 and 4-7)."""

from __future__ import annotations

from anymc3d.errors import UsageError, did_you_mean
from anymc3d.models.zoo.convnext import ConvNeXt3DClassifier
from anymc3d.models.zoo.densenet import DenseNet
from anymc3d.models.zoo.entry import ZooEntry, count_parameters
from anymc3d.models.zoo.m3t import M3T, fixed_cube
from anymc3d.models.zoo.medicalnet import MedicalNet, medicalnet
from anymc3d.models.zoo.mst import MST
from anymc3d.models.zoo.pretrained import Strategy
from anymc3d.models.zoo.resnet import ResNetClassifier, resnet18_3d
from anymc3d.models.zoo.slice_rnn import rsna_kaggle
from anymc3d.models.zoo.swin import VoCoEncoder, voco

MST_PAPER = "Müller-Franzes et al. 2025, Medical slice transformer, arXiv 2411.15802"
SCRATCH = "from scratch"

STRATEGIES: dict[Strategy, str] = {"linear": "linear probing", "lora": "LoRA", "full": "full finetuning"}
FROZEN = "linear probing and LoRA leave the encoder frozen, batch norms with their published statistics"


def _medicalnet(strategy: Strategy) -> ZooEntry:
    return ZooEntry(
        name=f"medicalnet-{strategy}",
        title=f"MedicalNet ResNet-50, {STRATEGIES[strategy]}",
        builder=lambda logits, _, generator: medicalnet(logits, generator, strategy=strategy),
        kind="volume",
        weights="MedicalNet resnet_50_23dataset.pth",
        licence="MIT (MedicalNet)",
        citation="Chen et al. 2019, Med3D: transfer learning for 3D medical image analysis, arXiv 1904.00625",
        channels=(1,),
        sizes=MedicalNet.sizes,
        notes=f"dilated last stages, as official; {FROZEN}",
    )


def _voco(strategy: Strategy) -> ZooEntry:
    return ZooEntry(
        name=f"voco-{strategy}",
        title=f"VoCo Swin encoder, {STRATEGIES[strategy]}",
        builder=lambda logits, _, generator: voco(logits, generator, strategy=strategy),
        kind="volume",
        weights="VoCo VoComni_B.pt",
        licence="Apache-2.0 (Large-Scale-Medical)",
        citation="Wu et al. 2024, VoCo: a volume contrastive learning framework, CVPR, arXiv 2402.17300",
        channels=(1,),
        sizes=VoCoEncoder.sizes,
        notes=f"with the residual block encoder10, without the decoder; {FROZEN}",
    )


_ENTRIES = (
    ZooEntry(
        name="resnet18-3d",
        title="3D ResNet-18",
        builder=lambda logits, channels, _: resnet18_3d(logits, channels),
        kind="volume",
        weights=SCRATCH,
        licence="Apache-2.0 (MONAI)",
        citation="He et al. 2016, Deep residual learning for image recognition, CVPR, arXiv 1512.03385",
        sizes=ResNetClassifier.sizes,
        notes="first convolution with stride 2 instead of MONAI's default 1, for memory; same parameters",
    ),
    ZooEntry(
        name="densenet121-3d",
        title="3D DenseNet-121",
        builder=lambda logits, channels, _: DenseNet(logits, channels),
        kind="volume",
        weights=SCRATCH,
        licence="Apache-2.0 (MONAI)",
        citation="Huang et al. 2017, Densely connected convolutional networks, CVPR, arXiv 1608.06993",
        sizes=DenseNet.sizes,
    ),
    ZooEntry(
        name="convnext-tiny-3d",
        title="3D ConvNeXt-T",
        builder=lambda logits, channels, _: ConvNeXt3DClassifier(logits, channels),
        kind="volume",
        weights=SCRATCH,
        licence="MIT (ConvNeXt)",
        citation="Liu et al. 2022, A ConvNet for the 2020s, CVPR, arXiv 2201.03545",
        sizes=ConvNeXt3DClassifier.sizes,
        notes="the paper names neither size nor kernel: Tiny with 7 x 7 x 7, drop path 0.1",
    ),
    ZooEntry(
        name="mst",
        title="MST",
        builder=lambda logits, channels, generator: MST(logits, channels, generator),
        kind="slices",
        weights="DINOv2 ViT-S/14, trained whole",
        licence="MIT (MST), Apache-2.0 (DINOv2)",
        citation=MST_PAPER,
        sizes=MST.sizes,
        notes="without slice positions, as the paper's text and the published default; ImageNet mean and std",
    ),
    ZooEntry(
        name="mst-positions",
        title="MST with slice positions",
        builder=lambda logits, channels, generator: MST(logits, channels, generator, positions=True),
        kind="slices",
        weights="DINOv2 ViT-S/14, trained whole",
        licence="MIT (MST), Apache-2.0 (DINOv2)",
        citation=MST_PAPER,
        sizes=MST.sizes,
        notes="its parameters are the 23.05 M printed for MST; at most 256 slices",
    ),
    ZooEntry(
        name="m3t",
        title="M3T",
        builder=lambda logits, channels, _: M3T(logits, channels),
        kind="volume",
        weights="ResNet-50 of ImageNet except its first convolution, the rest from scratch",
        licence="GPL-3.0 (M3T; written anew from a description)",
        citation="Jang and Hwang 2022, M3T: three-dimensional medical image classifier using multi-plane and "
        "multi-slice transformer, CVPR",
        sizes=fixed_cube(128),
        notes="attention is divided after the softmax, as in the public code",
    ),
    ZooEntry(
        name="rsna-kaggle",
        title="RSNA-Kaggle",
        builder=lambda logits, channels, _: rsna_kaggle(logits, channels),
        kind="slices",
        weights="EfficientNetV2-S of ImageNet (tf_efficientnetv2_s.in21k_ft_in1k)",
        licence="Apache-2.0 (weights), Apache-2.0 (2023 winner)",
        citation="RSNA 2023 Abdominal Trauma Detection, first place, as rebuilt in arXiv 2512.12887, supplement C1",
        notes="three neighbouring slices are the channels, without overlap, or three windows where there are three; "
        "the largest logit of all slices; training needs two groups of slices in a batch",
    ),
    *(_medicalnet(strategy) for strategy in STRATEGIES),
    *(_voco(strategy) for strategy in STRATEGIES),
)

ZOO: dict[str, ZooEntry] = {entry.name: entry for entry in _ENTRIES}


def zoo_entry(name: str) -> ZooEntry:
    """The entry of this name.

    Raises:
        UsageError: the zoo has no such network.
    """
    if name not in ZOO:
        raise UsageError(f"method: unknown name {name!r}{did_you_mean(name, ZOO)}")
    return ZOO[name]


def methods_table(num_logits: int = 2) -> list[dict[str, str | int]]:
    """One record per network, in the order of the table; parameters are counted from the built modules.

    Keys: name, trainable_parameters, total_parameters, weights, licence, citation. Networks that cannot take one
    channel are counted with the least they take.
    """
    records = []
    for entry in ZOO.values():
        network = entry.empty(num_logits, in_channels=min(entry.channels))
        records.append(
            {
                "name": entry.name,
                "trainable_parameters": count_parameters(network, trainable=True),
                "total_parameters": count_parameters(network, trainable=False),
                "weights": entry.weights,
                "licence": entry.licence,
                "citation": entry.citation,
            }
        )
    return records
