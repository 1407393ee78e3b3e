"""F1: official .pth files are converted in a child process; nothing in them runs."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from weight_layouts import official_dinov2

from anymc3d.errors import BackboneError
from anymc3d.models.backbones import TINY_DINOV2
from anymc3d.models.pth import convert_pth
from anymc3d.models.vit import random_vit


class Payload:
    """A pickle that would make a file when opened."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self):
        return os.mkdir, (str(self.canary),)


def test_an_official_file_becomes_the_same_tensors(tmp_path: Path) -> None:
    raw = official_dinov2(dict(random_vit(TINY_DINOV2).state_dict()))
    torch.save(raw, tmp_path / "weights.pth")
    convert_pth(tmp_path / "weights.pth", tmp_path / "out.safetensors")
    found = load_file(tmp_path / "out.safetensors")
    assert found.keys() == raw.keys() and all(torch.equal(found[name], raw[name]) for name in raw)


@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_F1_a_pickle_that_would_run_something_is_refused(tmp_path: Path, writer: str) -> None:
    file, canary = tmp_path / "weights.pth", tmp_path / "canary"
    if writer == "torch":
        torch.save({"cls_token": Payload(canary)}, file)
    else:
        file.write_bytes(pickle.dumps({"cls_token": Payload(canary)}))
    with pytest.raises(BackboneError, match=r"weights\.pth is not a plain file of weights"):
        convert_pth(file, tmp_path / "out.safetensors")
    assert not canary.exists() and not (tmp_path / "out.safetensors").exists()


def test_the_tensors_of_a_checkpoint_are_found_beside_what_training_left(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "state_dict": {"cls_token": torch.ones(1)}, "optimizer": {}}, tmp_path / "last.pth")
    convert_pth(tmp_path / "last.pth", tmp_path / "out.safetensors")
    assert load_file(tmp_path / "out.safetensors")["cls_token"].item() == 1


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    torch.save({"history": {"loss": torch.zeros(1)}}, tmp_path / "nested.pth")
    with pytest.raises(BackboneError, match="expected a flat table of tensors"):
        convert_pth(tmp_path / "nested.pth", tmp_path / "out.safetensors")


def test_a_child_that_takes_too_long_is_stopped(tmp_path: Path) -> None:
    torch.save({"cls_token": torch.zeros(1)}, tmp_path / "weights.pth")
    with pytest.raises(BackboneError, match=r"more than 0\.01 s and was stopped"):
        convert_pth(tmp_path / "weights.pth", tmp_path / "out.safetensors", timeout_s=0.01)


def test_a_missing_file_is_a_clean_error(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match="expected a weights file"):
        convert_pth(tmp_path / "nothing.pth", tmp_path / "out.safetensors")
