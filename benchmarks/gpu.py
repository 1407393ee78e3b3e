"""Everything that only a graphics card can say, in ten minutes: one command, one JSON, one table.

    python benchmarks/gpu.py -o gpu_results

Each part of ``gpu_parts.py`` runs in a process of its own, with its own time limit and what is left of the whole one.
Whatever fails or runs out of time is a row with its reason, and the results are written after every part. What was
measured before a part ended stays. ``--miniature`` is the same with tiny networks, on a processor too: it shows that
the script works, and nothing else. See gpu.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from gpu_parts import FULL, MINIATURE, PARTS, Bench

from anymc3d.cost.device import choose_device
from anymc3d.cost.memory import device_facts
from anymc3d.files import atomic
from anymc3d.version import __version__

WHOLE_S = 600.0
LEAST_S = 5.0
"""Left of the whole, below which no part is begun."""
JSON_NAME, TABLE_NAME = "gpu.json", "gpu_table.md"

Row = dict[str, Any]
RunPart = Callable[[str, float], tuple[list[Row], str]]
"""Name of the part and its seconds -> its rows, and why it did not end well ('' if it did)."""


def in_process_of_its_own(command: Sequence[str], rows_path: Path, limit_s: float) -> tuple[list[Row], str]:
    """Run ``command``, which writes its rows into a file line by line; it and all it started end with the limit."""
    with tempfile.TemporaryFile() as said:
        child = subprocess.Popen(command, stdout=said, stderr=said, start_new_session=True)
        try:
            code: int | None = child.wait(timeout=limit_s)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            end_group(child)
        said.seek(0)
        lines = said.read().decode(errors="replace").strip().splitlines()
    lines_of_rows = rows_path.read_text(encoding="utf-8").splitlines() if rows_path.exists() else []
    rows = [json.loads(line) for line in lines_of_rows if line.endswith("}")]
    if code is None:
        return rows, f"its time limit of {limit_s:.0f} s ended"
    return rows, "" if code == 0 else f"ended with code {code}: {lines[-1][:300] if lines else 'without a word'}"


def end_group(child: subprocess.Popen[bytes]) -> None:
    """The process and whatever it left running: compilers, readers of scans."""
    with contextlib.suppress(ProcessLookupError):  # where all have ended by themselves
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def run_all(names: Sequence[str], run_part: RunPart, folder: Path, machine: Row, whole_s: float = WHOLE_S) -> Row:
    """Run the parts in order and write the results after each; returns what the JSON holds."""
    began = time.monotonic()
    found: Row = {"format": 1, "machine": machine, "limit_s": whole_s, "parts": {}, "rows": []}
    for name in names:
        limit = min(PARTS[name].limit_s, whole_s - (time.monotonic() - began))
        started = time.monotonic()
        rows, trouble = ([], "the time of the whole is spent") if limit < LEAST_S else run_part(name, limit)
        if trouble:
            rows = [*rows, {"what": "the rest of this part", "value": None, "unit": "", "reason": trouble}]
        found["parts"][name] = {"seconds": round(time.monotonic() - started, 1), "trouble": trouble}
        found["rows"] += [{"part": name, **row} for row in rows]
        found["seconds"] = round(time.monotonic() - began, 1)
        write(folder, found)
        print(f"{name}: {found['parts'][name]['seconds']} s{f', {trouble}' if trouble else ''}", flush=True)
    return found


def write(folder: Path, found: Row) -> None:
    atomic.write_json(folder / JSON_NAME, found)
    atomic.write_bytes(folder / TABLE_NAME, table(found).encode())


def table(found: Row) -> str:
    machine = ", ".join(f"{name} {value}" for name, value in found["machine"].items())
    lines = ["# One graphics card", "", f"{machine}; {found['seconds']:.0f} s in all.", ""]
    for name, facts in found["parts"].items():
        lines += [f"## {name}: {PARTS[name].title}", "", f"{facts['seconds']} s.", ""]
        lines += ["| what | value | unit | not measured, because |", "|---|---|---|---|"]
        for row in found["rows"]:
            if row["part"] == name:
                value = "N/A" if row["value"] is None else f"{row['value']:.4g}"
                lines.append(f"| {row['what']} | {value} | {row['unit']} | {row['reason'].replace('|', '/')} |")
        lines.append("")
    return "\n".join(lines)


def facts_of(device: torch.device, *, miniature: bool) -> Row:
    facts: Row = {"device": device_facts(device)["device"], "torch": torch.__version__, "anymc3d": __version__}
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        facts |= {"GiB": round(total / 2**30), "free GiB": round(free / 2**30), "CUDA": torch.version.cuda}
        facts["capability"] = ".".join(map(str, torch.cuda.get_device_capability(device)))
    facts |= {"Python": platform.python_version(), "processors": len(os.sched_getaffinity(0))}
    return facts | ({"miniature": "these numbers say nothing"} if miniature else {})


def write_part(name: str, rows_path: Path, bench: Bench) -> None:
    """What the process of one part does."""
    with rows_path.open("a", encoding="utf-8") as file:
        for row in PARTS[name].run(bench):
            file.write(json.dumps(row) + "\n")
            file.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--out", type=Path, default=Path("gpu_results"), help="default: ./gpu_results")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.add_argument("--minutes", type=float, default=WHOLE_S / 60, help="of everything (default: 10)")
    parser.add_argument("--only", nargs="*", choices=list(PARTS), default=list(PARTS), help="these parts alone")
    parser.add_argument("--miniature", action="store_true", help="tiny networks: does the script work?")
    parser.add_argument("--child", nargs=2, metavar=("PART", "FILE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    if device.type == "cpu" and not arguments.miniature:
        raise SystemExit("no CUDA device can be used here; --miniature runs everything in tiny form on a processor")
    if arguments.child:
        name, path = arguments.child
        write_part(name, Path(path), Bench(MINIATURE if arguments.miniature else FULL, device))
        return
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:

        def run_part(name: str, limit_s: float) -> tuple[list[Row], str]:
            rows = Path(scratch) / f"{name}.jsonl"
            command = [sys.executable, __file__, "--device", str(device), "--child", name, str(rows)]
            command += ["--miniature"] if arguments.miniature else []
            return in_process_of_its_own(command, rows, limit_s)

        machine = facts_of(device, miniature=arguments.miniature)
        run_all(arguments.only, run_part, arguments.out, machine, 60 * arguments.minutes)
    print(arguments.out / TABLE_NAME)


if __name__ == "__main__":
    main()
