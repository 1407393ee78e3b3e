"""Queries and heads of standardised embeddings, and the same ones of raw embeddings: exact, both ways.

A backbone's class token is mostly one long vector that all scans have in common. A head that learns on it spends its
first steps on that vector; on embeddings of mean 0 and spread 1 it does not. With z = (h - mean) / spread, for each
dimension and with the same two vectors for all slices and views:

* ``query`` and ``mean``: weights of a pooling add up to 1, so pooling z is standardising what pooling h gives; the
  scores of a query move by one constant for all slices, which a softmax does not see.
* ``max`` and ``median``: element by element a rising map, which changes no order.
* ``concat``: each view may have a scale of its own, as wide as it is; what stands for a missing view is put back.
* ``lstm``, ``lstm-mil``, ``transformer``: the first thing done to a slice is an affine map, which takes the change up;
  what follows, view query and head among it, sees the same numbers.
* ``mst``, ``mst-positions``: the slice itself is added to what a layer norm over its dimensions makes of it. No weights
  take up another scale there, so there is no such form.

So what is trained on z is stored for h: the plugin's tensors, their names and their number stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from anymc3d.errors import UsageError

POOLED = ("query", "mean", "concat", "max", "median")
"""Fusions after which the embedding is on the scale of the slices: view query and head take up the change."""
FIRST_MAPS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "lstm": (("lstm.weight_ih_l0", "lstm.bias_ih_l0"),),
    "lstm-mil": (
        ("lstm.weight_ih_l0", "lstm.bias_ih_l0"),
        ("lstm.weight_ih_l0_reverse", "lstm.bias_ih_l0_reverse"),
    ),
    "transformer": (("project.weight", "project.bias"),),
}
"""Fusion -> (weight, bias) of the affine maps that alone see the slices."""


@dataclass(frozen=True)
class Scale:
    """Mean and spread (D,) of the embeddings of the training cases."""

    mean: Tensor
    spread: Tensor

    def standardised(self, embeddings: Tensor) -> Tensor:
        """Embeddings (..., D) as (h - mean) / spread."""
        return (embeddings - self.mean) / self.spread

    def to(self, device: torch.device) -> Scale:
        """The same on another device."""
        return Scale(self.mean.to(device), self.spread.to(device))

    @property
    def inverse(self) -> Scale:
        """The scale that takes standardised embeddings back to raw ones."""
        return Scale(-self.mean.double() / self.spread.double(), 1 / self.spread.double())


def has_standard_form(fusion: str) -> bool:
    """Whether a plugin with this fusion can be trained on standardised embeddings."""
    return fusion in POOLED or fusion in FIRST_MAPS


def in_raw_units(tensors: Mapping[str, Tensor], scale: Scale | Mapping[str, Scale], fusion: str) -> dict[str, Tensor]:
    """Plugin tensors of standardised embeddings -> those that give the same logits for raw ones.

    Args:
        tensors: by plugin-file name, as ``VolumeClassifier.tensors`` gives them.
        scale: of the embeddings, or of those of each view; of several only ``concat`` can make use.
        fusion: entry of ``FUSIONS``.

    Raises:
        UsageError: this fusion has no such form.
    """
    if not has_standard_form(fusion):
        raise UsageError(f"fusion: {fusion} cannot be trained on standardised embeddings; take {', '.join(POOLED)}")
    raw = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    scale = _of_head(raw, scale)
    if fusion in FIRST_MAPS:
        for name in tensors:
            for weight, bias in FIRST_MAPS[fusion]:
                if name.startswith("fusion.") and name.endswith(f".{weight}"):
                    _take_up(raw, name, f"{name.removesuffix(weight)}{bias}", scale)
        return raw
    for name in tensors:
        if name == "task_query" or name.startswith("query."):
            raw[name] = (raw[name].double() / scale.spread.double()).to(raw[name].dtype)
    _take_up(raw, "head.weight", "head.cuts" if "head.cuts" in raw else "head.bias", scale)
    return raw


def _of_head(raw: dict[str, Tensor], scale: Scale | Mapping[str, Scale]) -> Scale:
    """The scale of what the head sees; with views side by side their centres are put into raw units on the way."""
    centers = [name for name in raw if name.startswith("fusion.") and name.endswith(".center")]
    if isinstance(scale, Scale):
        of_view = [scale] * len(centers)
    else:
        of_view = list(scale.values())
        scale = of_view[0]
    if not centers:
        return scale
    for name, view_scale in zip(centers, of_view, strict=True):
        raw[name] = (raw[name].double() * view_scale.spread.double() + view_scale.mean.double()).to(raw[name].dtype)
    return Scale(
        torch.cat([view_scale.mean for view_scale in of_view]), torch.cat([view_scale.spread for view_scale in of_view])
    )


def in_standard_units(tensors: Mapping[str, Tensor], scale: Scale, fusion: str) -> dict[str, Tensor]:
    """The way back: plugin tensors of raw embeddings -> those of standardised ones. Raises as :func:`in_raw_units`."""
    return in_raw_units(tensors, scale.inverse, fusion)


def _take_up(raw: dict[str, Tensor], weight: str, offset: str, scale: Scale) -> None:
    """W z + b with z = (h - mean) / spread is (W / spread) h + (b - W / spread . mean); cut points are subtracted, and
    only the first one is a place, the others are distances."""
    scaled = raw[weight].double() / scale.spread.double()
    shift = scaled @ scale.mean.double()
    dtype = raw[weight].dtype
    raw[weight] = scaled.to(dtype)
    if offset.endswith(".cuts"):
        raw[offset][0] += shift[0].to(dtype)
    else:
        raw[offset] = (raw[offset].double() - shift).to(dtype)
