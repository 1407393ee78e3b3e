"""Memory that a tensor leaves is there for the next one; pages are counted, not timed."""

import platform
import subprocess
import sys

import pytest

from anymc3d.cost import allocator

GLIBC = sys.platform.startswith("linux") and "glibc" in platform.libc_ver()

PAGES = """
import ctypes, resource, sys
from anymc3d.cost.allocator import keep_freed_memory
print(keep_freed_memory() if sys.argv[1] == "kept" else False)
libc, size = ctypes.CDLL(None), 20 * 2**20
libc.prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE: usual pages, whatever the machine is set to
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes, libc.memset.argtypes = [ctypes.c_void_p], [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
def thrice():
    for _ in range(3):
        both = [libc.malloc(size), libc.malloc(size)]
        for one in both:
            libc.memset(one, 1, size)
        for one in both:
            libc.free(one)
thrice()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
thrice()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def pages(way, monkeypatch):
    for name in allocator.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    done = subprocess.run([sys.executable, "-c", PAGES, way], check=True, capture_output=True, text=True)
    took, count = done.stdout.split()
    return took == "True", int(count)


@pytest.mark.skipif(not GLIBC, reason="other allocators are left alone")
def test_the_same_pages_serve_again(monkeypatch):
    took, count = pages("kept", monkeypatch)
    assert took and count < 1000
    assert pages("as it comes", monkeypatch)[1] > 10 * count + 1000, "and would not by themselves"


def test_who_has_set_the_allocator_is_left_alone(monkeypatch):
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: pytest.fail("asked all the same"))
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "100000")
    assert not allocator.keep_freed_memory.__wrapped__()
    monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_")
    monkeypatch.setattr(allocator.sys, "platform", "darwin")
    assert not allocator.keep_freed_memory.__wrapped__()
