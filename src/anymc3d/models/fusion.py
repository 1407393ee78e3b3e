"""Slice embeddings of a case -> one embedding, looking at real slices only.

Every entry of ``FUSIONS`` is a module called as ``fusion(embeddings (B, S, D), mask (B, S)) -> Fused``; ``mask`` is
True where a slice is real: the first ones of each case, at least one. Padded slices never change the result.
``out_dim`` is the width of the result. Those in ``SET_FUSIONS`` do not look at the order of the slices.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from anymc3d.errors import UsageError
from anymc3d.models.recurrent_fusion import LSTMAttention, LSTMFusion
from anymc3d.models.sequence_fusion import MAX_POSITIONS, Fused, mst, mst_positions, transformer
from anymc3d.registry import Registry, expected, takes


class QueryFusion(nn.Module):
    """One learned query: a = softmax(H q / sqrt d), v = a^T H (paper, Eq. 5-6). No projections, no norm, no bias."""

    def __init__(self, embed_dim: int, generator: torch.Generator) -> None:
        super().__init__()
        self.out_dim = embed_dim
        query = torch.empty(embed_dim)
        self.query = nn.Parameter(nn.init.trunc_normal_(query, std=0.02, generator=generator))

    def forward(self, embeddings: Tensor, mask: Tensor) -> Fused:
        scores = embeddings @ self.query / math.sqrt(embeddings.shape[-1])
        weights = scores.masked_fill(~mask, -math.inf).softmax(dim=1)
        return Fused(torch.einsum("bs,bsd->bd", weights, embeddings), weights)


class MeanFusion(nn.Module):
    """Mean over the real slices."""

    def __init__(self, embed_dim: int, generator: torch.Generator) -> None:
        super().__init__()
        self.out_dim = embed_dim

    def forward(self, embeddings: Tensor, mask: Tensor) -> Fused:
        weights = mask.to(embeddings.dtype) / mask.sum(dim=1, keepdim=True)
        return Fused(torch.einsum("bs,bsd->bd", weights, embeddings), weights)


class MaxFusion(nn.Module):
    """Element-wise maximum; a slice's weight is the share of the embedding's elements that it provides."""

    def __init__(self, embed_dim: int, generator: torch.Generator) -> None:
        super().__init__()
        self.out_dim = embed_dim

    def forward(self, embeddings: Tensor, mask: Tensor) -> Fused:
        fused, source = embeddings.masked_fill(~mask.unsqueeze(-1), -math.inf).max(dim=1)
        return Fused(fused, _share_of_elements(source, embeddings))


class MedianFusion(nn.Module):
    """Element-wise median; of an even number of slices the mean of the two middle values (docs/method.md)."""

    def __init__(self, embed_dim: int, generator: torch.Generator) -> None:
        super().__init__()
        self.out_dim = embed_dim

    def forward(self, embeddings: Tensor, mask: Tensor) -> Fused:
        ordered, order = embeddings.masked_fill(~mask.unsqueeze(-1), math.inf).sort(dim=1)
        count = mask.sum(dim=1)
        middle = torch.stack([(count - 1) // 2, count // 2], dim=1)  # (B, 2)
        index = middle.unsqueeze(-1).expand(-1, -1, embeddings.shape[-1])
        shares = [_share_of_elements(order.gather(1, index)[:, i], embeddings) for i in (0, 1)]
        return Fused(ordered.gather(1, index).mean(dim=1), (shares[0] + shares[1]) / 2)


class SideBySide(nn.Module):
    """The embeddings of all views one after the other, for a head that sees each; in place of one that is missing
    stands its ``center``, the training mean.

    Args:
        widths: view -> width of its embedding, in order.
    """

    def __init__(self, widths: Mapping[str, int]) -> None:
        super().__init__()
        self.out_dim = sum(widths.values())
        self.centers = nn.ParameterDict({view: nn.Parameter(torch.zeros(width)) for view, width in widths.items()})

    def forward(self, embeddings: Sequence[Tensor], mask: Tensor) -> Fused:
        """One (B, D of the view) per view and which are there (B, V) -> (B, sum of D) and equal weights (B, V)."""
        pairs = zip(embeddings, self.centers.values(), mask.T, strict=True)
        parts = [torch.where(is_there.unsqueeze(1), embedding, center) for embedding, center, is_there in pairs]
        weights = mask.to(parts[0].dtype) / mask.sum(dim=1, keepdim=True)
        return Fused(torch.cat(parts, dim=1), weights)


CONCAT = "concat"
"""Mean over slices; several views stand side by side."""

MakeFusion = Callable[[int, torch.Generator], nn.Module]
_EXPECTED = "a callable (embed_dim: int, generator: torch.Generator) that makes a torch.nn.Module with out_dim"
_CALLED = "a module called as (embeddings (B, S, D), mask (B, S))"


def _admit(name: str, make: Any) -> MakeFusion:
    if not takes(make, "embed_dim", "generator"):
        raise expected("fusion", name, _EXPECTED, make)
    if isinstance(make, type) and not (issubclass(make, nn.Module) and takes(make.forward, "self", "h", "mask")):
        raise expected("fusion", name, _CALLED, getattr(make, "forward", make))
    return make


FUSIONS: Registry[MakeFusion] = Registry(
    "fusion",
    {
        "query": QueryFusion,
        "mean": MeanFusion,
        CONCAT: MeanFusion,
        "max": MaxFusion,
        "median": MedianFusion,
        "lstm": LSTMFusion,
        "lstm-mil": LSTMAttention,
        "transformer": transformer,
        "mst": mst,
        "mst-positions": mst_positions,
    },
    group="anymc3d.fusions",
    admit=_admit,
)

MAX_SLICES: dict[str, int] = {"transformer": MAX_POSITIONS, "mst-positions": MAX_POSITIONS}
"""The entries that take a limited number of slices, and how many; of an own one its attribute ``max_slices``."""

PROBED_WIDTH = 64
"""Of the embeddings for which an own fusion is built to see what it is made of."""

SET_FUSIONS = frozenset({"query", "mean", CONCAT, "max", "median", "mst"})
"""The entries whose result does not depend on the order of the slices."""


def register_fusion(name: str, make: MakeFusion) -> None:
    """Add an own fusion of slices, to be named by ``fusion:`` in a task file.

    Args:
        name: what task files and plugins call it.
        make: ``(embed_dim, generator)`` -> a module, most simply its class. The module is called as
            ``fusion(embeddings (B, S, D), mask (B, S))``, mask True where a slice is real (the first ones of each case,
            at least one), and gives :class:`Fused`; its ``out_dim`` is the width of the embedding. All randomness
            comes from ``generator``. An attribute ``max_slices`` of ``make`` limits the slices of a scan.

    Raises:
        UsageError: the name is taken, or ``make`` is not called like that.
    """
    FUSIONS.register(name, make)


def check_fusion(name: str) -> None:
    """Whether there is a fusion of this name.

    Raises:
        SettingError: there is none.
    """
    FUSIONS.check(name, key="fusion", function="anymc3d.register_fusion")


def most_slices(name: str) -> int | None:
    """How many slices of a scan a fusion takes; None: any number."""
    return MAX_SLICES.get(name, getattr(FUSIONS[name], "max_slices", None))


def build_fusion(name: str, embed_dim: int, generator: torch.Generator) -> nn.Module:
    """Build one entry of ``FUSIONS``.

    Raises:
        UsageError: no fusion has this name, or an own one is no module with ``out_dim``.
    """
    check_fusion(name)
    fusion = FUSIONS[name](embed_dim, generator)
    if not (isinstance(fusion, nn.Module) and isinstance(getattr(fusion, "out_dim", None), int)):
        raise expected("fusion", name, _EXPECTED, fusion)
    return fusion


def is_fixed(name: str) -> bool:
    """Whether an own fusion has nothing to learn: then a head after it can be solved at once. Others are known by name.

    Raises:
        UsageError: as :func:`build_fusion`.
    """
    if not FUSIONS.is_own(name):
        return False
    module = build_fusion(name, PROBED_WIDTH, torch.Generator().manual_seed(0))
    return not any(True for _ in module.parameters())


def fused_by(fusion: nn.Module, embeddings: Tensor, mask: Tensor) -> Fused:
    """What a fusion gives, see :func:`register_fusion`.

    Raises:
        UsageError: an own one gives something else.
    """
    fused = fusion(embeddings, mask)
    if not isinstance(fused, Fused):
        what = f"expected anymc3d.models.fusion.Fused(embedding, weights), got {type(fused).__name__}"
        raise UsageError(f"fusion {type(fusion).__name__}: {what}")
    return fused


def pad_cases(embeddings: Tensor, counts: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Unpack (sum(S), D) into (B, max(S, 1), D) with the mask of real slices (B, max(S, 1)); a count may be 0."""
    cases = embeddings.split(list(counts))
    padded = nn.utils.rnn.pad_sequence(list(cases), batch_first=True)
    if padded.shape[1] == 0:
        padded = nn.functional.pad(padded, (0, 0, 0, 1))
    lengths = torch.tensor(counts, device=embeddings.device)
    mask = torch.arange(padded.shape[1], device=embeddings.device).unsqueeze(0) < lengths.unsqueeze(1)
    return padded, mask


def _share_of_elements(source: Tensor, embeddings: Tensor) -> Tensor:
    """Of each slice the fraction of the D elements taken from it: source (B, D) slice indices -> (B, S)."""
    chosen = nn.functional.one_hot(source, embeddings.shape[1])
    return chosen.to(embeddings.dtype).mean(dim=1)
