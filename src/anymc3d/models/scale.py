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
    found = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    scale = _of_head(found, scale)
    if fusion in FIRST_MAPS:
        for name in tensors:
            for weight, bias in FIRST_MAPS[fusion]:
                if name.startswith("fusion.") and name.endswith(f".{weight}"):
                    _take_up(found, name, f"{name.removesuffix(weight)}{bias}", scale)
        return found
    for name in tensors:
        if name == "task_query" or name.startswith("query."):
            found[name] = (found[name].double() / scale.spread.double()).to(found[name].dtype)
    _take_up(found, "head.weight", "head.cuts" if "head.cuts" in found else "head.bias", scale)
    return found


def _of_head(found: dict[str, Tensor], scale: Scale | Mapping[str, Scale]) -> Scale:
    """The scale of what the head sees; with views side by side their centres are put into raw units on the way."""
    centers = [name for name in found if name.startswith("fusion.") and name.endswith(".center")]
    if isinstance(scale, Scale):
        of_view = [scale] * len(centers)
    else:
        of_view = list(scale.values())
        scale = of_view[0]
    if not centers:
        return scale
    for name, own in zip(centers, of_view, strict=True):
        found[name] = (found[name].double() * own.spread.double() + own.mean.double()).to(found[name].dtype)
    return Scale(torch.cat([own.mean for own in of_view]), torch.cat([own.spread for own in of_view]))


def in_standard_units(tensors: Mapping[str, Tensor], scale: Scale, fusion: str) -> dict[str, Tensor]:
    """The way back: plugin tensors of raw embeddings -> those of standardised ones. Raises as :func:`in_raw_units`."""
    return in_raw_units(tensors, scale.inverse, fusion)


def _take_up(found: dict[str, Tensor], weight: str, offset: str, scale: Scale) -> None:
    """W z + b with z = (h - mean) / spread is (W / spread) h + (b - W / spread . mean); cut points are subtracted, and
    only the first one is a place, the others are distances."""
    scaled = found[weight].double() / scale.spread.double()
    shift = scaled @ scale.mean.double()
    dtype = found[weight].dtype
    found[weight] = scaled.to(dtype)
    if offset.endswith(".cuts"):
        found[offset][0] += shift[0].to(dtype)
    else:
        found[offset] = (found[offset].double() - shift).to(dtype)
