"""Number formats and chunks on kinds of processors: what ``precision: auto`` should take, and does.

One processor stands for older ones: torch and oneDNN are made to leave instructions out (ATEN_CPU_CAPABILITY,
ONEDNN_MAX_CPU_ISA), each in a process of its own. CPU time of one thread, so other work on the machine counts little.
Memory bandwidth and clock are those of the one processor, so only the ratios within a row say something.

    python benchmarks/processors.py

writes ``benchmarks/processors.md`` and keeps the remarks at its end, which were written by hand.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from speed import CHUNK, optimizer_of, predict, step
from speed_contestants import Work, our_backbone, our_classifier, ours

from anymc3d.cost.device import DTYPES, number_format
from anymc3d.cost.memory import device_facts

KINDS = {
    "all it has": {},
    "AVX2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
    "SSE alone": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"},
}
WORK, ROUNDS, CHUNKS = Work(98, 12, 1), 3, (1, 4, CHUNK)
PAGE = Path(__file__).with_suffix(".md")
REMARKS = "## Remarks"


def measured() -> dict[str, Any]:
    """Milliseconds a slice on this processor as it is limited: by number format, of an answer and of a step."""
    torch.set_num_threads(1)
    device = torch.device("cpu")
    backbone = our_backbone(None, device)
    slices = WORK.slices(device)
    found: dict[str, Any] = {"auto": number_format("auto", device)}
    for name, chunk in [*((name, CHUNK) for name in DTYPES), *(("fp32", chunk) for chunk in CHUNKS[:-1])]:
        contestant = ours(name, backbone, our_classifier(backbone), DTYPES[name], chunk)
        optimizer = optimizer_of(contestant)
        answers, steps = [], []
        for number in range(ROUNDS + 1):
            begun = time.process_time()
            predict(contestant, slices, WORK)
            between = time.process_time()
            step(contestant, optimizer, slices, WORK)
            if number:  # the first one makes ready
                answers.append(between - begun)
                steps.append(time.process_time() - between)
        found[f"{name} {chunk}"] = [1e3 * statistics.median(times) / WORK.total for times in (answers, steps)]
    return found


def table(results: dict[str, dict[str, Any]]) -> list[str]:
    whole, half, small, single = f"fp32 {CHUNK}", f"bf16 {CHUNK}", f"fp32 {CHUNKS[1]}", f"fp32 {CHUNKS[0]}"
    lines = [
        f"| instructions | `auto` | {whole} slices a call | {half} a call | bf16 against fp32 | {small} | {single} |",
        "|---|---|---|---|---|---|---|",
    ]

    def pair(times: list[float], digits: int = 1) -> str:
        return f"{times[0]:.{digits}f} / {times[1]:.{digits}f}"

    for kind, found in results.items():
        ratio = [a / b for a, b in zip(found[half], found[whole], strict=True)]
        cells = [kind, str(found["auto"]), pair(found[whole]), pair(found[half]), pair(ratio, 2)]
        lines.append(f"| {' | '.join([*cells, pair(found[small]), pair(found[single])])} |")
    return lines


def main() -> None:
    if sys.argv[1:] == ["--child"]:
        print(json.dumps(measured()))
        return
    results = {}
    for kind, limits in KINDS.items():
        done = subprocess.run(
            [sys.executable, __file__, "--child"],
            env={**os.environ, **limits, "OMP_NUM_THREADS": "1"},
            check=True,
            capture_output=True,
            text=True,
        )
        results[kind] = json.loads(done.stdout.splitlines()[-1])
        print(kind, results[kind], flush=True)
    before = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    remarks = REMARKS + before.partition(REMARKS)[2] if REMARKS in before else f"{REMARKS}\n"
    head = [
        "# Number formats on kinds of processors",
        "",
        f"{device_facts(torch.device('cpu'))['device']}, torch {torch.__version__}, "
        f"Python {platform.python_version()}. DINOv2 ViT-S/14 with LoRA, {WORK.num_slices} slices of {WORK.size} x "
        f"{WORK.size}: milliseconds of CPU time of "
        f"one thread a slice, of an answer / of a training step; medians of {ROUNDS} rounds. The second and third row "
        "are the same processor with instructions left out (ATEN_CPU_CAPABILITY, ONEDNN_MAX_CPU_ISA); they stand in "
        "for older ones.",
        "",
        "    python benchmarks/processors.py",
        "",
    ]
    PAGE.write_text("\n".join([*head, *table(results), "", remarks]).rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
