"""What a network of the zoo starts from: tensors under the names of the network as it is built here.

They may be those of the whole network or of some of its parts (the first word of a name: ``encoder``); a part is taken
whole, but for what no published file can fill, and what is not given keeps its initial values.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from anymc3d.errors import BackboneError
from anymc3d.models.fingerprint import layout_fingerprint
from anymc3d.models.strict_load import SHOWN
from anymc3d.models.weight_files import read_safetensors
from anymc3d.models.zoo.efficientnet import repeated_stem
from anymc3d.models.zoo.entry import ZooEntry
from anymc3d.models.zoo.network_store import how_to_get, stored_network, stored_tensors
from anymc3d.models.zoo.published_table import PUBLISHED, Published, weights_for
from anymc3d.models.zoo.published_weights import convert, network_fingerprint, part_shapes, recognise
from anymc3d.models.zoo.table import zoo_entry

RANDOM = "random"
"""``method.weights`` of a network that is trained from random values on purpose."""
HEADS = ("fc.", "head.", "head2.", "linear.", "class_layers.", "classifier.")
"""Beginnings of the names of layers that give the logits, where a network does not say its own (``heads``); those for
another number of labels are left out."""


@dataclass(frozen=True)
class LoadedNetworkWeights:
    """Tensors to start from. ``source``: what they were read from; for messages, not for records that leave.

    ``fresh``: names inside the parts that are given which keep their initial values.
    """

    tensors: Mapping[str, Tensor]
    fingerprint: str
    source: str
    fresh: frozenset[str] = field(default_factory=frozenset)


def find_network_weights(entry_name: str, reference: str | None) -> LoadedNetworkWeights:
    """Weights for an entry of the zoo.

    Args:
        entry_name: of the zoo.
        reference: a safetensors file, as published or with the names of the network here, or a name in the local
            store; None: the first of the published weights of this entry that the store holds.

    Raises:
        UsageError: no such entry.
        BackboneError: the weights are not there (the message says how to get them), are another network's, or cannot
            be read.
    """
    entry = zoo_entry(entry_name)
    if reference is not None and Path(reference).expanduser().is_file():
        return _from_file(entry, Path(reference).expanduser())
    for name in [published.name for published in weights_for(entry_name)] if reference is None else [reference]:
        record = stored_network(name)
        if record is not None:
            published = PUBLISHED[record.published]
            return _of_published(entry, stored_tensors(record), published, f"{name} of the local store")
    raise BackboneError(_not_there(entry, reference))


def _not_there(entry: ZooEntry, reference: str | None) -> str:
    known = weights_for(entry.name)
    ways = how_to_get(known[0]) if known else "give a file with method.weights=FILE"
    where = "not on this machine" if reference is None else f"neither a file nor in the local store as {reference!r}"
    return (
        f"method {entry.name} starts from published weights ({entry.weights}), which are {where}; {ways}; or train "
        "from random values with method.weights=random"
    )


def _from_file(entry: ZooEntry, file: Path) -> LoadedNetworkWeights:
    try:
        raw = read_safetensors(file)
    except BackboneError as error:
        raise BackboneError(f"{file}: {error}; import other files with 'anymc3d backbone import FILE'") from None
    raw = _of_one_network(raw, file)
    expected = entry.empty(2).state_dict() if 1 in entry.channels else entry.empty(2, in_channels=3).state_dict()
    if not {name for name in raw if name in expected}:
        published = recognise(raw, file.name)
        if published is not None:
            return _of_published(entry, convert(raw, published).tensors, published, str(file))
    try:
        return LoadedNetworkWeights(raw, network_fingerprint(raw), str(file))
    except BackboneError as error:
        raise BackboneError(f"{file}: {error}") from None


def _of_one_network(raw: Mapping[str, Tensor], file: Path) -> dict[str, Tensor]:
    """The tensors without torch's counters of steps; of a plugin of a network those of its only view.

    Raises:
        BackboneError: it is a plugin of several views.
    """
    tensors = {name: tensor for name, tensor in raw.items() if not name.endswith("num_batches_tracked")}
    views = {name.split(".")[1] for name in tensors if name.startswith("network.") and name.count(".") > 1}
    if len(views) > 1:
        raise BackboneError(
            f"{file}: a plugin of {len(views)} views ({', '.join(sorted(views))}), which has no one network"
        )
    prefix = f"network.{next(iter(views))}." if views else ""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}


def _of_published(
    entry: ZooEntry, tensors: Mapping[str, Tensor], published: Published, source: str
) -> LoadedNetworkWeights:
    """The tensors of published weights, where they stand in the network."""
    digest = network_fingerprint(tensors)
    if entry.name not in published.users:
        users = ", ".join(published.users)
        raise BackboneError(f"{source}: {published.title} ({digest}) is for {users}, and the method is {entry.name}")
    prefix = published.users[entry.name]
    tensors = _with_stem(entry, tensors, published)
    patterns = [pattern for pattern, _ in published.fresh]
    fresh = {name for name in part_shapes(published) if any(re.fullmatch(pattern, name) for pattern in patterns)}
    return LoadedNetworkWeights(
        {f"{prefix}{name}": tensor for name, tensor in tensors.items()},
        digest,
        source,
        frozenset(f"{prefix}{name}" for name in fresh),
    )


def _with_stem(entry: ZooEntry, tensors: Mapping[str, Tensor], published: Published) -> Mapping[str, Tensor]:
    """The same, with the first convolution repeated where the network reads another number of channels."""
    if published.stem is None:
        return tensors
    stem = entry.empty(2, in_channels=entry.channels[0]).state_dict()[published.users[entry.name] + published.stem]
    weight = tensors[published.stem]
    if stem.shape[1] == weight.shape[1]:
        return tensors
    return {**tensors, published.stem: repeated_stem(weight, stem.shape[1])}


def start_from(network: nn.Module, weights: LoadedNetworkWeights, what: str) -> list[str]:
    """Copy weights into a network; returns the parts that keep their initial values.

    Raises:
        BackboneError: a name the network does not have, another shape, or a part that is not whole: it is another
            network's checkpoint, and both fingerprints are shown.
    """
    expected = {
        name: tensor for name, tensor in network.state_dict(keep_vars=True).items() if tensor.is_floating_point()
    }
    other_heads = _odd_heads(weights.tensors, expected, getattr(network, "heads", HEADS))
    tensors = {name: tensor for name, tensor in weights.tensors.items() if not name.startswith(other_heads)}
    parts = {_part(name) for name in tensors}
    needed = [n for n in expected if _part(n) in parts and n not in weights.fresh and not n.startswith(other_heads)]
    wrong = [f"unexpected {name}" for name in tensors if name not in expected]
    wrong += [f"missing {name}" for name in needed if name not in tensors]
    wrong += [
        f"{name} has shape {tuple(tensor.shape)}, expected {tuple(expected[name].shape)}"
        for name, tensor in tensors.items()
        if name in expected and expected[name].shape != tensor.shape
    ]
    if wrong or not tensors:
        raise BackboneError(
            f"{weights.source}: not weights of {what}: expected {layout_fingerprint(expected)}, got "
            f"{layout_fingerprint(weights.tensors)}; {'; '.join(wrong[:SHOWN]) or 'no tensor of it'}"
        )
    with torch.no_grad():
        for name, tensor in tensors.items():
            expected[name].copy_(tensor)
    fresh = {_part(name) for name in expected} - parts | {head.rstrip(".") for head in other_heads}
    return sorted(fresh) + sorted(weights.fresh)


def _part(name: str) -> str:
    return name.partition(".")[0]


def _odd_heads(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], heads: Sequence[str]) -> tuple[str, ...]:
    """Of the heads those that are for another number of labels."""
    other = [name for name, tensor in tensors.items() if name in expected and expected[name].shape != tensor.shape]
    return tuple(head for head in heads if any(name.startswith(head) for name in other))
