"""The benchmark file: every fault at once, before anything runs."""

from __future__ import annotations

import pytest

from anymc3d.benchmark.plan import read_plan
from anymc3d.cli.main import main
from anymc3d.errors import ProblemsError
from tiny_scans import TASK, write_scans

GOOD = """\
format: 1
name: tiny
tasks: {block: task.yaml}
reference: query
methods:
  query:
  average: {fusion: mean, train.epochs: 3}
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "task.yaml").write_text(TASK)
    return tmp_path


def problems(folder, text, *overrides):
    (folder / "bench.yaml").write_text(text)
    with pytest.raises(ProblemsError) as caught:
        read_plan(folder / "bench.yaml", overrides)
    return caught.value.problems


def plan_of(folder, text, *overrides):
    (folder / "bench.yaml").write_text(text)
    return read_plan(folder / "bench.yaml", overrides)


def test_a_method_is_the_task_file_with_its_overrides(folder):
    plan = plan_of(folder, GOOD)
    (query,), (average,) = plan.trials["block", "query"], plan.trials["block", "average"]
    assert (query.task.fusion, query.task.train.epochs) == ("query", 2)
    assert (average.task.fusion, average.task.train.epochs) == ("mean", 3)


def test_a_methods_own_setting_wins_over_the_command_line_and_that_over_the_file(folder):
    plan = plan_of(folder, GOOD + "settings: {train.epochs: 7, train.batch_size: 4}\n", "train.epochs=9")
    (query,), (average,) = plan.trials["block", "query"], plan.trials["block", "average"]
    assert (query.task.train.epochs, query.task.train.batch_size) == (9, 4)
    assert average.task.train.epochs == 3


def test_a_path_in_the_file_is_relative_to_the_file(folder, monkeypatch):
    monkeypatch.chdir("/")
    plan = plan_of(folder, GOOD + "settings: {backbone: ./weights}\n")
    assert plan.first("block").backbone.name == str(folder / "weights")


def test_a_path_within_a_section_is_relative_to_the_file_too(folder, monkeypatch):
    monkeypatch.chdir("/")
    plan = plan_of(folder, GOOD + "settings: {backbone: {name: ./weights}}\n")
    assert plan.first("block").backbone.name == str(folder / "weights")


def test_a_seed_beside_seeds_is_refused_wherever_it_stands(folder):
    assert problems(folder, GOOD, "train.seed=3") == (
        "train.seed=3: train.seed comes from seeds; set those in the file",
    )
    inside = GOOD.replace("query:\n  average", "query: {train: {seed: 3}}\n  average")
    assert problems(folder, inside) == ("methods.query: train.seed comes from seeds",)


def test_all_faults_come_in_one_report_with_the_nearest_name(folder):
    text = """\
name: tiny
tasks: {block: task.yaml, other: none.yaml}
reference: query
methods:
  query:
  a: {fusion: meen}
  b: {train.epoch: 3}
  c: {method: resnet18-3D}
"""
    found = "\n".join(problems(folder, text))
    assert "'meen', did you mean 'mean'?" in found
    assert "train.epoch: unknown key, did you mean 'epochs'?" in found
    assert "did you mean 'resnet18-3d'?" in found
    assert "tasks.other" in found
    assert "no such file" in found


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        ("reference: querry", "reference: no method 'querry', did you mean 'query'?"),
        ("train_cases: [0]", "train_cases: expected a number of cases"),
        ("train_cases: 1.5", "train_cases: expected a number of cases"),
        ("train_cases: true", "train_cases: expected a number of cases"),
        ("test_cases: some", "test_cases: expected a number of cases"),
        ("seeds: []", "seeds: expected at least one"),
        ("seeds: [1, 1]", "seeds: one appears twice"),
        ("seed: [1]", "seed: unknown key, did you mean 'seeds'?"),
        ("search: {quer: {train.head_lr: [1, 2]}}", "search.quer: no such method, did you mean 'query'?"),
        ("search: {query: {train.head_lr: [1, 1]}}", "expected different values"),
        ("search: {query: {train.seed: [1, 2]}}", "train.seed comes from seeds"),
        ("settings: {train.seed: 3}", "train.seed comes from seeds"),
        ("severity: {blok: grade}", "severity.blok: no such task, did you mean 'block'?"),
        ("format: 2", "format: this version reads 1, got 2"),
    ],
)
def test_a_fault_of_the_file_is_named(folder, extra, told):
    key = extra.partition(":")[0]
    kept = "\n".join(line for line in GOOD.splitlines() if not line.startswith(f"{key}:"))
    assert told in "\n".join(problems(folder, f"{kept}\n{extra}\n"))


@pytest.mark.parametrize("key", ["labels.kind: multilabel", "data.manifest: other.csv", "name: x"])
def test_a_method_cannot_change_the_question(folder, key):
    (found,) = problems(folder, GOOD + f"  odd: {{{key}}}\n")
    assert "must be the same for all methods" in found


def test_methods_that_are_searched_are_searched_equally_long(folder):
    text = GOOD + "search: {query: {train.head_lr: [1e-3, 1e-2]}, average: {train.head_lr: [1e-3, 1e-2, 1e-1]}}\n"
    (found,) = problems(folder, text)
    assert found == "search: an equal budget for all, but the numbers of trials are query 2, average 3"


def test_a_grid_is_every_combination_and_leaves_a_methods_own_setting_alone(folder):
    grid = "search: {all: {train.head_lr: [1e-3, 1e-2], train.batch_size: [1, 2]}}\n"
    plan = plan_of(folder, GOOD + grid)
    choices = [trial.choice for trial in plan.trials["block", "query"]]
    assert [(c["train.head_lr"], c["train.batch_size"]) for c in choices] == [
        (0.001, 1),
        (0.001, 2),
        (0.01, 1),
        (0.01, 2),
    ]
    own = GOOD.replace("train.epochs: 3", "train.head_lr: 0.5")
    plan = plan_of(folder, own + "search: {all: {train.head_lr: [1e-3, 1e-2]}}\n")
    assert [trial.task.train.head_lr for trial in plan.trials["block", "average"]] == [0.5]


def test_wrong_use_is_one_message_and_exit_2(folder, capsys):
    assert main(["benchmark", str(folder / "none.yaml"), "-o", str(folder / "out")]) == 2
    assert "no such file" in capsys.readouterr().err
    (folder / "bench.yaml").write_text(GOOD)
    assert main(["benchmark", str(folder / "bench.yaml")]) == 2
    assert "-o OUT" in capsys.readouterr().err
    assert main(["benchmark", str(folder / "bench.yaml"), "-o", "x", "--backend", "slrm"]) == 2
    assert "did you mean 'slurm'" in capsys.readouterr().err
    assert not (folder / "out").exists()


def test_check_names_the_jobs_and_writes_nothing(tmp_path, capsys):
    write_scans(tmp_path)
    (tmp_path / "task.yaml").write_text(TASK)
    (tmp_path / "bench.yaml").write_text(GOOD + "train_cases: [4, 0.8, all]\nseeds: [0, 3]\n")
    words = ["benchmark", str(tmp_path / "bench.yaml"), "-o", str(tmp_path / "out"), "--check"]
    assert main(words) == 0
    told = capsys.readouterr().out
    assert "block_average_n8_seed3: waiting" in told
    assert "12 jobs" in told
    assert not (tmp_path / "out").exists()


def test_all_methods_get_the_same_cases(tmp_path):
    from anymc3d.benchmark.prepare import prepare_jobs

    write_scans(tmp_path)
    (tmp_path / "task.yaml").write_text(TASK)
    plan = plan_of(tmp_path, GOOD + "train_cases: [4, all]\nseeds: [0, 1]\ntest_cases: 2\n")
    _, jobs = prepare_jobs(plan, tmp_path / "out")
    by_size = {}
    for job in jobs:
        by_size.setdefault(job.train_cases, set()).add((job.manifest, job.cases_hash))
    assert {size: len(found) for size, found in by_size.items()} == {4: 1, 10: 1}
