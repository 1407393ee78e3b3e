"""Two methods, one task, two seeds: from the file to the table, and again."""

from __future__ import annotations

import csv
import shutil

import pytest

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
    assert main(["benchmark", str(folder / "bench.yaml"), "-o", str(folder / "out"), "--quiet"]) == 0
    return folder


def rows_of(folder):
    with (folder / "out" / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_method_and_seed_has_its_auroc(finished):
    own = [row for row in rows_of(finished) if row["metric"] == "auroc" and row["seed"] in ("0", "1")]
    assert sorted((row["method"], row["seed"]) for row in own) == [
        (method, seed) for method in ("frozen", "query") for seed in ("0", "1")
    ]
    assert {row["split"] for row in own} == {"test"}
    assert {row["n"] for row in own} == {"4"}


def test_the_same_command_again_runs_nothing(finished, capsys):
    before = {path: path.stat().st_mtime_ns for path in (finished / "out" / "jobs").rglob("*") if path.is_file()}
    table = (finished / "out" / "results.csv").read_bytes()
    assert main(["benchmark", str(finished / "bench.yaml"), "-o", str(finished / "out")]) == 0
    assert "4 done before" in capsys.readouterr().out
    after = {path: path.stat().st_mtime_ns for path in (finished / "out" / "jobs").rglob("*") if path.is_file()}
    assert after == before
    assert (finished / "out" / "results.csv").read_bytes() == table


def test_a_job_killed_before_its_last_file_gives_the_same_table(finished, tmp_path):
    """What a kill leaves: the job's result is not written, and the last case of the journal is torn."""
    for name in ("scans", "manifest.csv", "task.yaml", "bench.yaml", "out"):
        source = finished / name
        shutil.copytree(source, tmp_path / name) if source.is_dir() else shutil.copy(source, tmp_path / name)
    job = tmp_path / "out" / "jobs" / "block_query_n10_seed1"
    plugin = (job / "run" / "plugin.safetensors").read_bytes()
    (job / "result.json").unlink()
    journal = job / "predictions" / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-20])
    assert main(["benchmark", str(tmp_path / "bench.yaml"), "-o", str(tmp_path / "out"), "--quiet"]) == 0
    assert (job / "run" / "plugin.safetensors").read_bytes() == plugin
    assert rows_of(tmp_path) == rows_of(finished)


def test_the_main_table_names_every_method(finished, capsys):
    assert main(["benchmark", "table", str(finished / "out")]) == 0
    text = capsys.readouterr().out
    assert "| query |" in text
    assert "| frozen |" in text
    assert "10 training cases" in text
