"""``benchmarks/gpu.py`` in miniature on a processor: every part gives its rows, and nothing ends the whole."""

import importlib
import json
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def scripts():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    yield importlib.import_module("gpu"), importlib.import_module("gpu_parts")
    sys.path.remove(str(ROOT / "benchmarks"))


def test_every_part_gives_numbers_or_reasons(scripts, tmp_path, monkeypatch):
    """Counting operations and compiling are left out: importing the compiler takes longer than all the rest."""
    gpu, parts = scripts
    monkeypatch.setattr(parts, "operations", lambda program: 1)
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    bench = parts.Bench(parts.MINIATURE, torch.device("cpu"))
    names = [name for name in parts.PARTS if not name.endswith(("-B", "-L"))]

    def in_this_process(name, limit_s):
        assert 0 < limit_s <= parts.PARTS[name].limit_s
        gpu.write_part(name, tmp_path / f"{name}.jsonl", bench)
        return [json.loads(line) for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()], ""

    found = gpu.run_all(names, in_this_process, tmp_path, {"device": "a processor"})
    assert json.loads((tmp_path / gpu.JSON_NAME).read_text()) == found
    assert {row["part"] for row in found["rows"]} == set(names)
    assert all((row["value"] is None) == bool(row["reason"]) for row in found["rows"])
    missing = {row["what"]: row["reason"] for row in found["rows"] if row["value"] is None}
    graphs = [reason for what, reason in missing.items() if "CUDA graph" in what]
    assert len(graphs) == 4 and set(graphs) == {"CUDA graphs need a CUDA device"}
    assert "NCCL refuses" in missing["training over several cards"]
    assert all("CUDA graph" in what or "cards" in what or "workers 2" in what for what in missing)
    of = {row["what"]: row["value"] for row in found["rows"]}
    assert of["largest difference from it, fp32 here"] == 0 < of["largest difference from it, bf16 here"] < 0.05
    page = (tmp_path / gpu.TABLE_NAME).read_text()
    assert all(f"## {name}: {parts.PARTS[name].title}" in page for name in names) and "| N/A |" in page


def test_a_part_that_hangs_or_dies_is_a_row_and_the_rest_goes_on(scripts, tmp_path):
    gpu, parts = scripts
    assert sum(part.limit_s for part in parts.PARTS.values()) < 1.5 * gpu.WHOLE_S  # limits are bounds, not estimates
    row = json.dumps(parts.row("so far", 1.0, "ms"))
    ends = {"agreement": "sleep 60", "speed-S": "echo no such kernel; exit 1", "speed-B": "true"}

    def run_part(name, limit_s):
        rows = tmp_path / f"{name}.jsonl"
        rows.write_text(f'{row}\n{{"what": "half a li')
        return gpu.in_process_of_its_own(["sh", "-c", ends[name]], rows, 0.3 if name == "agreement" else limit_s)

    found = gpu.run_all(list(ends), run_part, tmp_path, {})
    assert [row["what"] for row in found["rows"]] == ["so far", "the rest of this part"] * 2 + ["so far"]
    reasons = [row["reason"] for row in found["rows"] if row["reason"]]
    assert reasons == ["its time limit of 0 s ended", "ended with code 1: no such kernel"]
    spent = gpu.run_all(["speed-S"], run_part, tmp_path, {}, whole_s=0.0)
    assert spent["rows"][0]["reason"] == "the time of the whole is spent"


def test_what_fails_inside_a_part_is_a_row_too(scripts):
    _, parts = scripts
    bench = parts.Bench(parts.MINIATURE, torch.device("cpu"))

    def no_memory():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 90 GiB\nmore")

    failed = parts.tried(bench, "a step", "ms", no_memory)
    assert failed["value"] is None and failed["reason"].endswith("CUDA out of memory. Tried to allocate 90 GiB")
