"""One process, or several started by ``torchrun``: gradients are summed and results gathered over all of them.

Every process makes the same calls in the same order. What only one of them can know (a folder in use, an unreadable
scan) is found inside :meth:`Processes.together` or :meth:`Processes.on_first`, so that all go on or all stop.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from anymc3d.cost.device import ran_out_of_memory
from anymc3d.errors import AnyMC3DError, InterruptedRunError, UsageError

LONGEST_WAIT = timedelta(hours=12)
"""How long a process waits for another one: the first may read scans or validate alone for long."""
_MOST_LETTERS = 200

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """This process among all that train together."""

    rank: int = 0
    world_size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Add up the gradients of all processes, in one message.

        A parameter without a gradient counts as 0; one without in every process gets none, so that the optimiser leaves
        it alone as it does in one process.
        """
        if self.world_size == 1:
            return
        wanted = [p for p in parameters if p.requires_grad]
        has_gradient = torch.tensor([p.grad is not None for p in wanted], device=wanted[0].device).to(wanted[0].dtype)
        flat = torch.cat(
            [has_gradient, *((torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in wanted)]
        )
        with _peers():
            dist.all_reduce(flat)
        anywhere, *parts = flat.split([len(wanted), *(p.numel() for p in wanted)])
        for parameter, part, is_there in zip(wanted, parts, (anywhere > 0).tolist(), strict=True):
            parameter.grad = part.view_as(parameter) if is_there else None

    def gather(self, value: Any) -> list[Any]:
        """Return the value of every process, in the order of the ranks, to every process."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        with _peers():
            dist.all_gather_object(values, value)
        return values

    def together(self, work: Callable[[], T]) -> T:
        """Return ``work()`` of this process once it has succeeded in all; if it fails in one, it fails in all.

        Raises:
            AnyMC3DError: what ``work`` raised here, or the news that it failed in another process.
        """
        if self.world_size == 1:
            return work()
        result, failure = None, None
        try:
            result = work()
        except AnyMC3DError as error:
            failure = error
        failures = self.gather(None if failure is None else str(failure).splitlines()[0])
        if failure is not None:
            raise failure
        for rank, text in enumerate(failures):
            if text is not None:
                raise UsageError(f"stopped, because process {rank} could not go on: {text}")
        return result  # type: ignore[return-value]

    def on_first(self, work: Callable[[], T]) -> T:
        """Return the first process's ``work()`` to every process, when it is done; its failure is everybody's.

        Raises:
            AnyMC3DError: as :meth:`together`.
        """
        result = self.together(lambda: work() if self.is_first else None)
        return self.gather(result)[0]  # type: ignore[return-value]

    def sum(self, *numbers: float) -> list[float]:
        """Add up numbers over all processes."""
        return [float(sum(parts)) for parts in zip(*self.gather(numbers), strict=True)]

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Give every process the first one's values."""
        if self.world_size > 1:
            with _peers():
                for tensor in tensors:
                    dist.broadcast(tensor, src=0)


@contextmanager
def _peers() -> Iterator[None]:
    """Around what needs all processes: when one of them is gone the others are stopped, not wrong.

    Raises:
        InterruptedRunError: a process was lost.
    """
    try:
        yield
    except RuntimeError as error:  # gloo raises this itself, NCCL and the store what is derived from it
        if ran_out_of_memory(error):
            raise
        text = " ".join(str(error).split())[:_MOST_LETTERS]
        raise InterruptedRunError(f"another process of this run was lost ({text}); the same command resumes") from error


def join(device: torch.device) -> Processes:
    """Join the group that ``torchrun`` describes in the environment; a plain start is a group of one."""
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size == 1:
        return Processes()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        # Default arguments of this module are the group of the moment it is imported, and whoever makes an optimizer
        # imports it. A group held there would live on after `leave`, its threads with it, until they meet a Python
        # that is gone and abort the process. Imported before there is a group, it holds none.
        importlib.import_module("torch.distributed.nn.functional")
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=LONGEST_WAIT)
    return Processes(dist.get_rank(), world_size)


def is_first() -> bool:
    """Whether this process is the one that reports, also where no group was joined."""
    return os.environ.get("RANK", "0") == "0"


def leave() -> None:
    """Leave the group, if one was joined, and end its threads; the last thing a command does."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
