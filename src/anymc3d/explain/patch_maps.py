"""From one case's slices to a map per view on the patch grid, for every method and label asked for, in one pass.

A label's logit depends on a slice only through that slice's class token h_s. So its gradient with respect to all
attention maps is found slice by slice: first dz/dh_s of all slices from fusion and head alone, then the gradient of
(dz/dh_s) . h_s inside the backbone. This is exact, and memory is that of one chunk.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from anymc3d.explain.cam import CAM_SLICES, cam_weights
from anymc3d.explain.methods import METHODS, check_backbone, patch_weights
from anymc3d.models.chunked_rows import ChunkedRows
from anymc3d.models.classifier import ClassifierOutput, Encoding, PackedSlices, VolumeClassifier, to_backbone_input
from anymc3d.types import LabelKind

ATTENTION_BYTES = 2**29
"""What the attention maps of a chunk may take, in bytes; with their gradients and products about three times that."""


class MapKey(NamedTuple):
    """``label`` is None where the method does not look at one."""

    method: str
    label: int | None
    view: str


@dataclass(frozen=True, kw_only=True)
class MapRequest:
    """``methods``: entries of ``METHODS``; ``labels``: indices of the task's labels; ``kind`` says what a logit is."""

    methods: tuple[str, ...]
    labels: tuple[int, ...]
    kind: LabelKind
    discard: float = 0.0

    @property
    def wants_gradients(self) -> bool:
        return any(METHODS[name].gradients for name in self.methods)

    def layers(self, depth: int) -> range:
        """The blocks whose attention is needed."""
        if not any(METHODS[name].attention for name in self.methods):
            return range(0)
        all_layers = any(METHODS[name].all_layers for name in self.methods)
        return range(depth) if all_layers else range(depth - 1, depth)


def patch_maps(
    classifier: VolumeClassifier,
    backbone: nn.Module,
    batch: Mapping[str, PackedSlices],
    encoding: Encoding,
    request: MapRequest,
) -> tuple[ClassifierOutput, dict[MapKey, Tensor]]:
    """Maps (S, rows, columns) on the patch grid, float32 on the CPU, of ONE case; views it lacks have none.

    Maps of methods without gradients are already multiplied by the slice weights.

    Raises:
        UsageError: a method is not for this backbone.
    """
    check_backbone(request.methods, backbone)
    with torch.no_grad():
        embeddings = {view: classifier.encode(backbone, view, batch[view], encoding) for view in classifier.views}
    counts = {view: batch[view].counts for view in classifier.views}
    output, gradients = _logits_and_gradients(classifier, embeddings, counts, request)
    maps: dict[MapKey, Tensor] = {}
    for view in classifier.views:
        if counts[view][0] == 0:
            continue
        wanted = {label: parts[view] for label, parts in gradients.items()}
        view_grids = _view_maps(classifier, backbone, view, batch[view], encoding, request, wanted)
        weights = output.slice_weights[view][0].detach().cpu().view(-1, 1, 1)
        for (method, label), grid in view_grids.items():
            maps[MapKey(method, label, view)] = grid * weights if METHODS[method].slice_weighted else grid
    return output, maps


def label_logit(logits: Tensor, kind: LabelKind, label: int) -> Tensor:
    """The raw logit of ``predictions.csv`` for one label, as a tensor: (1, K) -> scalar."""
    return logits[0, 1] - logits[0, 0] if kind == "binary" else logits[0, label]


def _logits_and_gradients(
    classifier: VolumeClassifier,
    embeddings: Mapping[str, Tensor],
    counts: Mapping[str, tuple[int, ...]],
    request: MapRequest,
) -> tuple[ClassifierOutput, dict[int, dict[str, Tensor]]]:
    """The answer, and per label the gradient of its logit with respect to every class token: view -> (S, D)."""
    if not request.wants_gradients:
        with torch.no_grad():
            return classifier.fuse(embeddings, counts), {}
    leaves = {view: tokens.detach().clone().requires_grad_() for view, tokens in embeddings.items()}
    with torch.enable_grad():
        output = classifier.fuse(leaves, counts)
        gradients = {}
        for label in request.labels:
            logit = label_logit(output.logits, request.kind, label)
            parts = torch.autograd.grad(logit, list(leaves.values()), retain_graph=True, materialize_grads=True)
            gradients[label] = dict(zip(leaves, parts, strict=True))
    return output, gradients


def _view_maps(
    classifier: VolumeClassifier,
    backbone: nn.Module,
    view: str,
    packed: PackedSlices,
    encoding: Encoding,
    request: MapRequest,
    gradients: Mapping[int, Tensor],
) -> dict[tuple[str, int | None], Tensor]:
    """The maps of one view: (method, label) -> (S, rows, columns)."""
    with torch.no_grad():
        weights = classifier.adapted_weights(backbone, view, encoding.dtype)
    patch = backbone.patch_size
    rows, columns = (-(-length // patch) for length in packed.slices.shape[-2:])
    size = chunk_size(backbone, rows * columns, request)
    parts: dict[tuple[str, int | None], ChunkedRows] = {}
    start = 0
    for chunk in classifier.chunks(view, packed, size):
        images = to_backbone_input(chunk, patch, classifier.seen_as(view, encoding))
        chunk_gradients = {label: g[start : start + len(images)] for label, g in gradients.items()}
        chunk_weights = _chunk_weights(
            backbone, weights, images, encoding, request, chunk_gradients, classifier.options
        )
        for key, weight in chunk_weights.items():
            parts.setdefault(key, ChunkedRows(sum(packed.counts))).add(weight.view(-1, rows, columns).cpu())
        start += len(images)
    return {key: grids.whole() for key, grids in parts.items()}


def chunk_size(backbone: nn.Module, num_patches: int, request: MapRequest) -> int:
    """Slices a call, so that their attention maps stay within ``ATTENTION_BYTES``."""
    config = backbone.config
    if not request.layers(config.depth):
        return CAM_SLICES
    tokens = num_patches + backbone.num_prefix_tokens
    per_slice = 4 * len(request.layers(config.depth)) * config.num_heads * tokens**2
    return max(1, ATTENTION_BYTES // per_slice)


def _chunk_weights(
    backbone: nn.Module,
    weights: Mapping[str, Tensor],
    images: Tensor,
    encoding: Encoding,
    request: MapRequest,
    gradients: Mapping[int, Tensor],
    options: Mapping[str, int],
) -> dict[tuple[str, int | None], Tensor]:
    """The maps of one chunk of slices: (method, label) -> (S, patches). ``options``: of the classifier's calls."""
    layers = request.layers(backbone.config.depth)
    if not layers:
        return cam_weights(backbone, weights, images, encoding, gradients)
    # The images carry the graph: with a frozen backbone no weight does.
    images = images.detach().requires_grad_(bool(gradients))
    keyword_arguments = {"attention_blocks": layers, "class_token_only": True, **options}
    with (
        torch.set_grad_enabled(bool(gradients)),
        torch.autocast(images.device.type, encoding.dtype, enabled=encoding.dtype != torch.float32),
    ):
        encoded = functional_call(backbone, dict(weights), (images,), keyword_arguments)
    prefix = backbone.num_prefix_tokens
    attention = {layer: encoded.attention[layer].detach() for layer in layers}

    def found(names: Collection[str], gradient: Mapping[int, Tensor] | None) -> dict[str, Tensor]:
        return {
            name: patch_weights(attention, gradient, METHODS[name], num_prefix_tokens=prefix, discard=request.discard)
            for name in names
        }

    with torch.no_grad():
        plain = [name for name in request.methods if not METHODS[name].gradients]
        results: dict[tuple[str, int | None], Tensor] = {(n, None): w for n, w in found(plain, None).items()}
    graded = [name for name in request.methods if METHODS[name].gradients]
    for label, outer in gradients.items():
        slopes = _attention_gradients(encoded.tokens[:, 0], outer, [encoded.attention[layer] for layer in layers])
        with torch.no_grad():
            weights_of = found(graded, dict(zip(layers, slopes, strict=True)))
        results |= {(name, label): weight for name, weight in weights_of.items()}
    return results


def _attention_gradients(class_tokens: Tensor, outer: Tensor, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """d(sum of outer * class_tokens) / d(map) for every map; slices do not touch each other inside the backbone."""
    scalar = (class_tokens.float() * outer).sum()
    return torch.autograd.grad(scalar, list(maps), retain_graph=True)
