"""How a weights file names its tensors: rules from those names to canonical ones.

Every tensor of a file is either used, or listed in the rules as known and unused; anything else is an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from anymc3d.errors import BackboneError
from anymc3d.models.architectures import empty_backbone
from anymc3d.models.backbone_protocol import BackboneConfig

PRECISIONS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_PLACES = {"i": r"\d{1,3}", "j": r"\d{1,3}", "leaf": "weight|bias", "rest": ".+"}

Thirds = dict[str, dict[int, Tensor]]
"""Canonical name of a fused qkv tensor -> its third -> the part."""


@dataclass(frozen=True)
class Rule:
    """Tensors whose whole name matches ``pattern`` become ``target``.

    ``{i}`` and ``{j}`` are numbers, ``{leaf}`` is weight or bias, ``{rest}`` anything.
    """

    pattern: str
    target: str | None
    """The canonical name; ``None``: known, and not part of the forward path."""
    third: int | None = None
    """Third of a fused qkv tensor: 0 query, 1 key, 2 value."""

    @cached_property
    def _form(self) -> re.Pattern[str]:
        pattern = re.escape(self.pattern)
        for place, form in _PLACES.items():
            pattern = pattern.replace(re.escape(f"{{{place}}}"), f"(?P<{place}>{form})")
        return re.compile(pattern)

    def match(self, name: str) -> re.Match[str] | None:
        return self._form.fullmatch(name)


@dataclass(frozen=True)
class Layout:
    """One way of naming the tensors; a file that holds one of ``markers`` is in this layout."""

    name: str
    markers: tuple[str, ...]
    rules: tuple[Rule, ...]
    finish: Callable[[dict[str, Tensor], Thirds, str], tuple[BackboneConfig, dict[str, Tensor]]]
    """Renamed tensors, thirds and the layout's name -> the configuration and the tensors of the forward path."""
    needs_settings: bool = False
    """Whether the tensors leave open what the network computes, and a ``config.json`` must say it."""

    def rule(self, name: str) -> tuple[Rule, re.Match[str]] | None:
        """The rule that knows this tensor."""
        return next(((rule, match) for rule in self.rules if (match := rule.match(name))), None)


def rename(raw: Mapping[str, Tensor], layout: Layout) -> tuple[dict[str, Tensor], Thirds]:
    """Apply the layout's rules: whole tensors, and thirds of fused ones.

    Raises:
        BackboneError: a tensor is unknown, comes twice, or is not of a floating-point type.
    """
    whole: dict[str, Tensor] = {}
    thirds: Thirds = {}
    unknown, twice = [], []
    for name, tensor in raw.items():
        matched = layout.rule(name)
        if matched is None:
            unknown.append(name)
            continue
        rule, match = matched
        if rule.target is None:
            continue
        target = rule.target.format(**match.groupdict())
        if tensor.dtype not in PRECISIONS:
            raise BackboneError(
                f"expected weights in float32, float16, bfloat16 or float64, got {tensor.dtype}: {name}"
            )
        place, key = (whole, target) if rule.third is None else (thirds.setdefault(target, {}), rule.third)
        if key in place:
            twice.append(name)
        place[key] = tensor
    if unknown or twice:
        parts = [f"{what}: {some(sorted(n))}" for what, n in (("unknown", unknown), ("given twice", twice)) if n]
        raise BackboneError(f"weights in the {layout.name} layout do not fit: " + "; ".join(parts))
    return whole, thirds


def check_complete(tensors: Mapping[str, Tensor], config: BackboneConfig, layout_name: str) -> None:
    """Raise :class:`BackboneError` unless ``tensors`` are exactly those of the architecture, in name and shape."""
    expected = {name: tuple(value.shape) for name, value in empty_backbone(config).state_dict().items()}
    missing, unknown = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
    wrong = [
        f"{name} {tuple(tensors[name].shape)} instead of {shape}"
        for name, shape in expected.items()
        if name in tensors and tuple(tensors[name].shape) != shape
    ]
    parts = [f"{what}: {some(names)}" for what, names in (("missing", missing), ("unknown", unknown)) if names]
    if wrong:
        parts.append(f"wrong shape: {some(wrong)}")
    if parts:
        raise BackboneError(f"weights in the {layout_name} layout do not fit: " + "; ".join(parts))


def some(names: Sequence[str], limit: int = 8) -> str:
    """The first few names, and how many more there are."""
    rest = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + rest
