"""Slices -> logits: the whole of AnyMC3D on top of a frozen 2D backbone (supplement, Algorithm 1).

Per view: LoRA-adapted backbone on every real slice -> class tokens -> fusion over slices. Several views: each has its
own LoRA and its own fusion, and the task's query pools over the views that are there. Then one linear head.

Ours beside it: other representations than the class token (:mod:`anymc3d.models.features`), and ``fusion: concat``,
with which the head sees the views side by side.

The backbone is passed to every call and never owned, so the module's parameters are exactly what a plugin stores.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import repeat
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from anymc3d.errors import PluginError
from anymc3d.models.chunked_rows import ChunkedRows
from anymc3d.models.decoders.interface import MaskTarget
from anymc3d.models.features import pool_masks, read_parts, representation
from anymc3d.models.fusion import CONCAT, QueryFusion, SideBySide, build_fusion, fused_by, pad_cases
from anymc3d.models.heads import build_head
from anymc3d.models.lora import LoRA
from anymc3d.models.seam import SEAM_DTYPE, TrunkTokens, first_adapted
from anymc3d.models.standardisation import Scale, in_raw_units
from anymc3d.models.strict_load import copy_into


class PackedSlices(NamedTuple):
    """The real slices of one view of all cases of a batch, one after the other.

    ``slices`` (sum(S), C, H, W); ``counts`` (B,) how many belong to each case, 0 where the case lacks this view;
    ``masks`` (B,) their truth, where there are decoders to train (none otherwise). ``trunk``: what the backbone made of
    the slices before the classifier's seam, where it is known; then ``slices`` is empty, (0, C, H, W). ``labels``
    (sum(S), H, W): the segmentation that ``features: mask`` pools over.
    """

    slices: Tensor
    counts: tuple[int, ...]
    masks: tuple[MaskTarget | None, ...] = ()
    trunk: TrunkTokens | None = None
    labels: Tensor | None = None


class ClassifierOutput(NamedTuple):
    """``logits`` (B, K); ``slice_weights`` view -> (B, S), 0 at padding (none where a scan is pooled as a whole);
    ``view_weights`` (B, V), views in order."""

    logits: Tensor
    slice_weights: dict[str, Tensor]
    view_weights: Tensor


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """How slices go through the backbone; none of it changes the result beyond rounding.

    ``mean``, ``std``: of the backbone's card, per channel; without a backbone values stay as they are.
    ``chunk_size``: slices a call. ``dtype``: of the backbone's arithmetic (float32 or bfloat16). ``recompute``: store
    no activations, compute them again in the backward pass.
    """

    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    chunk_size: int = 64
    dtype: torch.dtype = torch.float32
    recompute: bool = False


class VolumeClassifier(nn.Module):
    """The trainable part of one task: LoRA, queries, head.

    Args:
        backbone: read for shapes only.
        views: view names in order; a single view is called ``image``.
        num_logits: K.
        head: entry of ``HEADS``, embedding -> logits.
        neighbours: views whose slices see the slice before and after them as channels (2.5D).
        standardised: views whose slices go to the backbone without its mean and standard deviation.
        fusion: entry of ``FUSIONS``, slices -> view embedding; views are pooled by the task query (``concat``: not at
            all, they stand side by side).
        features: entry of ``FEATURES``, what of the backbone's answer stands for a slice.
        structures: labels of the segmentation, for ``features: mask``.
        widths: view -> numbers of a slice, where they are not the backbone's width.
        decoders: view -> segmentation decoder, trained beside the classifier; they read it and never change it.
        rank, alpha: of LoRA; rank None = frozen backbone without LoRA.
        blocks: LoRA only in this many last blocks, see ``anymc3d.models.seam``; None = in the whole backbone.
        seed: of all initial values.

    Raises:
        BackboneError: the backbone has fewer blocks, or none that it can be cut between.
    """

    least_batch = 1
    """Cases a training batch needs."""

    def __init__(
        self,
        backbone: nn.Module,
        *,
        views: Sequence[str],
        num_logits: int,
        head: str = "linear",
        neighbours: Collection[str] = (),
        standardised: Collection[str] = (),
        fusion: str = "query",
        features: str = "class",
        structures: Sequence[int] = (),
        widths: Mapping[str, int] | None = None,
        decoders: Mapping[str, nn.Module] | None = None,
        rank: int | None = 8,
        alpha: float = 16.0,
        blocks: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.views = tuple(views)
        self.features, self.structures = representation(features), tuple(structures)
        self.widths = dict.fromkeys(self.views, backbone.embed_dim) if widths is None else dict(widths)
        self.neighbours = frozenset(neighbours)
        self.standardised = frozenset(standardised)
        self.seam = None if rank is None else first_adapted(backbone, blocks)
        self.fusion_name = fusion
        self.scale: Scale | None = None
        """While a head is trained on standardised embeddings: their scale. A plugin's tensors are of raw ones."""
        self.lora = nn.ModuleDict()
        if rank is not None:
            options = {"rank": rank, "alpha": alpha, "generator": generator, "blocks": blocks}
            self.lora.update({view: LoRA(backbone, **options) for view in self.views})
        self.slice_fusion = nn.ModuleDict({v: build_fusion(fusion, self.widths[v], generator) for v in self.views})
        fused_width = self.slice_fusion[self.views[0]].out_dim
        self.view_fusion: QueryFusion | SideBySide | None = None
        if len(self.views) > 1 and fusion == CONCAT:
            self.view_fusion = SideBySide({v: fusion.out_dim for v, fusion in self.slice_fusion.items()})
            fused_width = self.view_fusion.out_dim
        elif len(self.views) > 1:
            self.view_fusion = QueryFusion(fused_width, generator)
        self.head = build_head(head, fused_width, num_logits, generator)
        self.decoder = nn.ModuleDict(decoders)

    def forward(self, backbone: nn.Module, batch: Mapping[str, PackedSlices], encoding: Encoding) -> ClassifierOutput:
        """Classify a batch; see :class:`PackedSlices`. Fusion and head always run in float32.

        Raises:
            PluginError: a case has no slice in any view.
        """
        embeddings = {view: self.encode(backbone, view, batch[view], encoding) for view in self.views}
        counts = {view: batch[view].counts for view in self.views}
        if not self.features.needs_mask:
            return self.fuse(embeddings, counts)
        pooled = {view: self._pool_masks(embeddings[view], counts[view]) for view in self.views}
        return self.fuse(pooled, {view: tuple(int(count > 0) for count in counts[view]) for view in self.views})

    def _pool_masks(self, rows: Tensor, counts: tuple[int, ...]) -> Tensor:
        """Slices of all cases -> one row for each case that has any."""
        number = len(self.structures)
        cases = [pool_masks(case_rows, number) for case_rows in rows.split(list(counts)) if len(case_rows)]
        return torch.cat(cases) if cases else rows.new_zeros(0, rows.shape[1] - number)

    def fuse(self, embeddings: Mapping[str, Tensor], counts: Mapping[str, tuple[int, ...]]) -> ClassifierOutput:
        """Embeddings of every view (sum(S), D) and how many belong to each case -> the answer for every case.

        Of representations with ``of_scan`` a case may have one row, the mean of its slices, in place of one each.

        Raises:
            PluginError: a case has no slice in any view.
        """
        # By the counts: asked of the masks, a graphics card would have to be waited for at every batch.
        if not all(map(any, zip(*(counts[view] for view in self.views), strict=True))):
            raise PluginError("expected at least one view with at least one slice in every case, got a case with none")
        fused, present, slice_weights = [], [], {}
        for view in self.views:
            slices = embeddings[view] if self.scale is None else self.scale.standardised(embeddings[view])
            padded, mask = pad_cases(slices, counts[view])
            has_view = mask.any(dim=1)
            # A case without this view gets a stand-in slice, so that the softmax is defined; the view is masked below.
            result = fused_by(self.slice_fusion[view], padded, mask | ~has_view.unsqueeze(1))
            if not self.features.of_scan:
                slice_weights[view] = result.weights * has_view.unsqueeze(1)
            fused.append(result.embedding)
            present.append(has_view)
        available = torch.stack(present, dim=1)
        if self.view_fusion is None:
            return ClassifierOutput(self.head(fused[0]), slice_weights, available.to(fused[0].dtype))
        if isinstance(self.view_fusion, SideBySide):
            pooled = self.view_fusion(fused, available)
        else:
            pooled = self.view_fusion(torch.stack(fused, dim=1), available)
        return ClassifierOutput(self.head(pooled.embedding), slice_weights, pooled.weights)

    def encode(self, backbone: nn.Module, view: str, packed: PackedSlices, encoding: Encoding) -> Tensor:
        """Slices (sum(S), C, H, W) of one view, or their trunk tokens -> embeddings (sum(S), D) in float32, in
        chunks."""
        if sum(packed.counts) == 0:
            # With masks the last number of a structure is its weight, which is divided out.
            more = len(self.structures) if self.features.needs_mask else 0
            return packed.slices.new_zeros((0, self.widths[view] + more), dtype=torch.float32)
        weights = self.adapted_weights(backbone, view, encoding.dtype)

        def embed(start: Tensor | TrunkTokens, labels: Tensor | None) -> Tensor:
            call = partial(run_backbone, backbone, weights, start, encoding)
            parts = read_parts(backbone, call, self.features.parts, grid_of(start, backbone), labels, self.structures)
            return torch.cat([parts[part] for part in self.features.parts], dim=1)

        labels = repeat(None) if packed.labels is None else packed.labels.split(encoding.chunk_size)
        pairs = zip(self.starts(backbone, view, packed, encoding), labels, strict=False)
        recompute = encoding.recompute and torch.is_grad_enabled()
        embeddings = ChunkedRows(sum(packed.counts))
        for pair in pairs:
            embeddings.add(checkpoint(embed, *pair, use_reentrant=False) if recompute else embed(*pair))
        return embeddings.whole()

    def starts(
        self, backbone: nn.Module, view: str, packed: PackedSlices, encoding: Encoding
    ) -> Iterator[Tensor | TrunkTokens]:
        """What the adapted part begins with, chunk by chunk: images (S, 3, H, W), or with a seam the tokens there."""
        if packed.trunk is not None:
            for tokens in packed.trunk.tokens.split(encoding.chunk_size):
                yield packed.trunk._replace(tokens=tokens)
            return
        for chunk in self.chunks(view, packed, encoding.chunk_size):
            images = to_backbone_input(chunk, backbone.patch_size, self.seen_as(view, encoding))
            yield images if self.seam is None else trunk_of(backbone, images, self.seam, encoding)

    @property
    def options(self) -> dict[str, int]:
        """What every call of the backbone for this classifier says besides: where the seam lies, if there is one."""
        return {} if self.seam is None else {"seam": self.seam}

    def adapted_weights(self, backbone: nn.Module, view: str, dtype: torch.dtype) -> dict[str, Tensor]:
        """Parameter name -> weight of the backbone as this view sees it, for ``torch.func.functional_call``."""
        weights = self.lora[view].weights(backbone) if view in self.lora else {}
        return compute_weights(backbone, weights, dtype)

    def seen_as(self, view: str, encoding: Encoding) -> Encoding:
        """``encoding`` with the mean and deviation for one view: none are applied where it is standardised."""
        return replace(encoding, mean=Encoding.mean, std=Encoding.std) if view in self.standardised else encoding

    def chunks(self, view: str, packed: PackedSlices, size: int) -> Iterable[Tensor]:
        """The slices of one view as the backbone takes them, ``size`` at a time: (size, C, H, W), in order."""
        if view not in self.neighbours:
            return packed.slices.split(size)
        triplets = neighbour_index(packed.counts).to(packed.slices.device).split(size)
        return (packed.slices[triplet, 0] for triplet in triplets)

    def tensors(self) -> dict[str, Tensor]:
        """Return plugin-file name -> parameter (docs/method.md): ``lora.<view>.<path>.A``, ``query.<view>``,
        ``task_query``, ``fusion.<view>.<path>`` of another fusion, ``head.weight``, ``head.bias`` or ``head.cuts``,
        ``decoder.<view>.<path>``; a single view's query is the task query."""
        named = {f"lora.{v}.{name}": t for v, lora in self.lora.items() for name, t in lora.tensors().items()}
        for view, fusion in self.slice_fusion.items():
            for name, tensor in fusion.named_parameters():
                if isinstance(fusion, QueryFusion):
                    named["task_query" if self.view_fusion is None else f"query.{view}"] = tensor
                else:
                    named[f"fusion.{view}.{name}"] = tensor
        if isinstance(self.view_fusion, SideBySide):
            named |= {f"fusion.{view}.center": center for view, center in self.view_fusion.centers.items()}
        elif self.view_fusion is not None:
            named["task_query"] = self.view_fusion.query
        named |= {f"head.{name}": tensor for name, tensor in self.head.named_parameters()}
        return named | {f"decoder.{name}": tensor for name, tensor in self.decoder.named_parameters()}

    def plugin_tensors(self) -> dict[str, Tensor]:
        """A copy of the tensors for a plugin file, of raw embeddings whatever they are trained on."""
        if self.scale is None:
            return {name: tensor.detach().clone() for name, tensor in self.tensors().items()}
        return in_raw_units(self.tensors(), self.scale, self.fusion_name)

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy a plugin's tensors in; names and shapes must match exactly.

        Raises:
            PluginError: a tensor is missing, unexpected or of another shape; all are listed.
        """
        copy_into(self.tensors(), tensors)


def neighbour_index(counts: Sequence[int]) -> Tensor:
    """For each packed slice the positions of the slice before it, itself and the one after it: (sum(S), 3).

    A case's first and last slice stand in for the neighbour they lack; nothing reaches into another case.
    """
    parts, start = [torch.zeros(0, 3, dtype=torch.long)], 0
    for count in counts:
        positions = torch.arange(count)
        triplets = torch.stack([positions - 1, positions, positions + 1], dim=1).clamp(0, max(count - 1, 0))
        parts.append(triplets + start)
        start += count
    return torch.cat(parts)


def to_backbone_input(slices: Tensor, patch_size: int, encoding: Encoding) -> Tensor:
    """Prepared slices (S, C, H, W) -> what the backbone expects, (S, 3, H', W').

    In-plane sizes that the patch does not divide are enlarged to the next multiple (bilinear; docs/method.md), one
    channel is repeated to three, and the backbone's mean and standard deviation are applied.
    """
    images = slices.float()
    size = tuple(-(-length // patch_size) * patch_size for length in images.shape[-2:])
    if size != tuple(images.shape[-2:]):
        images = nn.functional.interpolate(images, size=size, mode="bilinear", align_corners=False)
    mean, std = (torch.tensor(v, device=images.device).view(1, 3, 1, 1) for v in (encoding.mean, encoding.std))
    return (images.expand(-1, 3, -1, -1) - mean) / std


def run_backbone(
    backbone: nn.Module, weights: dict[str, Tensor], start: Tensor | TrunkTokens, encoding: Encoding, **options: Any
) -> Any:
    """One call of the backbone with these weights in place of its own, in the precision of ``encoding``."""
    device = start.tokens.device if isinstance(start, TrunkTokens) else start.device
    with torch.autocast(device.type, encoding.dtype, enabled=encoding.dtype != torch.float32):
        return functional_call(backbone, weights, (start,), options)


def grid_of(start: Tensor | TrunkTokens, backbone: nn.Module) -> tuple[int, int]:
    """Patches (rows, columns) of images (S, 3, H, W), or of the tokens made of them."""
    if isinstance(start, TrunkTokens):
        return start.grid
    return start.shape[-2] // backbone.patch_size, start.shape[-1] // backbone.patch_size


@torch.no_grad()
def trunk_of(backbone: nn.Module, start: Tensor | TrunkTokens, seam: int, encoding: Encoding) -> TrunkTokens:
    """The tokens that go into block ``seam``, from images or from tokens before it, rounded to float16."""
    reached = run_backbone(backbone, compute_weights(backbone, {}, encoding.dtype), start, encoding, stop=seam)
    return reached._replace(tokens=reached.tokens.to(SEAM_DTYPE))


def compute_weights(backbone: nn.Module, adapted: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Cast every matrix once, so that not every call does; LoRA itself is always added in float32."""
    if dtype == torch.float32:
        return adapted
    return backbone.matrices(dtype) | {name: weight.to(dtype) for name, weight in adapted.items()}
