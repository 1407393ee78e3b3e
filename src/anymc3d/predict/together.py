"""What several plugins say of one case: slices that are the same go through what their backbones have in common once.

Slices are the same when their bytes are, whichever settings made them; beside that the mean and standard deviation, the
precision and what the slices see of their neighbours must agree. See ``anymc3d.models.shared_trunk``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from anymc3d.data.case_scans import PreparedCase
from anymc3d.models.classifier import ClassifierOutput, Encoding, PackedSlices, VolumeClassifier
from anymc3d.models.shared_trunk import Tail, encode_together
from anymc3d.predict.answer import Runs
from anymc3d.predict.resident import Resident, packed


@dataclass(frozen=True, eq=False)
class Asked:
    """A plugin and the slices of one case as it takes them."""

    resident: Resident
    prepared: PreparedCase


@dataclass(frozen=True, eq=False)
class _Look:
    """One view of one member of one plugin, and where its class tokens belong."""

    place: tuple[int, int, str]
    """Number of the plugin, number of the member, view."""
    resident: Resident
    tail: Tail
    slices: np.ndarray


def run_together(asked: Sequence[Asked], case: str, device: torch.device) -> list[Runs]:
    """What each member of each plugin says of one case, in the order of ``asked``."""
    tokens: dict[tuple[int, int, str], Tensor] = {}
    for looks in _alike([look for number, one in enumerate(asked) for look in _looks(number, one)]):
        slices = torch.from_numpy(looks[0].slices).to(device)
        tails = [look.tail for look in looks]

        def run(encoding: Encoding, tails: list[Tail] = tails, slices: Tensor = slices) -> list[Tensor]:
            with torch.inference_mode():
                return encode_together(tails, PackedSlices(slices, (len(slices),)), encoding)

        found = looks[0].resident.within_memory(case, run)
        tokens |= {look.place: of_look for look, of_look in zip(looks, found, strict=True)}
    return [_runs(number, one, tokens, case, device) for number, one in enumerate(asked)]


def _looks(number: int, asked: Asked) -> list[_Look]:
    """Of a plugin that stands on a backbone: all that goes through it."""
    resident, loaded = asked.resident, asked.resident.backbone
    if loaded is None:
        return []
    found = []
    for index, (card, classifier) in enumerate(resident.members):
        for name in card.views:
            view = asked.prepared.views[name]
            if view is not None:
                tail = Tail(classifier, name, loaded.module, loaded.trunk)
                found.append(_Look((number, index, name), resident, tail, view.slices))
    return found


def _alike(looks: Sequence[_Look]) -> list[list[_Look]]:
    """Groups that go through together."""
    arrays = {id(look.slices): look.slices for look in looks}
    kinds = [(array.shape, array.dtype) for array in arrays.values()]
    content: dict[int, Hashable] = {}
    for key, array in arrays.items():
        kind = (array.shape, array.dtype)
        # Views that were made alike are one array; of others the bytes are compared, where they can be the same.
        content[key] = (kind, key if kinds.count(kind) == 1 else hashlib.sha256(np.ascontiguousarray(array)).digest())
    groups: dict[Hashable, list[_Look]] = {}
    for look in looks:
        classifier, backbone = look.tail.classifier, look.tail.backbone
        seen = (content[id(look.slices)], look.tail.view in classifier.neighbours)
        groups.setdefault((seen, look.resident.encoding, backbone.patch_size), []).append(look)
    return list(groups.values())


def _runs(
    number: int, asked: Asked, tokens: dict[tuple[int, int, str], Tensor], case: str, device: torch.device
) -> Runs:
    """The members' answers, from the class tokens of their views."""
    resident = asked.resident

    def answer(index: int, classifier: VolumeClassifier, views: Sequence[str]) -> ClassifierOutput:
        nothing = torch.zeros(0, resident.network.embed_dim, device=device)
        own = {name: tokens.get((number, index, name), nothing) for name in views}
        with torch.inference_mode():
            return classifier.fuse(own, {name: (len(found),) for name, found in own.items()})

    if resident.network is not None:
        return [(card, answer(index, one, card.views)) for index, (card, one) in enumerate(resident.members)]
    batch = packed(resident.plugin.card.preprocessing, asked.prepared, device)

    def run(encoding: Encoding) -> Runs:
        with torch.inference_mode():
            return [(card, network(None, batch, encoding)) for card, network in resident.members]

    return resident.within_memory(case, run)
