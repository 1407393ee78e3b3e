"""What glibc does with the memory of tensors that come and go: keep it, so that the next one needs no new pages.

A forward pass frees each large tensor and asks for one as large a moment later. As it comes, glibc gives such memory
back to the system, and every page of the next tensor is fetched and zeroed again: up to a tenth of a block's time on a
processor (``benchmarks/speed.md``). Other allocators and systems are left alone, and so is who has set glibc's by its
variables.
"""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Names of ``malloc.h``."""

KEPT_BYTES = 256 * 2**20
"""So much free memory at the end of the heap stays with the process."""
OWN_PAGES_BYTES = 128 * 2**20
"""From this size on memory is the system's own and goes back at once: a large scan. The largest tensor of a call of 64
slices of 224 pixels, of a network of width 384, is 101 MB."""

VARIABLES = (
    "MALLOC_TRIM_THRESHOLD_",
    "MALLOC_MMAP_THRESHOLD_",
    "MALLOC_TOP_PAD_",
    "MALLOC_MMAP_MAX_",
    "GLIBC_TUNABLES",
)


@cache
def keep_freed_memory() -> bool:
    """Tell the allocator of this process, once; whether it took it."""
    if not sys.platform.startswith("linux") or any(os.environ.get(name) for name in VARIABLES):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, OWN_PAGES_BYTES)) and bool(mallopt(M_TRIM_THRESHOLD, KEPT_BYTES))
