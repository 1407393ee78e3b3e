"""Slices on their way to a graphics card: through pinned memory, on a stream of their own, while it computes.

A plain copy waits for the card, and the card for it. Here a reader's thread, as soon as it has a case, begins the copy
of its slices (:meth:`Uploads.begin`); who needs them makes the computing stream wait for that copy alone
(:meth:`Uploads.take`), and the program waits for nothing until it asks for an answer. On a processor there is nothing
to do: :func:`on_device` gives the array's own memory.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import torch
from numpy.typing import NDArray
from torch import Tensor

MOST_BYTES = 512 << 20
"""On the card before they are needed; what comes on top is copied when its turn comes."""


class Card(Protocol):
    """What is asked of a graphics card; a test has one that keeps a record."""

    def copy(self, array: NDArray[Any], *, own_stream: bool) -> tuple[Tensor, Any]:
        """Begin a copy out of pinned memory, ``own_stream``: on the stream for copies; the tensor, and what says when
        it is there."""

    def wait(self, tensor: Tensor, ready: Any) -> None:
        """Have the computing stream wait until a tensor is there; the program goes on."""


class CudaCard:
    """A card of CUDA."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)

    def copy(self, array: NDArray[Any], *, own_stream: bool) -> tuple[Tensor, Any]:
        """See :class:`Card`."""
        # The allocator of pinned memory keeps it until the copy is done.
        pinned = torch.from_numpy(array).pin_memory()
        with torch.cuda.stream(self._stream if own_stream else torch.cuda.current_stream(self._device)):
            tensor, ready = pinned.to(self._device, non_blocking=True), torch.cuda.Event()
            ready.record()
        return tensor, ready

    def wait(self, tensor: Tensor, ready: Any) -> None:
        """See :class:`Card`."""
        stream = torch.cuda.current_stream(self._device)
        stream.wait_event(ready)
        tensor.record_stream(stream)


class _Sent(NamedTuple):
    tensor: Tensor
    ready: Any
    num_bytes: int


class Uploads:
    """Arrays that are on their way to one card. An array that nobody asks for is forgotten with its last owner."""

    def __init__(self, card: Card, most_bytes: int = MOST_BYTES) -> None:
        # Reentrant: what forgets an array may be called in the middle of a change here, when its owner is collected.
        self._card, self._most_bytes, self._lock = card, most_bytes, threading.RLock()
        self._sent: dict[int, _Sent] = {}
        self.num_bytes = 0
        """On the card, and not yet asked for."""

    def begin(self, arrays: Iterable[NDArray[Any]]) -> None:
        """Begin the copies of some arrays, from whichever thread; those for which there is no room wait for
        :meth:`take`."""
        for array in arrays:
            with self._lock:
                if id(array) in self._sent or self.num_bytes + array.nbytes > self._most_bytes:
                    continue
                self.num_bytes += array.nbytes
            sent = _Sent(*self._card.copy(array, own_stream=True), array.nbytes)
            with self._lock:
                self._sent[id(array)] = sent
            weakref.finalize(array, self._forget, id(array))

    def take(self, array: NDArray[Any]) -> Tensor:
        """The array on the card, for the computing stream."""
        sent = self._forget(id(array))
        if sent is None:
            return self._card.copy(array, own_stream=False)[0]
        self._card.wait(sent.tensor, sent.ready)
        return sent.tensor

    def _forget(self, key: int) -> _Sent | None:
        with self._lock:
            sent = self._sent.pop(key, None)
            self.num_bytes -= 0 if sent is None else sent.num_bytes
        return sent


@lru_cache(maxsize=8)
def uploads_to(device: torch.device) -> Uploads | None:
    """Those to one device; None where there is nothing to send."""
    return Uploads(CudaCard(device)) if device.type == "cuda" else None


def on_device(array: NDArray[Any], device: torch.device) -> Tensor:
    """An array as a tensor on a device; on a card without the program waiting for it."""
    uploads = uploads_to(device)
    return torch.from_numpy(array).to(device) if uploads is None else uploads.take(array)
