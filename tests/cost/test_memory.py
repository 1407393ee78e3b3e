"""Memory of the process: the peak is counted from where it was asked to, and a device says which memory it means."""

import sys

import numpy as np
import pytest
import torch

from anymc3d.cost import memory

CPU = torch.device("cpu")
MIB = 2**20
on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak can be forgotten on Linux alone")


@on_linux
def test_what_was_in_use_before_is_not_in_the_peak():
    before = memory.current_memory(CPU)
    block = np.ones(256 * MIB // 8)
    assert memory.peak_memory(CPU) >= before + 200 * MIB
    del block
    memory.forget_peak(CPU)
    assert memory.peak_memory(CPU) < before + 100 * MIB
    again = np.ones(128 * MIB // 8)
    assert memory.peak_memory(CPU) >= memory.current_memory(CPU) >= again.nbytes


def test_a_system_that_tells_nothing_gives_the_peak_of_the_whole_process(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_STATUS", tmp_path / "status")
    monkeypatch.setattr(memory, "_CLEAR", tmp_path / "nowhere" / "clear_refs")
    memory.forget_peak(CPU)
    assert memory.current_memory(CPU) is None
    assert MIB < memory.peak_memory(CPU) < 2**45


def test_a_device_is_named_with_the_kind_of_memory_that_is_counted():
    found = memory.device_facts(CPU)
    assert found["memory_kind"] == memory.RESIDENT
    assert found["device"]
