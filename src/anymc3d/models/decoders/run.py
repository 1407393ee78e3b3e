"""One pass through the backbone for the classifier's answer and the decoders' maps.

The class token takes the way it always takes (``VolumeClassifier.fuse``); the decoders read the tokens beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from anymc3d.models.classifier import ClassifierOutput, Encoding, PackedSlices, VolumeClassifier, to_backbone_input
from anymc3d.models.decoders.interface import CaseTokens, Schedule
from anymc3d.models.vit import VisionTransformer, ViTOutput

Maps = dict[tuple[str, int], Any]
"""(view, position in the batch) -> what its decoder gave."""


def classify_and_decode(
    classifier: VolumeClassifier,
    backbone: VisionTransformer,
    batch: Mapping[str, PackedSlices],
    encoding: Encoding,
    wanted: Mapping[str, Sequence[int]],
    schedules: Callable[[str, int], Schedule] | None = None,
) -> tuple[ClassifierOutput, Maps]:
    """The answer, and the decoders' output for the cases ``wanted`` (view -> positions in the batch).

    A view of which nothing is wanted costs what it costs without decoders. ``schedules``: in training, of (view, case).

    Raises:
        PluginError: a case has no slice in any view.
    """
    embeddings, maps = {}, {}
    for view in classifier.views:
        packed, positions = batch[view], [i for i in wanted.get(view, ()) if batch[view].counts[i]]
        if not positions:
            embeddings[view] = classifier.encode(backbone, view, packed, encoding)
            continue
        decoder = classifier.decoder[view]
        weights = classifier.adapted_weights(backbone, view, encoding.dtype)
        embeddings[view], passed = _encode(classifier, backbone, view, packed, encoding, weights, decoder.blocks)
        ends = torch.tensor(packed.counts).cumsum(0).tolist()
        for position in positions:
            case_range = slice(ends[position] - packed.counts[position], ends[position])
            tokens = _case_tokens(backbone, passed, case_range, packed.slices.shape[-2:], weights)
            schedule = None if schedules is None else schedules(view, position)
            with _autocast(packed.slices.device, encoding):
                maps[view, position] = decoder(tokens, schedule)
    return classifier.fuse(embeddings, {view: batch[view].counts for view in classifier.views}), maps


def _encode(
    classifier: VolumeClassifier,
    backbone: VisionTransformer,
    view: str,
    packed: PackedSlices,
    encoding: Encoding,
    weights: dict[str, Tensor],
    blocks: Sequence[int],
) -> tuple[Tensor, ViTOutput]:
    """Class tokens (sum(S), D) in float32, and all tokens of all slices with the asked blocks' inputs."""

    def embed(chunk: Tensor) -> ViTOutput:
        images = to_backbone_input(chunk, backbone.patch_size, classifier.seen_as(view, encoding))
        with _autocast(images.device, encoding):
            return functional_call(backbone, weights, (images,), {"input_blocks": tuple(blocks), **classifier.options})

    chunks = classifier.chunks(view, packed, encoding.chunk_size)
    if encoding.recompute and torch.is_grad_enabled():
        parts = [checkpoint(embed, chunk, use_reentrant=False) for chunk in chunks]
    else:
        parts = [embed(chunk) for chunk in chunks]
    tokens = torch.cat([part.tokens for part in parts])
    inputs = {block: torch.cat([part.inputs[block] for part in parts]) for block in blocks}
    return tokens[:, 0].float(), ViTOutput(tokens, {}, inputs)


def _case_tokens(
    backbone: VisionTransformer,
    passed: ViTOutput,
    case_range: slice,
    size: tuple[int, int],
    weights: Mapping[str, Tensor],
) -> CaseTokens:
    """The part of one case; ``size`` is (H, W) of its slices."""
    prefix = backbone.num_prefix_tokens
    rows, columns = (-(-length // backbone.patch_size) for length in size)
    inputs = {block: tokens[case_range] for block, tokens in passed.inputs.items()}
    rotation = backbone.rotation(rows, columns, passed.tokens.device)

    def as_maps(tokens: Tensor) -> Tensor:
        return tokens[:, prefix:].unflatten(1, (rows, columns)).permute(0, 3, 1, 2)

    def read(block: int, queries: Tensor, allowed: Tensor | None) -> Tensor:
        path = f"blocks.{block}."
        own_weights = {name.removeprefix(path): weight for name, weight in weights.items() if name.startswith(path)}
        tokens = torch.cat([queries, inputs[block]], dim=1)
        mask = None if allowed is None else allowed.unsqueeze(1)
        # Only the queries look on: what the image's tokens become is known and does not depend on them.
        return functional_call(backbone.blocks[block], own_weights, (tokens, rotation, False, queries.shape[1], mask))[
            0
        ]

    norm: nn.Module = backbone.norm
    return CaseTokens(
        patches=as_maps(passed.tokens[case_range]),
        size=(int(size[0]), int(size[1])),
        before={block: as_maps(norm(tokens)) for block, tokens in inputs.items()},
        read=read,
        norm=norm,
        num_prefix_tokens=prefix,
    )


def _autocast(device: torch.device, encoding: Encoding) -> torch.autocast:
    return torch.autocast(device.type, encoding.dtype, enabled=encoding.dtype != torch.float32)
