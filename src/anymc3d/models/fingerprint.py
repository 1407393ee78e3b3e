"""The identity of a backbone: a hash of what its weights are, not of what they are called or how they are stored."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from anymc3d.errors import BackboneError

PREFIX = "sha256:"
LAYOUT_PREFIX = "layout:"


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over the canonical tensors of the forward path, sorted by name: name, shape, values.

    Values are rounded to IEEE half precision (little-endian), so float32 and float16 copies of the same weights
    agree whatever file they came from; a bfloat16 copy has lost bits and does not.

    Raises:
        BackboneError: a value is not finite, or too large for half precision.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        values = tensors[name].detach().to(device="cpu", dtype=torch.float16).contiguous()
        if not bool(torch.isfinite(values).all()):
            raise BackboneError(f"weights are damaged: {name} holds values that are not finite in half precision")
        shape = "x".join(str(size) for size in values.shape)
        digest.update(f"{name}:{shape}\n".encode())
        digest.update(values.numpy().astype("<f2", copy=False).data)
    return PREFIX + digest.hexdigest()


def trunk_fingerprint(backbone: nn.Module, seam: int) -> str:
    """The identity of what a backbone computes before block ``seam``: :func:`fingerprint` of the tensors used there."""
    later = tuple(f"{path}." for path in (*backbone.block_paths[seam:], *backbone.closing_paths))
    return fingerprint({name: t for name, t in backbone.state_dict().items() if not name.startswith(later)})


def layout_fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """The identity of a network's structure: a hash of names and shapes, whatever the values are."""
    lines = sorted(f"{name}:{'x'.join(str(size) for size in tensor.shape)}\n" for name, tensor in tensors.items())
    return LAYOUT_PREFIX + hashlib.sha256("".join(lines).encode()).hexdigest()[:16]
