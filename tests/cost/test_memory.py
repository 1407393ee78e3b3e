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
    memory.forget_peak(CPU)
    before = memory.peak_memory(CPU)
    block = np.ones(256 * MIB // 8)
    assert memory.peak_memory(CPU) >= before + 200 * MIB
    del block
    memory.forget_peak(CPU)
    assert memory.peak_memory(CPU) < before + 100 * MIB


@on_linux
def test_memory_that_was_freed_in_small_pieces_is_given_back_before_the_peak_is_counted():
    """Pieces below the size at which glibc maps memory by itself stay with the process otherwise."""
    memory.forget_peak(CPU)
    before = memory.peak_memory(CPU)
    pieces = [np.ones(8 * 1024) for _ in range(4096)]
    last = np.ones(8 * 1024)
    assert memory.peak_memory(CPU) >= before + 200 * MIB
    del pieces
    memory.forget_peak(CPU)
    assert memory.peak_memory(CPU) < before + 64 * MIB
    assert last.sum() > 0


def test_what_the_backward_pass_needs_is_counted_once_and_without_parameters():
    """Of y = tanh(W x), z = y * y: x for the gradient of W, and y, which tanh and the square share."""
    weight = torch.ones(64, 32, requires_grad=True)
    inputs = torch.rand(32, 100)
    with memory.KeptForBackward([weight]) as kept:
        outputs = (weight @ inputs).tanh()
        squares = outputs * outputs
    assert kept.bytes == 4 * (32 * 100 + 64 * 100)
    squares.sum().backward()
    expected = 2 * outputs.detach() * (1 - outputs.detach() ** 2) @ inputs.T
    torch.testing.assert_close(weight.grad, expected)


def test_a_copy_of_a_weight_is_not_counted():
    weight = torch.ones(64, 32, requires_grad=True)
    inputs = torch.rand(10, 32)
    with memory.KeptForBackward([weight]) as kept:
        inputs.requires_grad_() @ (2 * weight).T
    assert kept.bytes == 4 * 10 * 32


def test_frozen_layers_keep_nothing():
    frozen = torch.nn.Linear(32, 32).requires_grad_(False)
    with memory.KeptForBackward(frozen.parameters()) as kept:
        frozen(torch.rand(10, 32))
    assert kept.bytes == 0


def test_a_system_that_tells_nothing_gives_the_peak_of_the_whole_process(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_STATUS", tmp_path / "status")
    monkeypatch.setattr(memory, "_CLEAR", tmp_path / "nowhere" / "clear_refs")
    memory.forget_peak(CPU)
    assert MIB < memory.peak_memory(CPU) < 2**45


def test_a_device_is_named_with_the_kind_of_memory_that_is_counted():
    found = memory.device_facts(CPU)
    assert found["memory_kind"] == memory.RESIDENT
    assert found["device"]


def test_forgetting_the_peak_of_a_card_that_was_not_used_yet_asks_it_nothing(monkeypatch):
    """Asked before it is initialised, torch's allocator raises; nothing was allocated there."""
    asked = []
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", asked.append)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    memory.forget_peak(torch.device("cuda"))
    assert asked == []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    memory.forget_peak(torch.device("cuda"))
    assert asked == [torch.device("cuda")]
