"""Files of published weights -> tensors under the names that the networks of the zoo have here. Pure functions.

Every tensor of a file is either used or dropped for a reason that stands here; anything else is an error, and so is
anything missing. No file was at hand when this was written: names and shapes are those of the published code.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property

import torch
from torch import Tensor, nn

from anymc3d.errors import BackboneError
from anymc3d.models.fingerprint import fingerprint, layout_fingerprint
from anymc3d.models.layout_rules import PRECISIONS
from anymc3d.models.zoo.published_table import PUBLISHED, Published
from anymc3d.models.zoo.table import zoo_entry

SHOWN = 4
HALF_MAX = torch.finfo(torch.float16).max


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """What a file of published weights gives. Names are those of the part of the network that it fills."""

    published: Published
    tensors: Mapping[str, Tensor]
    dropped: Mapping[str, int]
    """Reason -> how many tensors of the file are not used for it."""
    fresh: Mapping[str, str]
    """Tensor that keeps its initial values -> reason."""

    @cached_property
    def fingerprint(self) -> str:
        """See :func:`network_fingerprint`."""
        return network_fingerprint(self.tensors)


@dataclass(frozen=True)
class _Fit:
    """How the tensors of a file lie on the names of a network."""

    tensors: dict[str, Tensor]
    dropped: Counter[str]
    wrong: list[str]
    shared: int
    """Tensors that have the right name and shape."""


def convert(raw: Mapping[str, Tensor], published: Published) -> Conversion:
    """The tensors of a file under the names of the network, in the precision they came in.

    Raises:
        BackboneError: it is a file of another network: every difference is counted, the first are named, and the
            fingerprints of both structures are shown.
    """
    fit = _fit(raw, published)
    if fit.wrong:
        expected = layout_fingerprint(part_shapes(published))
        raise BackboneError(
            f"not the weights of {published.title} ({published.files[0]}): {'; '.join(fit.wrong)}; expected the "
            f"structure {expected}, got {layout_fingerprint(fit.tensors)}"
        )
    fresh = {name: reason for pattern, reason in published.fresh for name in _named(pattern, published)}
    return Conversion(published=published, tensors=fit.tensors, dropped=dict(fit.dropped), fresh=fresh)


def recognise(raw: Mapping[str, Tensor], file_name: str = "") -> Published | None:
    """Whose weights these are; None if of no network of the table.

    Where several networks have the same tensors, the file's name decides, and without it the first of the table.

    Raises:
        BackboneError: they are in the layout of a network of the table, but not its; the message says what differs.
    """
    candidates = [published for published in PUBLISHED.values() if _has_marker(raw, published)]
    fits = {published.name: _fit(raw, published) for published in candidates}
    whole = [published for published in candidates if not fits[published.name].wrong]
    if candidates and not whole:
        convert(raw, max(candidates, key=lambda published: fits[published.name].shared / len(part_shapes(published))))
    return next((published for published in whole if file_name in published.files), whole[0] if whole else None)


STEM_CHANNELS = 3
"""Of the photographs that published networks were trained on."""


@cache
def part_shapes(published: Published) -> Mapping[str, Tensor]:
    """Name -> tensor without memory, of the part of the network that a published file fills."""
    entry, prefix = next(iter(published.users.items()))
    state = zoo_entry(entry).empty(2).state_dict(keep_vars=True)
    named = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    shapes = {name: tensor for name, tensor in named.items() if tensor.is_floating_point()}
    if published.stem is not None:
        width, _, *kernel = shapes[published.stem].shape
        shapes[published.stem] = nn.Parameter(shapes[published.stem].new_empty(width, STEM_CHANNELS, *kernel))
    return {name: tensor for name, tensor in shapes.items() if not name.startswith(published.heads)}


def num_parameters(published: Published) -> int:
    """Parameters of the part of the network; statistics of norms and codebooks are none."""
    return sum(tensor.numel() for tensor in part_shapes(published).values() if isinstance(tensor, nn.Parameter))


def network_fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """As :func:`anymc3d.models.fingerprint.fingerprint`, with values beyond half precision taken as its largest: the
    statistics of a batch norm may be that large.

    Raises:
        BackboneError: a value is not finite.
    """
    bad = next((name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())), None)
    if bad is not None:
        raise BackboneError(f"weights are damaged: {bad} holds values that are not finite")
    return fingerprint({name: tensor.clamp(-HALF_MAX, HALF_MAX) for name, tensor in tensors.items()})


def _fit(raw: Mapping[str, Tensor], published: Published) -> _Fit:
    shapes = part_shapes(published)
    tensors: dict[str, Tensor] = {}
    dropped: Counter[str] = Counter()
    faults: list[str] = []
    for name, tensor in raw.items():
        plain = _stripped(name, published)
        drop = next((drop for drop in published.drops if re.fullmatch(drop.pattern, plain)), None)
        if drop is not None:
            dropped[drop.reason] += 1
            if drop.zero and bool(tensor.any()):
                faults.append(f"{name} should be zero everywhere and is not")
            continue
        target = _renamed(plain, published)
        if target in tensors:
            faults.append(f"{name} appears twice in it")
        tensors[target] = _as_expected(tensor, shapes.get(target))
    missing = [name for name in shapes if name not in tensors and not _is_fresh(name, published)]
    unexpected = [name for name in tensors if name not in shapes]
    other = [
        f"{name} has shape {tuple(tensor.shape)} in {str(tensor.dtype).removeprefix('torch.')}, expected "
        f"{tuple(shapes[name].shape)}"
        for name, tensor in tensors.items()
        if name in shapes and (tensor.shape != shapes[name].shape or tensor.dtype not in PRECISIONS)
    ]
    lists = ((missing, "missing"), (unexpected, "unexpected"), (other, "of another shape"), (faults, "odd"))
    wrong = [f"{len(names)} {word} ({_some(names)})" for names, word in lists if names]
    return _Fit(tensors, dropped, wrong, len(tensors) - len(unexpected) - len(other))


def _has_marker(raw: Mapping[str, Tensor], published: Published) -> bool:
    return any(_renamed(_stripped(name, published), published) == published.marker for name in raw)


def _stripped(name: str, published: Published) -> str:
    for prefix in published.prefixes:
        name = name.removeprefix(prefix)
    return name


def _renamed(name: str, published: Published) -> str:
    for pattern, target in published.renames:
        if match := re.fullmatch(pattern, name):
            return match.expand(target)
    return name


def _as_expected(tensor: Tensor, expected: Tensor | None) -> Tensor:
    """Without leading axes of one element, where only these differ."""
    if expected is not None and tensor.ndim > expected.ndim and tensor.numel() == expected.numel():
        extra = tensor.ndim - expected.ndim
        if all(size == 1 for size in tensor.shape[:extra]) and tensor.shape[extra:] == expected.shape:
            return tensor.reshape(expected.shape)
    return tensor


def _is_fresh(name: str, published: Published) -> bool:
    return any(re.fullmatch(pattern, name) for pattern, _ in published.fresh)


def _named(pattern: str, published: Published) -> list[str]:
    return [name for name in part_shapes(published) if re.fullmatch(pattern, name)]


def _some(names: list[str]) -> str:
    rest = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + rest
