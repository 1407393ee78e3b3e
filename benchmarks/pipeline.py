"""Reading ahead: cases a second of a cohort by the number of reading processes, and how busy it keeps a device.

    OMP_NUM_THREADS=1 python benchmarks/pipeline.py

The first table predicts made volumes with a random ViT-S/14 and an untrained plugin, which the times do not depend on;
numbers of processes take turns, medians of the rounds, start-up of the processes included. The second has a device
stand-in that takes a fixed time for every slice and readers that take a drawn time for every case, both asleep in it,
so that it says what the queue itself costs and nothing of this machine. Writes ``benchmarks/pipeline.md`` and keeps the
remarks at its end, which were written by hand.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from many_tasks import REMARKS, make_backbone, make_plugin

from anymc3d.data.case import Case
from anymc3d.data.prefetch.process import Answer
from anymc3d.data.prefetch.queue import MOST_BYTES, Ahead
from anymc3d.predict.cohort import predict_cohort
from anymc3d.predict.predictor import Predictor
from anymc3d.predict.study import study_case

SHAPE, PIXELS = (160, 160, 64), 56
WORKERS = (0, 1, 2)
SLICES, SECONDS_PER_SLICE, NUM_CASES = 12, 0.004, 80
SHARES = (0.5, 0.9, 1.5)
"""Of N times the device's time for a case: what reading one takes on average."""
REPORT_PATH = Path(__file__).with_suffix(".md")


def make_cases(folder: Path, count: int) -> list[Case]:
    """Noise in tissue, compressed: what reading costs is mostly the decoding."""
    rng, cases = np.random.default_rng(0), []
    for number in range(count):
        voxels = np.clip(rng.normal(0, 200, SHAPE), -1000, 1000).astype(np.int16)
        path = folder / f"case{number:03d}.nii.gz"
        nib.save(nib.Nifti1Image(voxels, np.diag([1.0, 1.0, 2.0, 1.0])), path)
        cases.append(study_case(path, None))
    return cases


def cohort(folder: Path, count: int, rounds: int) -> tuple[dict[int, list[float]], bool]:
    """Cases a second by number of processes, and whether all tables had the same bytes."""
    backbone = make_backbone(folder)
    plugin = make_plugin(folder, backbone, 3, 0, PIXELS)
    predictor = Predictor([plugin], backbone=str(folder / "vit.safetensors"), device="cpu")
    cases, found, tables = make_cases(folder, count), {workers: [] for workers in WORKERS}, set()
    predict_cohort(predictor, cases[:2], folder / "warm", quiet=True)
    for number in range(rounds):
        for workers in WORKERS:
            out = folder / f"out-{number}-{workers}"
            started = time.monotonic()
            predict_cohort(predictor, cases, out, workers=workers, quiet=True)
            found[workers].append(count / (time.monotonic() - started))
            tables.add((out / "predictions.csv").read_bytes())
    return found, len(tables) == 1


class SleepingReader:
    """Takes a drawn time for a case; its answer has the bytes of a small prepared case."""

    def __init__(self, seconds: np.ndarray) -> None:
        self._seconds = seconds

    def ask(
        self, name: str, arguments: Mapping[str, Any], *, limit_s: float | None, room: Callable[[int], object]
    ) -> Answer:
        """See :class:`anymc3d.data.prefetch.queue.JobReader`."""
        time.sleep(self._seconds[arguments["number"]])
        room(1 << 22)
        return Answer(None, num_bytes=1 << 22)

    def stop(self) -> None:
        """Nothing to end."""


def busy(workers: int, share: float) -> tuple[float, float]:
    """Share of the time in which the device works, from its first case to its last: with the queue, and one after the
    other."""
    of_case = SLICES * SECONDS_PER_SLICE
    drawn = np.random.default_rng(1).uniform(0.5, 1.5, NUM_CASES)
    seconds = drawn / drawn.mean() * of_case * workers * share
    jobs = [("read", {"number": number}) for number in range(NUM_CASES)]
    ahead = Ahead(jobs, [SleepingReader(seconds) for _ in range(workers)], most_bytes=MOST_BYTES)
    worked, started = 0.0, 0.0
    for _ in ahead.answers():
        begun = time.monotonic()
        started = started or begun
        time.sleep(of_case)
        worked += time.monotonic() - begun
    total = time.monotonic() - started
    ahead.stop()
    return worked / total, of_case / (of_case + float(seconds.mean()))


def report(found: Mapping[int, list[float]], same: bool, count: int, rounds: int) -> str:
    """The page, without the remarks."""
    alone = statistics.median(found[0])
    rows = [
        f"| {workers} | {statistics.median(rates) / alone:.2f} ({min(rates) / alone:.2f} to {max(rates) / alone:.2f}) |"
        for workers, rates in found.items()
    ]
    simulated = []
    for workers in (1, 2, 4, 8):
        for share in SHARES:
            together, alone_busy = busy(workers, share)
            simulated.append(f"| {workers} | {share:g} | **{together:.1%}** | {alone_busy:.1%} |")
    return "\n".join(
        [
            "# Reading ahead",
            "",
            f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, "
            f"{len(os.sched_getaffinity(0))} cores.",
            "",
            "    OMP_NUM_THREADS=1 python benchmarks/pipeline.py",
            "",
            f"## {count} volumes of {SHAPE[0]} x {SHAPE[1]} x {SHAPE[2]}, {PIXELS} pixels, on this machine",
            "",
            "| `--workers` | cases a second, of those without (lowest to highest round) |",
            "|---|---|",
            *rows,
            "",
            f"One thread computes. Medians of {rounds} rounds by turns, start-up included. "
            + ("All tables have the same bytes." if same else "TABLES DIFFER."),
            "",
            f"## A device stand-in: {SECONDS_PER_SLICE * 1000:g} ms a slice, {SLICES} slices a case, {NUM_CASES} cases",
            "",
            "| processes N | reading a case, of N times the device's time | device busy | one after the other |",
            "|---|---|---|---|",
            *simulated,
            "",
            "Times of reading are drawn from half to one and a half of their mean. From the device's first case to its",
            "last. Above 1 the readers are the limit, and the device cannot be busier than their share allows.",
            "",
        ]
    )


def main() -> None:
    """Run both and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        text = report(*cohort(Path(folder), options.cases, options.rounds), options.cases, options.rounds)
    before = REPORT_PATH.read_text() if REPORT_PATH.exists() else ""
    remarks = before[before.index(REMARKS) :] if REMARKS in before else f"{REMARKS}\n"
    REPORT_PATH.write_text(text + "\n" + remarks)
    print(text)


if __name__ == "__main__":
    main()
