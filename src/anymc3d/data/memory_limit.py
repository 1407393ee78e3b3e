"""A limit to the memory that one case may take, so that one scan does not have the system end the whole run."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from anymc3d.errors import TooLargeError, UsageError

_KIND = "VmData"
"""What Linux's RLIMIT_DATA bounds: all private memory, also what was freed and is kept for later."""
_WORDS = ("not enough memory", "allocate memory", "bad_alloc", "can't start new thread")


@contextmanager
def memory_limit(limit_bytes: int | None) -> Iterator[None]:
    """End what is done in the block when this process takes so many bytes more than before; None = never.

    By a limit of the operating system (RLIMIT_DATA): the allocation that goes beyond fails, of whatever library. Memory
    of a graphics card does not count.

    Raises:
        TooLargeError: more was needed.
        UsageError: this system has no such limit.
    """
    if limit_bytes is None:
        yield
        return
    in_use = _held()
    if in_use is None or not sys.platform.startswith("linux"):
        raise UsageError("--case-memory: needs Linux; leave it out here")
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = in_use + limit_bytes
    known = [limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min([wanted, *known]), hard))
    try:
        yield
    except Exception as error:
        if not _is_of_memory(error):
            raise
        text = f"more than {limit_bytes / 1e9:g} GB of memory needed (--case-memory)"
        raise TooLargeError(f"{text}; give it more, or look at the scan") from None  # whose frames hold the memory
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _held() -> int | None:
    """Bytes that count against the limit now; None where the system does not say."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    kilobytes = next((line.split()[1] for line in lines if line.startswith(f"{_KIND}:")), None)
    return None if kilobytes is None else int(kilobytes) * 1024


def _is_of_memory(error: BaseException | None) -> bool:
    """Of Python and NumPy by its class; of torch, of libraries in C++ and of a thread without a stack by its words.

    Also where a reader has made it an error of its scan: what led to an error counts.
    """
    while error is not None:
        if isinstance(error, MemoryError) or any(word in str(error) for word in _WORDS):
            return True
        error = error.__cause__ or error.__context__
    return False
