"""Checkpoints: whole or refused, the one before kept, progress to the last bit."""

import json
import logging
import math
from dataclasses import asdict, replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from anymc3d.errors import RunFolderError
from anymc3d.models.tensor_hash import tensors_hash
from anymc3d.train.checkpoint import (
    LATEST,
    PREVIOUS,
    TrainingState,
    load_checkpoint,
    load_optimizer_tensors,
    optimizer_tensors,
    save_checkpoint,
)
from damage import STAND_INS, flipped, swap

STATE = TrainingState(
    epoch=2, step=7, loss_total=0.1 + 0.2, loss_count=3, best_epoch=1, best_score=0.75, history=[{"a": 1}]
)


def write_two(folder):
    save_checkpoint(folder, {"x": torch.tensor([1.0])}, TrainingState(epoch=1))
    save_checkpoint(folder, {"x": torch.tensor([2.0])}, STATE)


def parts(path):
    with safe_open(str(path), framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118


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


@pytest.mark.parametrize("name", [name for name in STAND_INS if name != "link to nothing"])
def test_C6_whatever_stands_in_the_place_of_the_newest_one_the_one_before_is_taken(tmp_path, name):
    write_two(tmp_path)
    STAND_INS[name](tmp_path / LATEST)
    assert load_checkpoint(tmp_path)[1].epoch == 1


@pytest.mark.parametrize("change", [{"epoch": 3}, {"epoch": 0}, {"epoch": -1}, {"best_score": 9.9}, {"epoch": "2"}])
def test_C6_the_hash_is_over_the_progress_too(tmp_path, change):
    """One bit makes 2 of 3: an epoch would be left out, and nobody would know."""
    write_two(tmp_path)
    tensors, header = parts(tmp_path / LATEST)
    state = json.loads(header["state"]) | change
    save_file(tensors, str(tmp_path / LATEST), metadata=header | {"state": json.dumps(state)})
    assert load_checkpoint(tmp_path)[1].epoch == 1


def test_C6_no_flipped_bit_comes_through(tmp_path):
    write_two(tmp_path)
    whole = (tmp_path / LATEST).read_bytes()
    fell_back = 0
    for changed in flipped(whole, 800):
        (tmp_path / LATEST).write_bytes(changed)
        tensors, state = load_checkpoint(tmp_path)
        fell_back += state.epoch == 1
        assert (tensors["x"].item(), state) in ((2.0, STATE), (1.0, TrainingState(epoch=1)))
    assert fell_back > 640


def test_C6_two_files_in_each_others_place_are_two_whole_checkpoints(tmp_path):
    write_two(tmp_path)
    swap(tmp_path / LATEST, tmp_path / PREVIOUS)
    assert load_checkpoint(tmp_path)[1] == TrainingState(epoch=1)


def test_C6_a_checkpoint_of_another_run_is_not_taken(tmp_path):
    save_checkpoint(tmp_path, {"x": torch.zeros(1)}, TrainingState(epoch=1), run="mine")
    save_checkpoint(tmp_path, {"x": torch.ones(1)}, STATE, run="another")
    assert load_checkpoint(tmp_path, run="mine")[1].epoch == 1
    with pytest.raises(RunFolderError, match="every checkpoint is damaged"):
        load_checkpoint(tmp_path, run="a third")


@pytest.mark.parametrize(
    "change",
    [
        {"epoch": -1},
        {"epoch": "2"},
        {"epoch": 2.0},
        {"epoch": True},
        {"epoch": 3},
        {"step": None},
        {"loss_total": math.nan},
        {"best_epoch": 5},
        {"best_score": "0.9"},
        {"best_loss": math.nan},
        {"seconds": -1.0},
        {"step_seconds": math.inf},
        {"memory_per_volume": 0.5},
        {"history": [1, 2]},
        {"history": {}},
        {"unheard": 1},
    ],
)
def test_C6_a_checkpoint_of_before_the_version_is_read_and_its_values_are_checked(tmp_path, change):
    tensors, whole = {"x": torch.ones(1)}, asdict(replace(STATE, history=[{"a": 1}, {"a": 2}]))
    for state, name in ((whole, PREVIOUS), (whole | change, LATEST)):
        save_file(tensors, str(tmp_path / name), metadata={"state": json.dumps(state), "sha256": tensors_hash(tensors)})
    tensors, found = load_checkpoint(tmp_path)
    assert asdict(found) == whole and tensors["x"].item() == 1.0
    (tmp_path / PREVIOUS).unlink()
    with pytest.raises(RunFolderError, match="every checkpoint is damaged"):
        load_checkpoint(tmp_path)


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
    tensors, header = parts(tmp_path / LATEST)
    state = {k: v for k, v in json.loads(header["state"]).items() if k not in ("step_seconds", "energy_joules")}
    old = {"state": json.dumps(state), "sha256": tensors_hash(tensors)}
    save_file(tensors, str(tmp_path / LATEST), metadata=old)
    found = load_checkpoint(tmp_path)[1]
    assert (found.epoch, found.step_seconds, found.energy_joules) == (9, None, None)
