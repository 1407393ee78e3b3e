"""What the zoo says about a network, and how one is built."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import nn

from anymc3d.errors import UsageError
from anymc3d.models.meta_device import without_memory
from anymc3d.models.zoo.objective import Branch
from anymc3d.models.zoo.recipe import Recipe
from anymc3d.models.zoo.volumes import Axes, Sizes

Builder = Callable[[int, int, torch.Generator], nn.Module]
"""(number of logits K, channels C, generator of initial values) -> the network."""

BranchBuilder = Callable[[nn.Module, int], Branch]
"""(the network, number of structures) -> the part that learns from masks beside it."""

SCRATCH = "from scratch"
"""What ``weights`` says of a network that starts from random values."""


@dataclass(frozen=True, kw_only=True)
class ZooEntry:
    """One network to compare with.

    It is called as ``network(volume (B, C, S, H, W), slice_mask (B, S)) -> logits (B, K)``, see
    :mod:`anymc3d.models.zoo.volumes`; values are those of the prepared view, in [0, 1] for windows, and what else a
    pretrained encoder expects (mean and standard deviation) the network does itself.
    """

    name: str
    title: str
    """The name to use in reports."""
    builder: Builder
    kind: Literal["volume", "slices"]
    """``slices``: each slice is encoded on its own, and padded slices change nothing. ``volume``: the volume is one
    block, and a batch with padded slices is refused."""
    weights: str
    """What the paper starts from; ``from scratch`` where that is nothing."""
    licence: str
    """Of the published weights, or of the published code where there are none."""
    citation: str
    channels: tuple[int, ...] = (1, 3)
    """Numbers of channels C it can be built for."""
    sizes: Sizes = field(default_factory=Sizes)
    """Sizes it takes, and what it does with others."""
    recipe: Recipe = field(default_factory=Recipe)
    """How it is trained where the task file does not say otherwise."""
    branch: BranchBuilder | None = None
    """What its authors train on masks beside it (``segmentation: own``); it is left out of the finished plugin."""
    axes: Axes = "zxy"
    """The order in which its published weights learned the axes of a volume; networks from scratch take it as it is."""
    axes_source: str = ""
    """Where that order is written."""
    revision: int = 1
    """Raised where the same tensors give another answer than before; plugins of an earlier one are refused."""
    left_out: str = ""
    """What belongs to the published system and is not here, as ``--list-methods`` says it."""
    notes: str = ""
    """What was chosen where nothing is published, and what differs from the original."""

    def build(self, num_logits: int, *, in_channels: int = 1, seed: int = 0) -> nn.Module:
        """The network with initial values that depend on the arguments alone; the global generator is not moved.

        Raises:
            UsageError: this network cannot have this many channels or logits.
        """
        if in_channels not in self.channels:
            known = " or ".join(str(count) for count in self.channels)
            raise UsageError(f"{self.name}: expected {known} channels, got {in_channels}; set the view's normalisation")
        if num_logits < 1:
            raise UsageError(f"{self.name}: expected at least one logit, got {num_logits}")
        with _drawing_from(seed):
            return self.builder(num_logits, in_channels, torch.Generator().manual_seed(seed))

    def build_branch(self, network: nn.Module, num_structures: int, *, seed: int = 0) -> Branch:
        """What learns from masks beside a network of this entry, with initial values that depend on ``seed`` alone.

        Raises:
            UsageError: this network learns from no masks, or cannot draw this many structures.
        """
        if self.branch is None:
            raise UsageError(f"{self.name}: learns from no masks; use segmentation: none")
        with _drawing_from(seed):
            return self.branch(network, num_structures)

    def empty(self, num_logits: int, *, in_channels: int = 1) -> nn.Module:
        """The network without memory for its weights (but for the pairs of LoRA): shapes and names only."""
        with without_memory():
            return self.build(num_logits, in_channels=in_channels)


@contextmanager
def _drawing_from(seed: int) -> Iterator[None]:
    """Initial values are drawn from ``seed`` here, and the global generator is not moved."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # not torch.manual_seed: that would move a GPU's generator too
        yield


def count_parameters(network: nn.Module, *, trainable: bool) -> int:
    """Numbers in all parameters, or only in those that are trained; buffers are not counted."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad or not trainable)
