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

from anymc3d.data.case_scans import CaseScans
from anymc3d.models.classifier import ClassifierOutput, Encoding, PackedSlices
from anymc3d.models.shared_trunk import Tail, encode_together
from anymc3d.predict.answer import Runs
from anymc3d.predict.encode import Alone
from anymc3d.predict.resident import Resident, ResidentMember
from anymc3d.predict.upload import on_device


@dataclass(frozen=True, eq=False)
class Request:
    """A plugin and the scans of one case, of which its members take their slices."""

    resident: Resident
    scans: CaseScans


@dataclass(frozen=True, eq=False)
class _Look:
    """One view of one member of one plugin, and where its class tokens belong."""

    place: tuple[int, int, str]
    """Number of the plugin, number of the member, view."""
    member: ResidentMember
    tail: Tail
    slices: np.ndarray


def run_together(requests: Sequence[Request], case: str, device: torch.device, alone: Alone) -> list[Runs]:
    """What each member of each plugin says of one case, in the order of ``requests``.

    Raises:
        ScanError: a scan cannot be read or used.
    """
    tokens: dict[tuple[int, int, str], Tensor] = {}
    for looks in _alike([look for number, request in enumerate(requests) for look in _looks(number, request, alone)]):
        slices = on_device(looks[0].slices, device)
        tails = [look.tail for look in looks]

        def run(encoding: Encoding, tails: list[Tail] = tails, slices: Tensor = slices) -> list[Tensor]:
            with torch.inference_mode():
                return encode_together(tails, PackedSlices(slices, (len(slices),)), encoding)

        class_tokens = looks[0].member.within_memory(case, run)
        tokens |= {look.place: of_look for look, of_look in zip(looks, class_tokens, strict=True)}
    return [_runs(number, request, tokens, case, alone) for number, request in enumerate(requests)]


def _looks(number: int, request: Request, alone: Alone) -> list[_Look]:
    """Of a plugin all that goes through a backbone with others."""
    looks = []
    for index, member in enumerate(request.resident.members):
        if alone.takes(member):
            continue
        prepared, loaded = request.scans.prepare(member.card.preprocessing), member.backbone
        for name in member.card.views:
            view = prepared.views[name]
            if view is not None:
                tail = Tail(member.classifier, name, loaded.module, loaded.trunk)
                looks.append(_Look((number, index, name), member, tail, view.slices))
    return looks


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
        view = look.tail.view
        pass_key = (content[id(look.slices)], view in classifier.neighbours, view in classifier.standardised)
        groups.setdefault((pass_key, look.member.encoding, backbone.patch_size), []).append(look)
    return list(groups.values())


def _runs(number: int, request: Request, tokens: dict[tuple[int, int, str], Tensor], case: str, alone: Alone) -> Runs:
    """The members' answers, from the class tokens of their views or by themselves."""

    def answer(index: int, member: ResidentMember) -> ClassifierOutput:
        if alone.takes(member):
            return alone.of_member(member, case, request.scans)
        nothing = torch.zeros(0, member.network.embed_dim, device=next(member.classifier.parameters()).device)
        class_tokens = {name: tokens.get((number, index, name), nothing) for name in member.card.views}
        with torch.inference_mode():
            return member.classifier.fuse(
                class_tokens, {name: (len(view_tokens),) for name, view_tokens in class_tokens.items()}
            )

    return [(member.card, answer(index, member)) for index, member in enumerate(request.resident.members)]
