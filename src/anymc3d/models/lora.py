"""LoRA as weight deltas: W' = W + (alpha / rank) * B A for chosen modules of a frozen network (paper, Eq. 1-3).

Nothing is wrapped, injected or swapped. A :class:`LoRA` holds only its own pairs; :meth:`LoRA.weights` returns the
adapted weights, and the network is called with them through ``torch.func.functional_call``. So one resident network
serves any number of adapters at once, cannot be changed by any of them, and pays nothing per slice at inference.

Which modules: the network's own linear maps and convolutions that ``TARGETS`` names for its architecture. A fused
``qkv`` gets one pair, separate projections one each; of all readings tried only this one gives every parameter count
printed in the paper (docs/method.md).
"""

from __future__ import annotations

import math
from collections.abc import Collection

import torch
from torch import Tensor, nn

from anymc3d.errors import PluginError
from anymc3d.models.low_rank import LowRankWeight
from anymc3d.models.seam import check_blocks

TARGET_NAMES = frozenset({"qkv", "proj", "q_proj", "k_proj", "v_proj", "out_proj"})
"""Last names of the adapted modules: patch embedding, q, k, v and the attention output; never the MLP or a norm."""

TARGETS: dict[str, frozenset[str]] = {
    "VisionTransformer": frozenset({"patch_embed.proj", "attn.qkv", "attn.proj"}),
    # All four strided convolutions, and both kinds of attention: only so 1,322,138 parameters at K = 2.
    "DaViT": frozenset({"proj", "fn.qkv"}),
    # The pooling head is not adapted: 2,008,034 parameters at K = 2.
    "SiglipVision": frozenset(
        {"patch_embedding", *(f"self_attn.{name}" for name in ("q_proj", "k_proj", "v_proj", "out_proj"))}
    ),
}
"""Class of the backbone -> ends of the paths of what LoRA adapts in it. Any other network: ``TARGET_NAMES``."""

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def target_modules(network: nn.Module, targets: Collection[str] | None = None) -> dict[str, nn.Module]:
    """Return path -> module of everything LoRA adapts in ``network``, in the network's own order.

    A target is the end of a path: ``proj`` is every module of that name, ``attn.proj`` only those inside an ``attn``.
    ``None``: those of ``TARGETS``.

    Raises:
        PluginError: nothing in ``network`` is a target.
    """
    if targets is None:
        targets = TARGETS.get(type(network).__name__, TARGET_NAMES)
    endings = tuple(f".{target}" for target in targets)
    modules = {
        path: module
        for path, module in network.named_modules()
        if f".{path}".endswith(endings) and isinstance(module, (nn.Linear, *_CONVOLUTIONS))
    }
    if not modules:
        raise PluginError(f"LoRA needs modules named one of {sorted(targets)}, but {type(network).__name__} has none")
    return modules


def pair_shapes(module: nn.Module, rank: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the shapes of (A, B) for one target, in PEFT's layout.

    Linear: A (rank, in), B (out, rank). Convolution: A (rank, in, *kernel), B (out, rank, 1, ...).
    """
    weight = module.weight
    if isinstance(module, nn.Linear):
        return (rank, weight.shape[1]), (weight.shape[0], rank)
    if module.groups != 1:
        raise PluginError(f"LoRA adapts convolutions with groups=1 only, got groups={module.groups}")
    return (rank, *weight.shape[1:]), (weight.shape[0], rank, *(1,) * (weight.dim() - 2))


class LoRA(nn.Module):
    """The pairs of one view of one task.

    Args:
        network: the frozen network; only its shapes are read, nothing of it is kept.
        rank: r of the pairs (paper: 8).
        alpha: the delta is scaled by alpha / rank (paper: 16 / 8 = 2).
        generator: source of the initial A (Kaiming-uniform, a = sqrt 5); B starts at 0, so W' = W at the start.
        targets: which modules, see :func:`target_modules`.
        blocks: only those inside this many last blocks; None = all, the patch embedding too.

    Raises:
        BackboneError: the network has fewer blocks, or none that it can be cut between.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        rank: int,
        alpha: float,
        generator: torch.Generator,
        targets: Collection[str] | None = None,
        blocks: int | None = None,
    ) -> None:
        super().__init__()
        self.scale = alpha / rank
        modules = target_modules(network, targets)
        if blocks is not None:
            check_blocks(network, blocks)
            last = tuple(f"{path}." for path in network.block_paths[-blocks:])
            modules = {path: module for path, module in modules.items() if path.startswith(last)}
        self.paths = tuple(modules)
        self.a = nn.ParameterList()
        self.b = nn.ParameterList()
        for module in modules.values():
            shape_a, shape_b = pair_shapes(module, rank)
            bound = 1 / math.sqrt(math.prod(shape_a[1:]))  # Kaiming-uniform with a = sqrt 5
            self.a.append(nn.Parameter((torch.rand(shape_a, generator=generator) * 2 - 1) * bound))
            self.b.append(nn.Parameter(torch.zeros(shape_b)))

    def weights(self, network: nn.Module) -> dict[str, Tensor]:
        """Return parameter name -> adapted weight, to be passed to ``torch.func.functional_call``.

        With gradients on, linear maps get a :class:`LowRankWeight`: the same numbers, a cheaper backward pass.
        """
        adapted = {}
        for path, a, b in zip(self.paths, self.a, self.b, strict=True):
            base = network.get_submodule(path).weight
            merged = torch.addmm(base.flatten(1), b.flatten(1), a.flatten(1), alpha=self.scale).view_as(base)
            thin = merged.requires_grad and merged.ndim == 2
            adapted[f"{path}.weight"] = LowRankWeight.of(merged, a, b, self.scale) if thin else merged
        return adapted

    def tensors(self) -> dict[str, Tensor]:
        """Return ``<module path>.A`` and ``<module path>.B`` -> parameter, the names of the plugin file."""
        pairs = zip(self.paths, self.a, self.b, strict=True)
        return {f"{path}.{name}": tensor for path, a, b in pairs for name, tensor in (("A", a), ("B", b))}
