"""F1: official .pth files are converted in a child process; nothing in them runs."""

from __future__ import annotations

import os
import pickle
import zipfile
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


def zipped(source: Path, target: Path, compression: int, *, lie: int = 0) -> Path:
    """The archive of ``torch.save`` written again; ``lie``: bytes that its table of contents adds to every member."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", compression) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
        for member in new.infolist():
            member.file_size += lie
    return target


def test_F1_an_archive_that_unfolds_is_refused_before_it_is_read(tmp_path: Path) -> None:
    torch.save({"cls_token": torch.zeros(50_000_000)}, tmp_path / "plain.pth")
    small = zipped(tmp_path / "plain.pth", tmp_path / "small.pth", zipfile.ZIP_DEFLATED)
    assert small.stat().st_size < 300_000
    with pytest.raises(BackboneError, match=r"without compression, but .* is compressed"):
        convert_pth(small, tmp_path / "out.safetensors")
    torch.save({"cls_token": torch.zeros(10)}, tmp_path / "ten.pth")
    with pytest.raises(BackboneError, match=r"its archive says it holds .* in a file of"):
        convert_pth(zipped(tmp_path / "ten.pth", tmp_path / "lie.pth", zipfile.ZIP_STORED, lie=10**9), tmp_path / "o")
    assert not list(tmp_path.glob("o*"))


def test_F1_the_child_has_a_limit_on_memory(tmp_path: Path) -> None:
    """Ten numbers that are said to be a tensor of 20 GB: stride 0 needs no storage until it is copied."""
    torch.save({"cls_token": torch.zeros(1).expand(5_000_000_000)}, tmp_path / "wide.pth")
    assert (tmp_path / "wide.pth").stat().st_size < 10_000
    with pytest.raises(BackboneError, match=r"is not a plain file of weights: .*(memory|alloc)"):
        convert_pth(tmp_path / "wide.pth", tmp_path / "out.safetensors")


def test_a_missing_file_is_a_clean_error(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match="expected a weights file"):
        convert_pth(tmp_path / "nothing.pth", tmp_path / "out.safetensors")
