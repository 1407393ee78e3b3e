"""THE table of networks to compare AnyMC3D with: name -> what it is and how it is built (METHODS 0 and 4-7)."""

from __future__ import annotations

from anymc3d.errors import UsageError, did_you_mean
from anymc3d.models.zoo.convnext import ConvNeXt3DClassifier
from anymc3d.models.zoo.densenet import DenseNet
from anymc3d.models.zoo.entry import ZooEntry, count_parameters
from anymc3d.models.zoo.resnet import ResNetClassifier, resnet18_3d

SCRATCH = "from scratch"

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
