"""Two methods, one task, two seeds: from the file to the table, and again."""

from __future__ import annotations

import csv
import hashlib
import shutil

import pytest

from anymc3d.benchmark import jobs as jobs_module
from anymc3d.cli.main import main
from tiny_scans import TASK, write_scans

BENCH = """\
format: 1
name: tiny
tasks: {block: task.yaml}
reference: query
methods:
  query:
  frozen: {method: frozen, train.head_lr: 0.05}
seeds: [0, 1]
settings: {train.epochs: 1}
"""


@pytest.fixture(scope="session")
def finished(tmp_path_factory, home):
    """A folder with data, plan and the finished benchmark ``out``; tests that change it copy it."""
    folder = tmp_path_factory.mktemp("benchmark")
    write_scans(folder)
    (folder / "task.yaml").write_text(TASK)
    (folder / "bench.yaml").write_text(BENCH)
    assert run(folder) == 0
    return folder


def run(folder, *words):
    return main(["benchmark", str(folder / "bench.yaml"), "-o", str(folder / "out"), "--device", "cpu", *words])


def copied(source, folder, *names):
    for name in names:
        at = source / name
        shutil.copytree(at, folder / name) if at.is_dir() else shutil.copy(at, folder / name)
    return folder


def rows_of(folder):
    with (folder / "out" / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def without_cost(rows):
    cost = ("seconds", "bytes", "energy")
    return [{name: cell for name, cell in row.items() if not any(word in name for word in cost)} for row in rows]


def test_every_method_and_seed_has_its_auroc(finished):
    own = [row for row in rows_of(finished) if row["metric"] == "auroc" and row["seed"] in ("0", "1")]
    assert sorted((row["method"], row["seed"]) for row in own) == [
        (method, seed) for method in ("frozen", "query") for seed in ("0", "1")
    ]
    assert {row["split"] for row in own} == {"test"}
    assert {row["n"] for row in own} == {"4"}


def test_the_mean_over_seeds_is_the_mean_of_the_seeds(finished):
    rows = [row for row in rows_of(finished) if row["metric"] == "brier" and row["method"] == "query"]
    by_seed = {row["seed"]: float(row["value"]) for row in rows}
    assert by_seed["mean"] == pytest.approx((by_seed["0"] + by_seed["1"]) / 2)
    assert by_seed["sd"] == pytest.approx(abs(by_seed["0"] - by_seed["1"]) / 2**0.5)


def test_averaged_scores_are_the_mean_log_odds_of_the_seeds(finished):
    """The paired test over seeds is of these scores; checked against the prediction files."""
    logits = {}
    for seed in (0, 1):
        path = finished / "out" / "jobs" / f"block_query_n10_seed{seed}" / "predictions" / "predictions.csv"
        with path.open(newline="") as file:
            logits[seed] = {row["case"]: float(row["logit.block"]) for row in csv.DictReader(file)}
    mean = {case: (logits[0][case] + logits[1][case]) / 2 for case in logits[0]}
    with (finished / "out" / "data" / "block_n10.csv").open(newline="") as file:
        truth = {row["case"]: row["block"] for row in csv.DictReader(file)}
    positive = [value for case, value in mean.items() if truth[case] == "1"]
    negative = [value for case, value in mean.items() if truth[case] == "0"]
    pairs = [(p > n) + 0.5 * (p == n) for p in positive for n in negative]
    (row,) = [
        row
        for row in rows_of(finished)
        if (row["method"], row["seed"], row["metric"]) == ("query", "averaged", "auroc") and not row["reference"]
    ]
    assert float(row["value"]) == pytest.approx(sum(pairs) / len(pairs))


def test_the_same_command_again_runs_nothing(finished, capsys):
    before = {path: path.stat().st_mtime_ns for path in (finished / "out" / "jobs").rglob("*") if path.is_file()}
    table = (finished / "out" / "results.csv").read_bytes()
    assert run(finished) == 0
    assert "4 done before" in capsys.readouterr().out
    after = {path: path.stat().st_mtime_ns for path in (finished / "out" / "jobs").rglob("*") if path.is_file()}
    assert after == before
    assert (finished / "out" / "results.csv").read_bytes() == table


def test_a_killed_job_goes_on_with_its_next_case(finished, tmp_path):
    """What a kill leaves: no result yet, and the last line of the journal torn. Weights and other cases stay."""
    copied(finished, tmp_path, "scans", "manifest.csv", "task.yaml", "bench.yaml", "out")
    job = tmp_path / "out" / "jobs" / "block_query_n10_seed1"
    plugin = (job / "run" / "plugin.safetensors").read_bytes()
    (job / "result.json").unlink()
    journal = job / "predictions" / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:-1]) + lines[-1][:-20])
    assert run(tmp_path, "--quiet") == 0
    assert (job / "run" / "plugin.safetensors").read_bytes() == plugin
    assert journal.read_bytes().splitlines(keepends=True)[:-1] == lines[:-1]
    assert without_cost(rows_of(tmp_path)) == without_cost(rows_of(finished))


def test_a_stop_ends_with_75_and_the_table_has_what_was_done(finished, tmp_path, monkeypatch, capsys):
    copied(finished, tmp_path, "scans", "manifest.csv", "task.yaml", "bench.yaml", "out")
    for name in ("block_frozen_n10_seed0", "block_frozen_n10_seed1"):
        (tmp_path / "out" / "jobs" / name / "result.json").unlink()
    evaluate, seen = jobs_module._evaluate, []

    def stopped(job, chosen):
        if seen:
            raise KeyboardInterrupt
        seen.append(job.name)
        evaluate(job, chosen)

    with monkeypatch.context() as patch:
        patch.setattr(jobs_module, "_evaluate", stopped)
        assert run(tmp_path, "--quiet") == 75
    done = {(row["method"], row["seed"]) for row in rows_of(tmp_path) if row["metric"] == "brier"}
    assert {("query", "0"), ("query", "1"), ("frozen", "0")} <= done
    assert ("frozen", "1") not in done
    waiting = [(row["method"], row["seed"]) for row in rows_of(tmp_path) if row["metric"] == "waiting"]
    assert waiting == [("frozen", "1")]
    capsys.readouterr()
    main(["benchmark", "table", str(tmp_path / "out")])
    assert "| frozen |" in capsys.readouterr().out
    assert run(tmp_path, "--quiet") == 0
    assert without_cost(rows_of(tmp_path)) == without_cost(rows_of(finished))


def test_a_failed_job_has_its_row_and_the_others_go_on(finished, tmp_path, capsys):
    copied(finished, tmp_path, "scans", "manifest.csv", "task.yaml", "out")
    plan = BENCH.replace("  query:\n", "  query:\n  wild: {train.head_lr: 1.0e+30, train.lora_lr: 1.0e+30}\n")
    (tmp_path / "bench.yaml").write_text(plan.replace("seeds: [0, 1]", "seeds: [0]"))
    assert run(tmp_path) == 3
    said = capsys.readouterr()
    assert "failed: block_wild_n10_seed0:" in said.err
    (failed,) = [row for row in rows_of(tmp_path) if row["metric"] == "failed"]
    assert (failed["method"], failed["value"]) == ("wild", "")
    assert failed["reason"] in said.err
    assert {row["method"] for row in rows_of(tmp_path) if row["metric"] == "auroc"} == {"query", "frozen"}
    main(["benchmark", "table", str(tmp_path / "out")])
    table = capsys.readouterr().out
    assert "| wild | - |" in table
    assert failed["reason"] in table


def test_files_that_cannot_be_written_and_folders_of_other_benchmarks_are_one_line(finished, tmp_path, capsys):
    copied(finished, tmp_path, "scans", "manifest.csv", "task.yaml", "out")
    (tmp_path / "file").write_text("")
    for words in (["table"], ["figure", "--layout", "figure8"]):
        command = ["benchmark", words[0], str(tmp_path / "out"), *words[1:], "-o", str(tmp_path / "file" / "x.png")]
        assert main(command) == 2
        assert "cannot be written" in capsys.readouterr().err
    (tmp_path / "bench.yaml").write_text(BENCH.replace("name: ", "name: other-"))
    assert run(tmp_path, "--check") == 2
    assert "is the folder of benchmark" in capsys.readouterr().err


def test_another_setting_of_a_finished_method_is_refused(finished, tmp_path, capsys):
    copied(finished, tmp_path, "scans", "manifest.csv", "task.yaml", "out")
    (tmp_path / "bench.yaml").write_text(BENCH.replace("0.05", "0.04"))
    before = sorted(path for path in (tmp_path / "out").rglob("*"))
    assert run(tmp_path) == 2
    message = capsys.readouterr().err
    assert "block_frozen_n10_seed0" in message
    assert "head_lr was 0.05, now 0.04" in message
    assert sorted(path for path in (tmp_path / "out").rglob("*")) == before


SEARCH = """\
format: 1
name: search
tasks: {block: task.yaml}
reference: query
methods: {query: }
train_cases: 6
settings: {train.epochs: 1}
search: {all: {train.head_lr: [0.0001, 0.05]}}
"""


def test_labels_of_test_cases_choose_nothing(tmp_path, monkeypatch):
    """Trial, epoch and every byte of the plugins are the same when the labels of all test cases are turned round."""
    found = []
    for name in ("true", "turned"):
        folder = tmp_path / name
        write_scans(folder)
        splits = ["train"] * 10 + ["val"] * 6 + ["test"] * 4
        with (folder / "manifest.csv").open(newline="") as file:
            rows = [row | {"split": split} for row, split in zip(csv.DictReader(file), splits, strict=True)]
        for row in rows:
            if name == "turned" and row["split"] == "test":
                row["block"] = str(1 - int(row["block"]))
        with (folder / "manifest.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        (folder / "task.yaml").write_text(TASK)
        (folder / "bench.yaml").write_text(SEARCH)
        assert run(folder, "--quiet") == 0
        (job,) = (folder / "out" / "jobs").iterdir()
        plugins = sorted((job / "trials").glob("*/plugin.safetensors"))
        assert len(plugins) == 2
        result = jobs_module.read_json(job / "result.json")
        aurocs = [float(row["value"]) for row in rows_of(folder) if row["metric"] == "auroc"]
        found.append((result["chosen"], result["trials"], [hash_of(path) for path in plugins], aurocs))
    (first, second) = found
    assert first[:3] == second[:3]
    assert first[3][0] == pytest.approx(1 - second[3][0])  # the labels were read, then


def hash_of(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()
