"""Two processes started by torchrun are one run: the same cases, one writer, and all of them stop together."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from anymc3d.cli.main import main
from anymc3d.cli.options.launch import without_launch
from anymc3d.errors import InterruptedRunError, UsageError
from anymc3d.files.tables import read_table
from anymc3d.plugins import load_plugin
from anymc3d.train.launch import Launch, LaunchedError, _free_port, _judge, run_launched
from anymc3d.train.processes import Processes

EPOCHS = "train.epochs=3"
LAUNCHED = str(Path(__file__).with_name("launched_main.py"))
ANYMC3D = ["-m", "anymc3d"]


def words(task, run, *overrides):
    return ["train", str(task), "-o", str(run), "--device", "cpu", *overrides]


def together(nursery, task, run, *overrides, **options):
    """Run ``train`` in two processes, as srun does; their exit codes. What they say goes to ``<run>.err``."""
    run.with_suffix(".err").unlink(missing_ok=True)
    home = os.environ["ANYMC3D_HOME"]
    return nursery.run(words(task, run, *overrides), home, run.with_suffix(".err"), processes=2, **options)


def launched(program, task, run, *options):
    """``train --launch`` on its way; what it says goes to ``<run>.err``."""
    with run.with_suffix(".err").open("a") as output:
        return subprocess.Popen(
            [sys.executable, *program, *words(task, run, EPOCHS), *options],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=output,
            stderr=output,
        )


def without_torchrun(words, output):
    """Python with these words in two processes, told of each other by the environment alone."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    return [
        subprocess.Popen(
            [sys.executable, *words], env=os.environ | group | {"RANK": rank}, stdout=output, stderr=output, text=True
        )
        for rank in "01"
    ]


def said(run):
    return run.with_suffix(".err").read_text()


@pytest.fixture(scope="module")
def pair(journey, nursery, tmp_path_factory):
    """A run of two processes from start to end."""
    run = tmp_path_factory.mktemp("processes") / "pair"
    assert together(nursery, journey.task, run, EPOCHS) == [0, 0], said(run)
    return run


def test_one_process_is_a_group_of_its_own():
    alone = Processes()
    assert alone.together(lambda: 3) == alone.on_first(lambda: 3) == 3
    assert alone.gather("x") == ["x"]

    def fail():
        raise UsageError("no")

    for call in (alone.together, alone.on_first):
        with pytest.raises(UsageError, match=r"^no$"):
            call(fail)


def test_two_processes_train_as_one_with_twice_the_batch(journey, pair, tmp_path):
    from anymc3d.settings.task_file import read_task
    from anymc3d.train.fit import fit

    fit(read_task(journey.task, [EPOCHS, "train.batch_size=4"]), tmp_path / "one", device="cpu", quiet=True)
    ours, theirs = (read_table(run / "log.csv") for run in (pair, tmp_path / "one"))
    assert len(ours) == len(theirs) == 3
    assert said(pair).count("validation AUROC block: ") == 1
    for a, b in zip(ours, theirs, strict=True):
        for column in ("train_loss", "val_loss", "lr_factor"):
            assert float(a[column]) == pytest.approx(float(b[column]), rel=1e-3), column
    cards = [load_plugin(run / "plugin.safetensors").card for run in (pair, tmp_path / "one")]
    assert cards[0].split == cards[1].split
    assert [point["n"] for point in cards[0].operating_points] == [point["n"] for point in cards[1].operating_points]
    predicted = [read_table(run / "predictions.val.csv") for run in (pair, tmp_path / "one")]
    assert [row["case"] for row in predicted[0]] == [row["case"] for row in predicted[1]]
    for a, b in zip(*predicted, strict=True):
        assert float(a["logit.block"]) == pytest.approx(float(b["logit.block"]), abs=1e-2)


def test_two_processes_start_from_one_frozen_solution(journey, nursery, tmp_path):
    from anymc3d.settings.task_file import read_task
    from anymc3d.train.fit import fit

    frozen = ["train.start=frozen", "train.epochs=2", "train.sampling=stratified"]
    assert together(nursery, journey.task, tmp_path / "pair", *frozen) == [0, 0], said(tmp_path / "pair")
    fit(read_task(journey.task, [*frozen, "train.batch_size=4"]), tmp_path / "one", device="cpu", quiet=True)
    ours, theirs = (read_table(tmp_path / name / "log.csv") for name in ("pair", "one"))
    assert [row["epoch"] for row in ours] == ["0", "1", "2"]
    for a, b in zip(ours, theirs, strict=True):
        assert a["best_epoch"] == b["best_epoch"]
        assert float(a["val_loss"]) == pytest.approx(float(b["val_loss"]), rel=1e-3)
    cards = [load_plugin(tmp_path / name / "plugin.safetensors").card for name in ("pair", "one")]
    assert cards[0].training["frozen_start"] == cards[1].training["frozen_start"]


def test_C3_stopped_together_they_resume_to_the_same_bits(journey, nursery, pair, tmp_path):
    """First by ``--launch``; then as Slurm's srun starts them, where each exits 75 itself; then on two nodes, of which
    each launcher sees one process."""
    run, moment = tmp_path / "run", ("call", "anymc3d.train.loop:validate", 1)
    assert launched([LAUNCHED], journey.task, run, "--launch=2").wait() == 75, said(run)
    assert "all processes have stopped; the same command resumes" in said(run)
    stop = {"moment": moment, "sent": signal.SIGTERM}
    assert together(nursery, journey.task, run, EPOCHS, **stop) == [75, 75], said(run)
    assert not (run / "plugin.safetensors").exists()
    assert len(read_table(run / "log.csv")) == 2
    place = f"--rendezvous=127.0.0.1:{_free_port()}"
    nodes = [launched(ANYMC3D, journey.task, run, "--launch=1", "--nodes=2", f"--node-rank={k}", place) for k in (0, 1)]
    assert [node.wait() for node in nodes] == [0, 0], said(run)
    for name in ("plugin.safetensors", "predictions.val.csv", "metrics.csv"):
        assert (run / name).read_bytes() == (pair / name).read_bytes(), name


@pytest.mark.parametrize(
    ("codes", "error", "code", "said"),
    [
        ((75, 75), InterruptedRunError, 75, "all processes have stopped"),
        ((75, -9), InterruptedRunError, 75, "process 3 of 4 was killed by signal 9"),
        ((75, 2), LaunchedError, 2, "1 of 2 processes"),
    ],
)
def test_a_launch_ends_as_its_processes_do(codes, error, code, said):
    with pytest.raises(error, match=said) as caught:
        _judge(codes, Launch(processes=2, nodes=2, node_rank=1, rendezvous="node0:29500"))
    assert caught.value.exit_code == code


def test_the_others_end_when_one_process_is_lost(monkeypatch):
    """One that waits for a lost one in vain is ended after the grace, and does not hide how the other ended."""
    monkeypatch.setattr("anymc3d.train.launch.GRACE_SECONDS", 0.3)
    monkeypatch.setattr("anymc3d.train.launch.PROGRAM", ("sh", "-c"))
    with pytest.raises(LaunchedError) as caught:
        run_launched(Launch(processes=2), ["if [ $RANK = 1 ]; then exit 7; else exec sleep 60; fi"])
    assert caught.value.exit_code == 7


SUMMING_AND_LOSING = """
import os, signal, torch
from torch import nn
from anymc3d.errors import InterruptedRunError
from anymc3d.train.processes import join, leave
processes = join(torch.device("cpu"))
both, one, none = (nn.Parameter(torch.ones(2)) for _ in range(3))
both.grad = torch.full((2,), 1.0 + processes.rank)
one.grad = torch.full((2,), 5.0) if processes.rank else None
processes.sum_gradients([both, one, none])
print(both.grad.tolist(), one.grad.tolist(), none.grad, flush=True)
if processes.rank == 1:
    os.kill(os.getpid(), signal.SIGKILL)
try:
    processes.gather(2)
except InterruptedRunError as error:
    print("stopped:", error, flush=True)
leave()
"""


@pytest.fixture(scope="module")
def summed_and_lost():
    """(lines printed, exit code) of two processes that add up gradients, after which the second is killed."""
    processes = without_torchrun(["-c", SUMMING_AND_LOSING], subprocess.PIPE)
    return [(process.communicate()[0].splitlines(), process.returncode) for process in processes]


def test_a_lost_process_stops_the_others(summed_and_lost):
    (first, _), (second, code) = summed_and_lost
    assert (len(second), code) == (1, -signal.SIGKILL)
    assert first[1].startswith("stopped: another process of this run was lost (")


def test_a_parameter_without_a_gradient_anywhere_keeps_none_so_that_the_optimiser_leaves_it_alone(summed_and_lost):
    """In one process it would be skipped; with zeros AdamW would let it decay."""
    assert [lines[0] for lines, _ in summed_and_lost] == ["[3.0, 3.0] [5.0, 5.0] None"] * 2


@pytest.mark.parametrize(
    "options",
    [
        ["--launch=0"],
        ["--launch=2", "--nodes=2", "--node-rank=2", "--rendezvous=a:1"],
        ["--launch=2", "--nodes=2", "--node-rank=0"],
        ["--launch=2", "--nodes=2", "--node-rank=0", "--rendezvous=nowhere"],
        ["--launch=2", "--nodes=2", "--rendezvous=a:1"],
        ["--nodes=2"],
        ["--launch=2", "--node-rank=0"],
        ["--launch=2", "--quick"],
    ],
)
def test_a_launch_that_cannot_be_is_wrong_use(options, capsys):
    assert main(words("task.yaml", "run", *options)) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_what_is_started_does_not_launch_again():
    given = ("train", "t.yaml", "--launch", "2", "-o", "run", "--nodes=1", "--device", "cpu", "--node-rank", "0")
    assert without_launch(given) == ["train", "t.yaml", "-o", "run", "--device", "cpu"]


THREADS_OF_THE_GROUP = """
import torch
from pathlib import Path
from anymc3d.train.processes import join, leave

def threads():
    return sum("gloo" in (thread / "comm").read_text() for thread in Path("/proc/self/task").iterdir())

processes = join(torch.device("cpu"))
torch.optim.AdamW([torch.nn.Parameter(torch.zeros(2))])
processes.gather(threads())
print(threads() > 0, end=" ")
leave()
print(threads())
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted as Linux shows them")
def test_C3_no_thread_of_the_group_outlives_it():
    """One that did would meet a Python that is gone, and abort a process whose work is done."""
    processes = without_torchrun(["-c", THREADS_OF_THE_GROUP], subprocess.PIPE)
    assert [process.communicate()[0] for process in processes] == ["True 0\n"] * 2


def test_two_processes_cross_validate_together(journey, nursery, tmp_path):
    run = tmp_path / "run"
    assert together(nursery, journey.task, run, "--folds", "2", "train.epochs=1") == [0, 0], said(run)
    rows = read_table(run / "oof.csv")
    assert [row["case"] for row in rows] == [f"case{index:02d}" for index in range(20)]
    assert {row["fold"] for row in rows} == {"0", "1"}
    assert said(run).count("out-of-fold AUROC block: ") == 1


def test_C13_what_only_the_first_process_finds_stops_all_of_them(journey, nursery, pair):
    assert together(nursery, journey.task, pair, "train.epochs=9") == [2, 2], "one alone would wait for hours"
    assert "settings.train.epochs was 3, now 9" in said(pair)


def test_every_unreadable_scan_is_named_whichever_process_met_it(journey, nursery, tmp_path):
    import shutil

    shutil.copytree(journey.data / "scans", tmp_path / "scans")
    bad = [f"case{index:02d}" for index in range(8)]
    for name in bad:
        (tmp_path / "scans" / f"{name}.nii.gz").write_bytes(b"not a scan")
    shutil.copy(journey.data / "manifest.csv", tmp_path / "manifest.csv")
    (tmp_path / "task.yaml").write_text(journey.task.read_text())
    ended = together(nursery, tmp_path / "task.yaml", tmp_path / "run", "data.fractions=[0.6,0.4,0.0]")
    assert ended == [2, 2]
    assert [name for name in bad if f"'{name}'" in said(tmp_path / "run")] == bad
