"""Interpolation between the start and the trained tensors: what is validated and kept.

Where few cases are trained on, each epoch carries noise of its own, and few validation cases may pick one that is worse
on others. Tensors part of the way between a good start and what training made of it keep much of the gain and little of
the noise (Wortsman et al., Robust fine-tuning of zero-shot models, arXiv 2109.01903). What it brings here stands in
benchmarks/frozen_start.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from anymc3d.train.loop_parts import Parts


def own_tensors(parts: Parts) -> dict[str, Tensor]:
    """A copy of the tensors that answer, on the scale of training, by plugin-file name; of a decoder none."""
    tensors = parts.classifier.tensors()
    return {name: tensor.detach().clone() for name, tensor in tensors.items() if not name.startswith("decoder.")}


@contextmanager
def interpolated(parts: Parts) -> Iterator[None]:
    """The classifier ``train.trained_share`` of the way from ``parts.start`` to what is trained; then as before."""
    share = parts.settings.trained_share
    if not parts.start or share is None or share == 1:
        yield
        return
    trained, tensors = own_tensors(parts), parts.classifier.tensors()
    try:
        with torch.no_grad():
            for name, start in parts.start.items():
                tensors[name].copy_(torch.lerp(start.to(tensors[name]), trained[name], share))
        yield
    finally:
        with torch.no_grad():
            for name, tensor in trained.items():
                tensors[name].copy_(tensor)
