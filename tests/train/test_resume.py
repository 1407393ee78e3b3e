"""Exact resume: killed at any moment, the same command again ends with the same bits as a run never stopped."""

import os
import signal
import time
from contextlib import suppress

import numpy as np
import pytest

from anymc3d.cli.main import main
from anymc3d.errors import RunFolderError
from anymc3d.files.folders import locked
from anymc3d.files.tables import read_table
from anymc3d.settings.task_file import read_task
from anymc3d.train.checkpoint import LATEST, load_checkpoint
from anymc3d.train.fit import fit

pytestmark = pytest.mark.timeout(1200)
"""Dozens of processes, each of a second: on a busy machine together more than the usual limit."""

KILLED = -signal.SIGKILL
OVERRIDES = ("train.epochs=4", "--device", "cpu", "--quiet")
FILES = ("plugin.safetensors", "predictions.val.csv", "metrics.csv", "task.yaml", "manifest.csv", "run.json")

MOMENTS = [
    ("torn", "run.json", 1),
    ("renamed", "run.json", 1),
    ("torn", "manifest.csv", 1),
    ("torn", "task.yaml", 1),
    ("torn", "*.facts.json", (1, 3)),
    ("torn", "????????????????*.safetensors", (2, 4)),
    ("renamed", "????????????????*.safetensors", (1, 2)),
    ("call", "anymc3d.train.fit:make_parts", 1),
    ("call", "anymc3d.train.loop:_step", (2, 4)),
    ("torn", "previous.safetensors", (1, 2)),
    ("torn", "latest.safetensors", (2, 3)),
    ("renamed", "previous.safetensors", (1, 2)),
    ("renamed", "latest.safetensors", (1, 2)),
    ("call", "anymc3d.train.loop:score_validation", 1),
    ("call", "anymc3d.train.loop:validate", 1),
    ("torn", "log.csv", 1),
    ("torn", "log.jsonl", 1),
    ("call", "anymc3d.train.loop:_step", (1, 3)),
    ("torn", "latest.safetensors", (1, 3)),
    ("call", "anymc3d.train.log:write", 4),
    ("torn", "curves.png", 1),
    ("call", "anymc3d.train.result:validate", 1),
    ("torn", "predictions.val.csv", 1),
    ("renamed", "metrics.csv", 1),
    ("torn", "plugin.safetensors", 1),
]
"""In the order of a run; a range is drawn from. Under ``every_step`` each step writes a checkpoint. The cache has 16
cases to prepare in two threads, so few enough are counted for some to be left."""


def words(journey, run):
    return ["train", str(journey.task), "-o", str(run), *OVERRIDES]


@pytest.fixture(scope="module")
def calm(journey, nursery, tmp_path_factory):
    """The run that was never stopped, and its seconds."""
    folder = tmp_path_factory.mktemp("calm")
    started = time.monotonic()
    assert nursery.run(words(journey, folder / "run"), folder / "home", folder / "said") == 0, said(folder)
    return folder / "run", time.monotonic() - started


def said(folder):
    return (folder / "said").read_text()


def assert_same_run(run, calm):
    for name in FILES:
        assert (run / name).read_bytes() == (calm / name).read_bytes(), name
    for name in ("log.csv", "log.jsonl"):
        assert len((run / name).read_text().splitlines()) == len((calm / name).read_text().splitlines())
    logs = [[{**row, "seconds": ""} for row in read_table(where / "log.csv")] for where in (run, calm)]
    assert logs[0] == logs[1]
    assert not list(run.rglob("*.part")), "what a kill left half written is cleared away"


def test_C1_C2_killed_at_every_named_moment_it_ends_bit_identical(journey, nursery, calm, tmp_path):
    """25 kills in one run: in the preparation, in steps, in writes of checkpoints, in validation, in the export."""
    rng = np.random.default_rng(0)
    run = tmp_path / "run"
    for kind, what, number in MOMENTS:
        drawn = int(rng.integers(*number, endpoint=True)) if isinstance(number, tuple) else number
        moment = (kind, what, drawn)
        status = nursery.run(words(journey, run), tmp_path / "home", tmp_path / "said", moment=moment, every_step=True)
        assert status == KILLED, f"{moment}: {said(tmp_path)}"
        load_checkpoint(run / "checkpoints")
    assert nursery.run(words(journey, run), tmp_path / "home", tmp_path / "said") == 0, said(tmp_path)
    assert "damaged" not in said(tmp_path), "an atomic write leaves nothing damaged"
    assert_same_run(run, calm[0])


def test_C1_killed_from_outside_at_random_times_it_ends_bit_identical(journey, nursery, calm, tmp_path):
    """12 kills at times drawn uniformly over the length of a run; after a run that comes to its end, a new one."""
    rng = np.random.default_rng(1)
    kills = runs = 0
    while kills < 12:
        run, home = tmp_path / f"run{runs}", tmp_path / f"home{runs}"
        pid = nursery.start(words(journey, run), home, tmp_path / "said", every_step=bool(runs % 2))
        time.sleep(rng.uniform(0, calm[1]))
        with suppress(ProcessLookupError):  # it may have come to its end in this very moment
            os.kill(pid, signal.SIGKILL)
        status = nursery.wait()
        assert status in (0, KILLED), said(tmp_path)
        kills += status == KILLED
        if status == 0:
            assert_same_run(run, calm[0])
            runs += 1
    assert nursery.run(words(journey, run), home, tmp_path / "said") == 0, said(tmp_path)
    assert_same_run(run, calm[0])


FROZEN_START = ("train.start=frozen", "train.epochs=2", "train.sampling=stratified")
FROZEN_MOMENTS = [
    ("torn", "????????????????*.safetensors", 19),
    ("call", "anymc3d.train.frozen_start:solve", 1),
    ("call", "anymc3d.train.loop:validate", 1),
    ("torn", "latest.safetensors", 1),
    ("renamed", "latest.safetensors", 1),
    ("call", "anymc3d.train.loop:_step", 2),
    ("call", "anymc3d.train.loop:beats_start", 1),
    ("torn", "latest.safetensors", 2),
    ("call", "anymc3d.train.result:validate", 1),
]
"""The 16 prepared cases come first: the 19th such file is the third case's features."""


def test_C1_a_run_from_the_frozen_start_killed_in_every_part_ends_bit_identical(journey, nursery, tmp_path):
    """While its features are computed, while it is solved, while it is validated as epoch 0, and later."""
    command = ["train", str(journey.task), *OVERRIDES[1:], *FROZEN_START, "-o"]
    calm, run = tmp_path / "calm", tmp_path / "run"
    assert nursery.run([*command, str(calm)], tmp_path / "calm_home", tmp_path / "said") == 0, said(tmp_path)
    for moment in FROZEN_MOMENTS:
        status = nursery.run([*command, str(run)], tmp_path / "home", tmp_path / "said", moment=moment, every_step=True)
        assert status == KILLED, f"{moment}: {said(tmp_path)}"
    assert nursery.run([*command, str(run)], tmp_path / "home", tmp_path / "said") == 0, said(tmp_path)
    assert_same_run(run, calm)
    assert [row["epoch"] for row in read_table(run / "log.csv")] == ["0", "1", "2"]


STOPS = [
    ("call", "anymc3d.data.scan:prepare_view", 3),
    ("call", "anymc3d.train.fit:make_parts", 1),
    ("call", "anymc3d.train.loop:_step", 3),
    ("call", "anymc3d.train.loop:validate", 1),
    ("call", "anymc3d.train.result:decide_how", 1),
    ("torn", "predictions.val.csv", 1),
]


def test_C3_SIGTERM_at_any_stage_exits_75_and_the_same_command_ends_bit_identical(journey, nursery, calm, tmp_path):
    run = tmp_path / "run"
    for moment, sent in zip(STOPS, [signal.SIGTERM, signal.SIGUSR1] * 3, strict=True):
        status = nursery.run(words(journey, run), tmp_path / "home", tmp_path / "said", moment=moment, sent=sent)
        assert status == 75, f"{moment}: {said(tmp_path)}"
    assert "stopped at epoch 1, step 3 of 5; the state is saved: the same command resumes" in said(tmp_path)
    assert "Traceback" not in said(tmp_path)
    assert nursery.run(words(journey, run), tmp_path / "home", tmp_path / "said") == 0, said(tmp_path)
    assert_same_run(run, calm[0])


def test_C6_a_corrupt_newest_checkpoint_is_said_and_the_run_still_ends_bit_identical(journey, nursery, calm, tmp_path):
    run, moment = tmp_path / "run", ("call", "anymc3d.train.loop:_step", 9)
    assert nursery.run(words(journey, run), tmp_path / "home", tmp_path / "said", moment=moment, every_step=True) < 0
    newest = run / "checkpoints" / LATEST
    newest.write_bytes(newest.read_bytes()[:-1])
    loud = [word for word in words(journey, run) if word != "--quiet"]
    assert nursery.run(loud, tmp_path / "home", tmp_path / "said") == 0, said(tmp_path)
    assert f"{LATEST}: damaged checkpoint" in said(tmp_path) and "trying the one before" in said(tmp_path)
    assert "at epoch 2, step 2" in said(tmp_path)
    assert_same_run(run, calm[0])


def test_C8_a_second_run_in_the_folder_is_refused_and_told_who_holds_it(journey, tmp_path, capsys):
    with locked(tmp_path / "run"):
        assert main(words(journey, tmp_path / "run")) == 2
    assert f"in use by process {os.getpid()} on " in capsys.readouterr().err


def test_C5_a_failed_save_stops_the_run(journey, tmp_path, monkeypatch):
    def refused(*_args, **_kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("anymc3d.train.checkpoint.save_file", refused)
    with pytest.raises(RunFolderError, match=r"cannot save the checkpoint .*Permission denied"):
        fit(read_task(journey.task), tmp_path / "run", device="cpu", quiet=True)
    assert not (tmp_path / "run" / "log.csv").exists()


TOKEN_MOMENTS = [
    ("torn", "????????????????*.safetensors", 18),
    ("call", "anymc3d.train.loop:_step", 3),
    ("renamed", "????????????????*.safetensors", 2),
    ("call", "anymc3d.data.array_store:_checksum", 5),
    ("call", "anymc3d.train.result:validate", 1),
]
"""The first 16 such files are the prepared scans; trunk tokens follow."""


def test_C1_a_run_on_trunk_tokens_killed_in_every_part_ends_bit_identical(journey, nursery, tmp_path):
    command = [*words(journey, "")[:2], *OVERRIDES, "method.blocks=1", "train.copies=2", "augmentation=flips"]
    assert nursery.run([*command, "-o", str(tmp_path / "calm")], tmp_path / "calm home", tmp_path / "said") == 0
    killed = [*command, "-o", str(tmp_path / "killed")]
    for moment in TOKEN_MOMENTS:
        status = nursery.run(killed, tmp_path / "home", tmp_path / "said", moment=moment, every_step=True)
        assert status == KILLED, f"{moment}: {said(tmp_path)}"
    assert nursery.run(killed, tmp_path / "home", tmp_path / "said") == 0, said(tmp_path)
    assert_same_run(tmp_path / "killed", tmp_path / "calm")
    tokens = [
        sorted(path.name for path in (tmp_path / home / "tokens").rglob("*.safetensors"))
        for home in ("home", "calm home")
    ]
    assert tokens[0] == tokens[1] != []


FOLD_MOMENTS = [
    ("torn", "folds.json", 1),
    ("call", "anymc3d.train.loop:_step", 2),
    ("torn", "plugin.safetensors", 1),
    ("call", "anymc3d.train.folds:_predict", 1),
    ("torn", "predictions.csv", 1),
    ("call", "anymc3d.train.loop:validate", 1),
    ("torn", "oof.csv", 1),
    ("renamed", "oof.csv", 1),
]


def test_C1_a_cross_validation_killed_in_every_part_ends_bit_identical(journey, nursery, tmp_path):
    options = ("--folds", "2", "train.epochs=1")
    command = ["train", str(journey.task), *OVERRIDES[1:], *options]
    assert nursery.run([*command, "-o", str(tmp_path / "calm")], tmp_path / "home", tmp_path / "said") == 0
    killed = [*command, "-o", str(tmp_path / "killed")]
    for moment in FOLD_MOMENTS:
        status = nursery.run(killed, tmp_path / "home", tmp_path / "said", moment=moment, every_step=True)
        assert status == KILLED, f"{moment}: {said(tmp_path)}"
    assert nursery.run(killed, tmp_path / "home", tmp_path / "said") == 0, said(tmp_path)
    for name in ("oof.csv", "metrics.csv", "fold_0/predictions.val.csv", "fold_1/plugin.safetensors"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "calm" / name).read_bytes(), name


def test_D2_a_killed_prediction_goes_on_and_gives_the_same_table(journey, nursery, tmp_path):
    command = ["predict", "-p", str(journey.plugin), "-i", *map(str, journey.scans), "--device", "cpu", "--quiet"]
    home, where = os.environ["ANYMC3D_HOME"], tmp_path / "said"
    assert nursery.run([*command, "-o", str(tmp_path / "calm")], home, where) == 0, said(tmp_path)
    killed = [*command, "-o", str(tmp_path / "killed")]
    rng = np.random.default_rng(2)
    for number in range(4):
        moment = ("call", "anymc3d.predict.predictor:answered", int(rng.integers(1, 5)))
        assert nursery.run(killed, home, where, moment=moment) == KILLED, number
    assert nursery.run(killed, home, where, moment=("torn", "predictions.csv", 1)) == KILLED
    stopped = [*killed[:-1], str(tmp_path / "stopped")]
    moment = ("call", "anymc3d.predict.predictor:answered", 7)
    assert nursery.run(stopped, home, where, moment=moment, sent=signal.SIGTERM) == 75
    for words_again, folder in ((killed, "killed"), (stopped, "stopped")):
        assert nursery.run(words_again, home, where) == 0, said(tmp_path)
        table = (tmp_path / folder / "predictions.csv").read_bytes()
        assert table == (tmp_path / "calm" / "predictions.csv").read_bytes()
