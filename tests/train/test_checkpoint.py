"""Checkpoints: whole or refused, the one before kept, progress to the last bit."""

import json
import logging

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from anymc3d.errors import RunFolderError
from anymc3d.train.checkpoint import (
    LATEST,
    PREVIOUS,
    TrainingState,
    load_checkpoint,
    load_optimizer_tensors,
    optimizer_tensors,
    save_checkpoint,
)

STATE = TrainingState(
    epoch=2, step=7, loss_total=0.1 + 0.2, loss_count=3, best_epoch=1, best_score=0.75, history=[{"a": 1}]
)


def write_two(folder):
    save_checkpoint(folder, {"x": torch.tensor([1.0])}, TrainingState(epoch=1))
    save_checkpoint(folder, {"x": torch.tensor([2.0])}, STATE)


def test_state_comes_back_to_the_last_bit(tmp_path):
    write_two(tmp_path)
    tensors, state = load_checkpoint(tmp_path)
    assert state == STATE
    assert tensors["x"].item() == 2.0


def test_no_checkpoint_is_a_fresh_start(tmp_path):
    assert load_checkpoint(tmp_path) is None


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "zero"])
def test_C6_a_damaged_newest_one_falls_back_to_the_one_before(tmp_path, damage, caplog):
    write_two(tmp_path)
    path = tmp_path / LATEST
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes({"flip": content, "truncate": content[:-3], "empty": b"", "zero": bytes(len(content))}[damage])
    with caplog.at_level(logging.WARNING):
        tensors, state = load_checkpoint(tmp_path)
    assert state.epoch == 1
    assert tensors["x"].item() == 1.0
    assert "damaged checkpoint" in caplog.text


def test_C6_all_damaged_is_an_error_and_never_a_silent_restart(tmp_path):
    write_two(tmp_path)
    for name in (LATEST, PREVIOUS):
        (tmp_path / name).write_bytes(b"no")
    with pytest.raises(RunFolderError, match="every checkpoint is damaged"):
        load_checkpoint(tmp_path)


def test_C4_a_failed_save_names_path_and_bytes_and_keeps_the_old_one(tmp_path, monkeypatch):
    write_two(tmp_path)

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("anymc3d.train.checkpoint.save_file", full)
    with pytest.raises(RunFolderError, match=r"latest.safetensors: cannot save .* needs 4 bytes"):
        save_checkpoint(tmp_path, {"x": torch.tensor([3.0])}, STATE)
    assert load_checkpoint(tmp_path)[0]["x"].item() == 2.0


def test_an_optimizer_goes_on_as_if_never_stopped():
    def make():
        torch.manual_seed(0)
        parameter = torch.nn.Parameter(torch.randn(4))
        return parameter, torch.optim.AdamW([parameter], lr=0.1)

    def steps(parameter, optimizer, start, stop):
        for index in range(start, stop):
            parameter.grad = torch.sin(torch.arange(4.0) + index)
            optimizer.step()

    whole, optimizer = make()
    steps(whole, optimizer, 0, 10)
    half, optimizer = make()
    steps(half, optimizer, 0, 5)
    state = {name: tensor.clone() for name, tensor in optimizer_tensors(optimizer).items()}
    resumed, optimizer = make()
    resumed.data.copy_(half.data)
    load_optimizer_tensors(optimizer, {"model.task_query": torch.zeros(1), **state})
    steps(resumed, optimizer, 5, 10)
    assert torch.equal(resumed, whole)


def test_what_a_run_of_an_earlier_version_spent_is_not_known(tmp_path):
    """Its checkpoints say neither seconds of steps nor energy; a sum that began in the middle would be wrong."""
    save_checkpoint(tmp_path, {"x": torch.zeros(1)}, TrainingState(epoch=9, step_seconds=5.0, energy_joules=3.0))
    assert load_checkpoint(tmp_path)[1].step_seconds == 5.0
    with safe_open(str(tmp_path / LATEST), framework="pt") as file:
        header, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    state = {k: v for k, v in json.loads(header["state"]).items() if k not in ("step_seconds", "energy_joules")}
    save_file(tensors, str(tmp_path / LATEST), metadata=header | {"state": json.dumps(state)})
    found = load_checkpoint(tmp_path)[1]
    assert (found.epoch, found.step_seconds, found.energy_joules) == (9, None, None)
