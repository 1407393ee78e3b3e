"""THE table of networks to compare AnyMC3D with: name -> what it is and how it is built (docs/method.md).

Each network's module states its own entries; here they are put in the order of the table.
"""

from __future__ import annotations

from anymc3d.errors import UsageError, did_you_mean
from anymc3d.models.zoo import (
    convnext,
    ctclip,
    ctnet,
    deepcntd,
    densenet,
    m3t,
    medicalnet,
    mst,
    resnet,
    rsna2022,
    rsna2023,
    rsna2024,
    slice_rnn,
    swin,
)
from anymc3d.models.zoo.entry import ZooEntry, count_parameters

_ENTRIES: tuple[ZooEntry, ...] = (
    *resnet.ENTRIES,
    *densenet.ENTRIES,
    *convnext.ENTRIES,
    *mst.ENTRIES,
    *m3t.ENTRIES,
    *slice_rnn.ENTRIES,
    *rsna2022.ENTRIES,
    *rsna2023.ENTRIES,
    *rsna2024.ENTRIES,
    *ctnet.ENTRIES,
    *medicalnet.ENTRIES,
    *swin.ENTRIES,
    *ctclip.ENTRIES,
    *deepcntd.ENTRIES,
)

ZOO: dict[str, ZooEntry] = {entry.name: entry for entry in _ENTRIES}

ELSEWHERE = {
    "pandx": "pandx is two nnU-Nets, which nnU-Net trains (nnUNetv2_train) and anymc3d train does not; with trained "
    "ones run anymc3d pandx MANIFEST.csv -o OUT"
}
"""Systems of the comparison that are not trained as a ``method``: what to do instead."""


def zoo_entry(name: str) -> ZooEntry:
    """The entry of this name.

    Raises:
        UsageError: the zoo has no such network.
    """
    if name in ELSEWHERE:
        raise UsageError(f"method: {ELSEWHERE[name]}")
    if name not in ZOO:
        raise UsageError(f"method: unknown name {name!r}{did_you_mean(name, ZOO)}")
    return ZOO[name]


def methods_table(num_logits: int = 2) -> list[dict[str, str | int]]:
    """One record per network, in the order of the table; parameters are counted from the built modules.

    Keys: name, trainable_parameters, total_parameters, weights, licence, citation, left_out. Networks that cannot
    take one channel are counted with the least they take.
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
                "left_out": entry.left_out,
            }
        )
    return records
