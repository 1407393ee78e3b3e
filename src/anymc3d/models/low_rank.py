"""The gradient of an adapted weight, straight to its pair: the dense gradient is never formed.

Autograd would first compute dL/dW' of the whole matrix (as much work as the forward pass of that map) and then reduce
it to the pair. The same two gradients are, for y = x W'^T with W' = W + scale B A and g = dL/dy,

    dL/dA = scale (B^T g^T) x        dL/dB^T = scale (A x^T) g,

four products with a thin matrix of r rows. The forward pass stays one product with the merged weight.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable


class LowRankWeight(Tensor):
    """A merged weight (out, in) that knows its pair. ``F.linear`` uses the pair for the gradient; so do chunks.

    In every other operation it is ``dense``, the same numbers with autograd's own graph, so none loses a gradient.
    """

    dense: Tensor
    a: Tensor
    b: Tensor
    scale: float

    @classmethod
    def of(cls, dense: Tensor, a: Tensor, b: Tensor, scale: float) -> LowRankWeight:
        """``dense`` (out, in) = W + scale * b @ a with its graph; ``a`` (r, in), ``b`` (out, r)."""
        weight = dense.detach().as_subclass(cls)
        weight.dense, weight.a, weight.b, weight.scale = dense, a, b, scale
        return weight

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        options = {name: _dense(value) for name, value in (kwargs or {}).items()}
        first, *others = args
        if func is Tensor.to and isinstance(first, cls):
            return cls.of(first.dense.to(*others, **options), first.a, first.b, first.scale)
        if func is Tensor.chunk and isinstance(first, cls) and len(others) == 1 and not options:
            parts = zip(first.dense.chunk(*others), first.b.chunk(*others), strict=True)
            return tuple(cls.of(dense, first.a, b, first.scale) for dense, b in parts)
        if func is F.linear and not options and isinstance(others[0], cls):
            return _linear(_dense(first), others[0], *others[1:])
        return func(*map(_dense, args), **options)


def _dense(value: Any) -> Any:
    return value.dense if isinstance(value, LowRankWeight) else value


def _linear(inputs: Tensor, weight: LowRankWeight, bias: Tensor | None = None) -> Tensor:
    """``F.linear`` in the precision that it would have here, autocast included."""
    device = inputs.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else inputs.dtype
    merged = weight.dense.detach().to(dtype)
    bias = None if bias is None else bias.to(dtype)
    return _PairLinear.apply(inputs.to(dtype), merged, bias, weight.a, weight.b, weight.scale)


class _PairLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx, inputs: Tensor, merged: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float
    ) -> Tensor:
        ctx.save_for_backward(inputs, merged, a, b)
        ctx.scale = scale
        return F.linear(inputs, merged, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        inputs, merged, a, b = ctx.saved_tensors
        rows, grads = inputs.flatten(0, -2), grad.flatten(0, -2)
        # Always (r, n) times (n, m): with the thin factor on the right BLAS is up to ten times slower.
        grad_a = (b.to(grads.dtype).t() @ grads.t()) @ rows
        grad_b = ((a.to(rows.dtype) @ rows.t()) @ grads).t()
        grad_inputs = grad @ merged if ctx.needs_input_grad[0] else None
        grad_bias = grads.sum(0) if ctx.needs_input_grad[2] else None
        return grad_inputs, None, grad_bias, ctx.scale * grad_a.to(a.dtype), ctx.scale * grad_b.to(b.dtype), None
