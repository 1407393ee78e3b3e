"""A simulated cohort: time and memory of `predict` against the number of cases, and parts that are killed, to the byte.

    python benchmarks/scaling.py PLUGIN OUT --cases 1000 5000 50000

The scans are tiny and real files, one in a hundred of them cut off; the network is a stand-in that answers with the
mean of the voxels, so that what is measured is all the rest: manifest, reading, hashing, journal, tables, joining.
PLUGIN is any plugin of this program with one view; its labels and columns are used.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from anymc3d.cost.memory import forget_peak, peak_memory
from anymc3d.data import file_marks
from anymc3d.data.case import Case
from anymc3d.data.case_faults import CaseFault, attempt
from anymc3d.data.case_scans import CaseScans
from anymc3d.data.manifest import read_manifest
from anymc3d.files.parts import RECORD, Part, part_of
from anymc3d.files.tables import write_table
from anymc3d.parts.merge import merge_parts
from anymc3d.predict.answer import unanswered
from anymc3d.predict.cohort import predict_cohort
from anymc3d.predict.prediction import Prediction
from anymc3d.predict.predictor import Predictor, load

PARTS, KILLS, CORRUPT, AT_ONCE = 16, 30, 0.01, 2
COLUMNS = (
    "cases",
    "write_s",
    "manifest_s",
    "whole_s",
    "whole_cpu_s",
    "resumed_s",
    "resumed_cpu_s",
    "peak_mb",
    "parts_s",
    "part_peak_mb",
    "merge_s",
)


class StandIn(Predictor):
    """Answers with the mean of a scan's voxels, which costs the same for every case."""

    template: Prediction

    def predict_case(
        self, case: Case, *, timeout_s: float | None = None, scans: CaseScans | None = None
    ) -> list[Prediction]:
        """See :meth:`Predictor.predict_case`."""
        scans = self.scans(case) if scans is None else scans
        (column,) = scans.case.images
        found = attempt(lambda: float(scans.volume(column).voxels.mean()), case)
        if isinstance(found, CaseFault):
            return [unanswered(self.plugins[0], case.id, found.message)]
        return [replace(self.template, case=case.id, logits=dict.fromkeys(self.template.labels, found))]


def stand_in(plugin: Path, scan: Path) -> StandIn:
    """A predictor whose answers have the columns of a plugin."""
    real = load(plugin, device="cpu")
    template = real.predict(scan, case="template")
    assert isinstance(template, Prediction)
    found = copy(real)
    found.__class__ = StandIn
    found.template = replace(template, status="ok", message="", slice_weights={}, view_weights={}, intensities={})
    return found


def write_cohort(folder: Path, cases: int) -> Path:
    """Write the scans and their manifest; every scan is another."""
    rng = np.random.default_rng(0)
    header = nibabel.Nifti1Image(np.zeros((4, 4, 4), np.float32), np.eye(4)).to_bytes()[:352]
    cut = set(random.Random(0).sample(range(cases), round(cases * CORRUPT)))
    rows = []
    for number in range(cases):
        path = folder / "scans" / f"{number % 256:02x}" / f"case{number:06d}.nii"
        if number < 256:
            path.parent.mkdir(parents=True, exist_ok=True)
        content = header + rng.normal(size=64).astype("<f4").tobytes()
        path.write_bytes(content[:400] if number in cut else content)
        rows.append({"case": path.stem, "image": str(path)})
    write_table(folder / "manifest.csv", ("case", "image"), rows)
    return folder / "manifest.csv"


def in_child(work: Callable[[], dict[str, Any]], told: Path) -> dict[str, Any]:
    """What ``work`` gives in a process of its own, with its seconds and its peak memory."""
    _, status = os.waitpid(forked(work, told), 0)
    assert status == 0, f"a child ended with {status}"
    return json.loads(told.read_text())


def forked(work: Callable[[], dict[str, Any]], told: Path) -> int:
    """Start ``work`` in a process of its own."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        device = predictor.device
        forget_peak(device)
        started, cpu = time.monotonic(), time.process_time()
        found = work() | {"seconds": time.monotonic() - started, "cpu": time.process_time() - cpu}
        told.write_text(json.dumps(found | {"peak": peak_memory(device)}))
        code = 0
    finally:
        os._exit(code)


def in_parts(manifest: Path, out: Path, kills: int, told: Path) -> tuple[float, int]:
    """Run all parts, two at a time, and kill as many of them in the middle; the seconds, and the largest peak."""
    rng = random.Random(1)
    cases = read_manifest(manifest, check_scans=False).cases
    sizes = {number: sum(Part(PARTS, number).takes(case.id) for case in cases) for number in range(1, PARTS + 1)}
    doomed: dict[int, list[int]] = {number: [] for number in sizes}
    for _ in range(kills):
        number = rng.randint(1, PARTS)
        doomed[number].append(rng.randint(1, max(1, int(0.9 * sizes[number]))))
    for places in doomed.values():
        places.sort(reverse=True)
    started, waiting, running, done, lines = time.monotonic(), list(sizes), {}, 0, Lines(out)
    while waiting or running:
        while waiting and len(running) < AT_ONCE:
            number = waiting.pop(0)
            running[forked(lambda number=number: one_part(manifest, out, number), told / f"{number}.json")] = number
        for pid, number in list(running.items()):
            if doomed[number] and lines.of(number) >= doomed[number][-1]:
                os.kill(pid, signal.SIGKILL)
                doomed[number].pop()
                done += 1
            ended, _ = os.waitpid(pid, os.WNOHANG)
            if ended:
                del running[pid]
                if not (Part(PARTS, number).folder(out) / RECORD).exists():
                    waiting.append(number)
        time.sleep(0.005)
    assert done == kills, f"{done} of {kills} kills came in time"
    peak = max(json.loads((told / f"{number}.json").read_text())["peak"] for number in sizes)
    return time.monotonic() - started, peak


class Lines:
    """Finished cases of each part; only what was written since the last look is read."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._seen: dict[int, tuple[int, int]] = {}

    def of(self, number: int) -> int:
        """Finished cases of a part."""
        path = Part(PARTS, number).folder(self._out) / "journal.jsonl"
        place, count = self._seen.get(number, (0, 0))
        if path.exists():
            with path.open("rb") as file:
                file.seek(place)
                more = file.read()
            # A killed line is cut off when its part begins again, so the last one is looked at anew.
            end = more.rfind(b"\n") + 1
            self._seen[number] = place, count = place + end, count + more.count(b"\n")
        return count


def one_part(manifest: Path, out: Path, number: int) -> dict[str, Any]:
    """As ``anymc3d predict --part``."""
    cases = read_manifest(manifest, check_scans=False).cases
    with part_of(out, Part(PARTS, number), cases, {}) as (folder, mine):
        result = predict_cohort(predictor, mine, folder, quiet=True)
    return {"computed": result.computed}


def whole(manifest: Path, out: Path) -> dict[str, Any]:
    """As ``anymc3d predict``."""
    started = time.monotonic()
    cases = read_manifest(manifest, check_scans=False).cases
    manifest_s = time.monotonic() - started
    result = predict_cohort(predictor, cases, out, quiet=True)
    return {"computed": result.computed, "manifest_s": manifest_s}


def measured(folder: Path, cases: int, kills: int) -> dict[str, Any]:
    """One row of the table; ends with an error where the joined table is not that of one process."""
    folder.mkdir(parents=True)
    told = folder / "told"
    told.mkdir()
    started = time.monotonic()
    manifest = write_cohort(folder, cases)
    write_s = time.monotonic() - started
    one = in_child(lambda: whole(manifest, folder / "one"), told / "one.json")
    again = in_child(lambda: whole(manifest, folder / "one"), told / "again.json")
    assert again["computed"] == round(cases * CORRUPT), "only what had failed is tried again"
    parts_s, part_peak = in_parts(manifest, folder / "parts", kills, told)
    merged = in_child(lambda: {"cases": merge_parts(folder / "parts").cases}, told / "merged.json")
    tables = [(folder / name / "predictions.csv").read_bytes() for name in ("one", "parts")]
    assert tables[0] == tables[1], "the joined table is not that of one process"
    assert tables[0].count(b",error,") == round(cases * CORRUPT) and merged["cases"] == cases
    spent = (one["manifest_s"], one["seconds"], one["cpu"], again["seconds"], again["cpu"], one["peak"] / 1e6)
    row = (write_s, *spent, parts_s, part_peak / 1e6)
    return dict(zip(COLUMNS, (cases, *(round(value, 2) for value in (*row, merged["seconds"]))), strict=True))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("plugin", type=Path)
    parser.add_argument("out", type=Path, help="a new folder; removed again at the end")
    parser.add_argument("--cases", type=int, nargs="+", default=[1000, 5000, 50000])
    parser.add_argument("--kills", type=int, default=KILLS)
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True)
    file_marks.SETTLED_SECONDS = -1e9  # the files of a real cohort are older than its run
    write_cohort(chosen.out / "one", 1)
    predictor = stand_in(chosen.plugin, chosen.out / "one/scans/00/case000000.nii")
    try:
        for count in chosen.cases:
            print(json.dumps(measured(chosen.out / str(count), count, chosen.kills)), flush=True)
    finally:
        shutil.rmtree(chosen.out)
    sys.exit(0)
