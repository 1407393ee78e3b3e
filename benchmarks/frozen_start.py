"""What each part of ``train.start: frozen`` brings, on training and validation cases alone.

    OMP_NUM_THREADS=1 nice python benchmarks/frozen_start.py OUT --backbone FOLDER --adrenal adrenalmnist3d_64.npz
    python benchmarks/frozen_start.py OUT --table

Every row is a training by the package's own loop on cached trunk tokens (``method.blocks``), with other settings; every
seed has other training cases. An epoch is chosen on the validation cases; then start, chosen epoch and last epoch
answer held-out cases that nothing was chosen on: of AdrenalMNIST3D other cases of its training split (its test split
is not opened), of planted lesions others of the same maker. One process, jobs in the order of the tables below, each
kept in ``OUT/results`` when it is done, so the same command goes on after a kill.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from anymc3d.benchmark.subsets import choose_cases
from anymc3d.data.cache import Cache
from anymc3d.data.dataset import prepare_all
from anymc3d.data.splits import make_folds
from anymc3d.demo.dataset import make_dataset
from anymc3d.evaluate import outputs
from anymc3d.evaluate.metrics import macro_auroc
from anymc3d.evaluate.paired_auroc import mean_auroc_difference
from anymc3d.files import atomic, home
from anymc3d.settings.config import TaskSettings
from anymc3d.settings.task_file import read_task
from anymc3d.train.checkpoint import TrainingState
from anymc3d.train.draws import epoch_order, visits
from anymc3d.train.frozen_start import begin_frozen, find_frozen_start
from anymc3d.train.loop import run_epochs
from anymc3d.train.parts import make_parts
from anymc3d.train.processes import Processes
from anymc3d.train.quick.settings import QuickSettings
from anymc3d.train.run import Run
from anymc3d.train.run_folder import RunFolder
from anymc3d.train.scans import Scans
from anymc3d.train.start import Start, find_start, with_recipe
from anymc3d.train.study import Study, load_study
from anymc3d.train.validation import validate

HERE = Path(__file__).parent
HELD_OUT = 300
"""Cases of AdrenalMNIST3D's training split that are answered and never trained on, at most."""


@dataclass(frozen=True)
class Data:
    """``train``: cases of a run, None = the file's own split. ``overrides``: of the task file, for every row."""

    task: str
    train: int | None
    overrides: tuple[str, ...]


TAIL = ("method.blocks=2", "train.copies=4")
"""LoRA in the last two blocks on cached tokens of four flipped copies: a training is a minute of one core."""
SLABS, SLICES = "views.image.size=[70,70,4]", "views.image.size=[70,70,12]"
DATA = {
    "adrenal-160": Data("adrenal", 160, (*TAIL, SLABS, "train.epochs=6")),
    "lesions-24": Data("lesions", None, (*TAIL, SLICES, "train.epochs=10")),
    "adrenal-400": Data("adrenal", 400, (*TAIL, SLABS, "train.epochs=6")),
}
FROZEN = ("train.start=frozen", "train.lora_lr=1e-4", "train.trained_share=1")
FAST = ("train.start=frozen", "train.lora_lr=1e-3", "train.trained_share=1")
ROWS: Mapping[str, tuple[str, ...]] = {
    "paper's recipe": (),
    "frozen start": FROZEN,
    "frozen start, LoRA 1e-3": FAST,
    "frozen start, LoRA 1e-3, batch 8": (*FAST, "train.accumulate=4"),
    "paper's, standardised": ("train.standardise=true",),
    "frozen start, focal": (*FROZEN, "train.loss=focal"),
    "frozen start, LoRA 1e-3, focal": (*FAST, "train.loss=focal"),
    "frozen start, LoRA 1e-3, joint clip, no warm-up": (*FAST, "train.clip=joint", "train.warmup=0"),
    "frozen start, LoRA 1e-3, head 1e-3": (*FAST, "train.head_lr=1e-3"),
    "frozen start, LoRA 1e-3, stratified": (*FAST, "train.sampling=stratified"),
    "frozen start, LoRA 1e-3, half-way": (*FAST, "train.trained_share=0.5"),
    "paper's, head 1e-2": ("train.head_lr=1e-2",),
    "paper's, warm-up": ("train.warmup=0.1",),
    "paper's, group clip": ("train.clip=group",),
    "paper's, cross-entropy": ("train.loss=cross-entropy",),
    "paper's, focal alpha 1": ("train.focal_alpha=1",),
    "paper's, no weight decay": ("train.lora_weight_decay=0", "train.head_weight_decay=0"),
    "paper's, batch 8": ("train.accumulate=4",),
    "paper's, stratified": ("train.sampling=stratified",),
}
"""Name -> overrides of the task file. Of the larger data set the first four and ``HALF``, of lesions eleven."""
ENOUGH = {"adrenal-400": 4, "lesions-24": 11}
HALF = "frozen start, LoRA 1e-3, half-way"
SEEDS = (0, 1, 2)


def jobs(only: str) -> Iterator[tuple[str, str, int]]:
    """(data, row, seed) in the order they are run: row by row, the larger data set six rows later."""
    wanted = [
        (number + 6 * (data == "adrenal-400"), data, row)
        for number, row in enumerate(ROWS)
        for data in DATA
        if row == HALF or number < ENOUGH.get(data, len(ROWS))
    ]
    for _, data, row in sorted(wanted, key=lambda one: one[0]):
        yield from ((data, row, seed) for seed in SEEDS if only in f"{data}/{row}")


def task_of(data: str, row: str, seed: int, args: argparse.Namespace) -> TaskSettings:
    """The task of one job; the subset of a seed and its training share the seed."""
    where = args.adrenal if DATA[data].task == "adrenal" else args.out / "lesions" / "manifest.csv"
    overrides = [f"data.manifest={where}", f"backbone={args.backbone}", f"train.seed={seed}", "train.precision=fp32"]
    task = read_task(HERE / "comparison" / f"{DATA[data].task}.yaml", [*overrides, *DATA[data].overrides, *ROWS[row]])
    return with_recipe(task)


def deal(study: Study, number: int | None, seed: int) -> Study:
    """The seed's training cases, the validation cases, and the held-out ones under the name of the test split."""
    if number is None:
        return study
    train = np.array(study.indices("train"))
    patients = [study.manifest.cases[i].patient for i in train]
    chosen = train[choose_cases(patients, study.targets[train], number, seed=seed)]
    rest = np.setdiff1d(train, chosen)
    held = np.random.default_rng(0).permutation(rest)[:HELD_OUT]
    splits = np.full(len(study.splits), "unused", dtype=object)
    splits[study.indices("val")], splits[chosen], splits[held] = "val", "train", "test"
    return replace(study, splits=tuple(splits))


class Everything:
    """The cases of a data set, read once; of AdrenalMNIST3D those of its training and validation splits."""

    def __init__(self, task: TaskSettings) -> None:
        self.study, self.cache = load_study(task), Cache(home.cache_folder())
        splits = ("train", "val") if "adrenal" in task.name else ("train", "val", "test")
        wanted = [i for split in splits for i in self.study.indices(split)]
        found = prepare_all([self.study.manifest.cases[i] for i in wanted], task.views, self.cache)
        self.prepared = dict(zip(wanted, found, strict=True))

    def scans(self, number: int | None, seed: int) -> Scans:
        """Those of one job."""
        return Scans(deal(self.study, number, seed), self.prepared, self.cache, {})


def train(task: TaskSettings, scans: Scans, start: Start, run: Run) -> dict[str, Any]:
    """One training; AUROCs of start, chosen epoch and last one on the held-out cases."""
    began = time.process_time()
    parts = make_parts(task, scans, start, run, "fp32")
    state = TrainingState()
    begin_frozen(task, scans, start, parts, run, state)
    first = parts.classifier.plugin_tensors()
    chosen = run_epochs(parts, state, {}, lambda _: None)
    seconds = time.process_time() - began
    moments = {"start": first, "chosen": chosen, "last": parts.classifier.plugin_tensors()}
    parts.classifier.scale = None
    held = scans.labelled("test", task, run.device, parts.train.loader.trunk, training=False)
    scores: dict[str, Any] = {"history": state.history, "start": state.start, "cpu_seconds": seconds}
    answers = {}
    for name, tensors in moments.items():
        parts.classifier.load_tensors(tensors)
        is_start = name == "chosen" and state.start_logits is not None and state.best_epoch == 0
        answers[name] = answers["start"] if is_start else validate(replace(parts, val=held)).logits
        scores[name] = auroc(task, held.targets, answers[name])
    truth = outputs.label_targets(held.targets, task.labels.kind, 1)
    raw = {name: outputs.raw_logits(logits, task.labels.kind) for name, logits in answers.items()}
    gain = mean_auroc_difference(truth, raw["chosen"], raw["start"])
    return scores | {"gain": gain.value, "gain_error": gain.error, "logits": raw["chosen"][:, 0].tolist()}


SIGNAL_BATCHES = 40
HEADS: Mapping[str, tuple[float, ...]] = {
    "as chosen": QuickSettings().decays,
    "least decay": (0.01,),
    "most decay": (1.0,),
}
"""Name -> weight decays that inner folds choose from."""


def signal(task: TaskSettings, scans: Scans, start: Start, run: Run) -> Iterator[tuple[str, str, float]]:
    """(head, loss, median norm of the gradient of LoRA) at the frozen start, over batches of the training cases."""
    for head, decays in HEADS.items():
        yield from ((head, *found) for found in norms(task, scans, scans, start, run, decays))
    rows = scans.study.indices("train")
    patients = [scans.study.manifest.cases[row].patient for row in rows]
    folds = np.array(make_folds(patients, scans.study.targets[rows], folds=5, seed=task.train.seed))
    parts = []
    for fold in range(5):
        outside, inside = without(scans, np.array(rows)[folds == fold]), without(scans, np.array(rows)[folds != fold])
        parts += norms(task, outside, inside, start, run, QuickSettings().decays)
    for loss in ("focal", "cross-entropy"):
        yield "of other folds", loss, float(np.mean([norm for name, norm in parts if name == loss]))


def without(scans: Scans, rows: np.ndarray) -> Scans:
    """The same without some training cases."""
    splits = np.array(scans.study.splits, dtype=object)
    splits[rows] = "unused"
    return replace(scans, study=replace(scans.study, splits=tuple(splits)))


def norms(
    task: TaskSettings, solved_on: Scans, asked: Scans, start: Start, run: Run, decays: tuple[float, ...]
) -> list[tuple[str, float]]:
    """(loss, median norm of LoRA's gradient) of batches of ``asked`` with the solution on ``solved_on``."""
    parts = make_parts(task, asked, start, run, "fp32")
    with patch("anymc3d.train.frozen_start.QuickSettings", partial(QuickSettings, decays=decays)):
        find_frozen_start(task, solved_on, start.backbone, run).enter(parts.classifier)
    lora = [p for name, p in parts.classifier.named_parameters() if name.startswith("lora.")]
    cases = visits(epoch_order(len(parts.train), task.train.seed, 0))
    steps = [cases[i : i + 2] for i in range(0, min(len(cases) - 1, 2 * SIGNAL_BATCHES), 2)]
    losses = {name: replace(parts.loss, settings=replace(task.train, loss=name)) for name in ("focal", "cross-entropy")}
    found: dict[str, list[float]] = {name: [] for name in losses}
    for step, batch in parts.train.loader.steps(steps, epoch=0):
        logits = parts.classifier(parts.backbone, batch, parts.encoding).logits
        targets = torch.from_numpy(parts.train.targets[[visit.case for visit in step]])
        for name, loss in losses.items():
            value = loss(logits, targets)
            grads = torch.autograd.grad(value.total / value.count, lora, retain_graph=True)
            found[name].append(float(torch.stack([grad.norm() for grad in grads]).norm()))
    return [(name, float(np.median(values))) for name, values in found.items()]


def auroc(task: TaskSettings, targets: np.ndarray, logits: np.ndarray) -> float | None:
    """As the loop scores an epoch."""
    raw = outputs.raw_logits(logits, task.labels.kind)
    truth = outputs.label_targets(targets, task.labels.kind, raw.shape[1])
    return macro_auroc(truth, outputs.ranking_scores(raw, task.labels.kind), task.labels.output_names).value


def prepare(
    job: tuple[str, str, int], name: str, args: argparse.Namespace, read: dict[str, Any]
) -> tuple[TaskSettings, Scans, Start, Run]:
    """Task, scans, start and place of one job; every data set is read once."""
    data, _, seed = job
    task = task_of(*job, args)
    if DATA[data].task not in read:
        read[DATA[data].task] = Everything(task)
    folder = args.out / "runs" / name
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    run = Run(RunFolder(folder), torch.device("cpu"), Processes(), quiet=True)
    atomic.write_json(run.folder.record, {"kind": "ablation", "settings": name, "cases": list(job)})
    return task, read[DATA[data].task].scans(DATA[data].train, seed), find_start(task), run


def run_job(job: tuple[str, str, int], args: argparse.Namespace, read: dict[str, Any]) -> None:
    """One training, unless its result is there."""
    data, row, seed = job
    name = f"{data}_{re.sub(r'[^a-z0-9]+', '-', row.lower())}_{seed}"
    path = args.out / "results" / f"{name}.json"
    if path.exists():
        return
    found = train(*prepare(job, name, args, read))
    path.parent.mkdir(exist_ok=True)
    atomic.write_json(path, {"data": data, "row": row, "seed": seed, **found})
    line = ", ".join(f"{moment} {found[moment]:.3f}" for moment in ("start", "chosen", "last"))
    print(f"{name}: {line} ({found['cpu_seconds']:.0f} s)", flush=True)


def signals(args: argparse.Namespace, read: dict[str, Any]) -> Iterator[str]:
    """The gradient of LoRA at the start as lines of a table: for every data set the median norm, mean over seeds."""
    yield "| data | head | focal | cross-entropy |"
    yield "|---|---|---|---|"
    for data in DATA:
        if args.only in data:
            runs = [signal(*prepare((data, "frozen start", seed), "signal", args, read)) for seed in SEEDS]
            found = [{(head, loss): norm for head, loss, norm in run} for run in runs]
            for head in (*HEADS, "of other folds"):
                cells = [f"{np.mean([one[head, loss] for one in found]):.4f}" for loss in ("focal", "cross-entropy")]
                yield f"| {data} | {head} | {' | '.join(cells)} |"


def table(folder: Path) -> Iterator[str]:
    """A line for every data set and row: held-out AUROC over seeds, and what it is above the frozen start's."""
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("results/*.json"))]
    by_job = {(one["data"], one["row"], one["seed"]): one for one in found}
    yield "| data | row | validation | held out: chosen | minus the frozen solution, by seed | last | epochs chosen |"
    yield "|---|---|---|---|---|---|---|"
    for data in DATA:
        for row in ROWS:
            runs = [by_job[data, row, seed] for seed in SEEDS if (data, row, seed) in by_job]
            runs = [run for run in runs if (data, "frozen start", run["seed"]) in by_job]
            if not runs:
                continue
            frozen = [by_job[data, "frozen start", run["seed"]]["start"] for run in runs]
            gains = [run["chosen"] - start for run, start in zip(runs, frozen, strict=True)]
            best = [max(run["history"], key=lambda e: e["epoch"] == run["history"][-1]["best_epoch"]) for run in runs]
            cells = [
                data,
                row,
                f"{np.mean([epoch['val_auroc'] for epoch in best]):.3f}",
                f"{np.mean([run['chosen'] for run in runs]):.3f}",
                f"{np.mean(gains):+.3f} ({', '.join(f'{gain:+.3f}' for gain in gains)})",
                f"{np.mean([run['last'] for run in runs]):.3f}",
                ", ".join(str(run["history"][-1]["best_epoch"]) for run in runs),
            ]
            yield f"| {' | '.join(cells)} |"


def main() -> None:
    """Run what is missing, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--backbone", type=Path)
    parser.add_argument("--adrenal", type=Path)
    parser.add_argument("--only", default="", help="jobs whose DATA/ROW has this in it")
    parser.add_argument("--table", action="store_true", help="print the table of what is there")
    parser.add_argument("--signal", action="store_true", help="print what the start leaves LoRA to learn")
    args = parser.parse_args()
    if args.table:
        print("\n".join(table(args.out)))
        return
    torch.set_num_threads(1)
    if not (args.out / "lesions").exists():
        make_dataset(args.out / "lesions", num_train=24, num_val=16, num_test=100, seed=12)
    read: dict[str, Any] = {}
    if args.signal:
        print("\n".join(signals(args, read)))
        return
    for job in jobs(args.only):
        run_job(job, args, read)


if __name__ == "__main__":
    main()
