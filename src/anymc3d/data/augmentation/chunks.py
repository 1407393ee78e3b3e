"""How many slices an augmentation works on at once: on a CPU as many as its cache holds, elsewhere many."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

_CPU_VOXELS = 2**17
"""Half a megabyte of float32: an operation's temporaries stay in the cache (measured: benchmarks/augmentation.md)."""
_DEVICE_VOXELS = 2**24
"""Few large kernels, and temporaries well below a gigabyte."""


def slice_chunks(slices: Tensor) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) along the first axis of ``slices``; together they cover it, in order."""
    budget = _CPU_VOXELS if slices.device.type == "cpu" else _DEVICE_VOXELS
    step = max(1, budget // slices[0].numel())
    for start in range(0, len(slices), step):
        yield start, min(start + step, len(slices))
