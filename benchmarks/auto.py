"""``anymc3d auto`` beside everything else on equal splits: test AUROC, paired tests against ``auto``, ranks, seconds of
the processor.

    python benchmarks/auto.py OUT --backbone FOLDER --adrenal adrenalmnist3d_64.npz --hippocampus FOLDER --lesions
    python benchmarks/auto.py OUT --table

Every contestant is a command of the package on one manifest with ``train``, ``val`` and ``test`` rows, and is answered
once on ``test``. ``--seeds`` draws other cases and splits (AdrenalMNIST3D has its official one) and trains with that
seed. Runs are kept in ``OUT/seed-<n>/<set>/<contestant>``, so the same command goes on after a kill. Contestants and
their settings were fixed before any of them was scored.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anymc3d.data.medmnist import inspect_npz
from anymc3d.data.splits import make_splits
from anymc3d.demo.dataset import make_dataset
from anymc3d.evaluate.delong import delong_interval, delong_paired_test
from anymc3d.files.tables import read_table

SIZES = ("views.axial.size=[70,70,4]", "views.coronal.size=[70,70,4]", "views.sagittal.size=[70,70,4]")
"""Three planes of four slabs, the first sight of ``auto``, for all that take slices through the backbone."""
EPOCHS = "train.epochs=8"
RANDOM = "method.weights=random"
GRIDS: Mapping[str, tuple[str, ...]] = {
    "adrenal": ("views.image.size=[64,64,64]", "train.epochs=8"),
    "hippocampus": ("views.image.size=[48,64,48]", "train.epochs=30"),
    "lesions": ("views.image.size=[64,80,64]", "train.epochs=15"),
    "few-lesions": ("views.image.size=[64,80,64]", "train.epochs=60"),
}
"""For 3D networks: about the voxels that the scans have, and epochs that take about as long as LoRA in all blocks."""
THICK = ("views.image.size=[98,98,16]", "train.epochs=8")
"""Slices of MST, at the rate that validation chose in benchmarks/comparison (its own, 1e-6, is for long runs)."""
LABELS = {"adrenal": "label", "hippocampus": "small_volume", "lesions": "ring", "few-lesions": "ring"}
LESIONS = {"lesions": (160, 40), "few-lesions": (24, 16)}
"""Training and validation cases of the planted lesions."""
Row = tuple[str, str, str, str]
"""Case, image, label, split."""


@dataclass(frozen=True)
class Contestant:
    """``train`` with these words; none: ``auto``. ``planes``: whether it takes three planes; ``grid``: whether it takes
    the volumes of ``GRIDS``."""

    words: tuple[str, ...] = ()
    planes: bool = True
    grid: bool = False


CONTESTANTS: Mapping[str, Contestant] = {
    "auto": Contestant(),
    "quick": Contestant(("--quick", *SIZES)),
    "plain statistics": Contestant(("--quick", "method=foreground")),
    "scan statistics": Contestant(("--quick", "method=scan-statistics")),
    "LoRA, paper": Contestant((*SIZES, EPOCHS)),
    "LoRA, frozen start": Contestant((*SIZES, EPOCHS, "train.start=frozen")),
    "last 2 blocks, frozen start": Contestant((*SIZES, EPOCHS, "train.start=frozen", "method.blocks=2")),
    "3D ResNet-18": Contestant(("method=resnet18-3d", RANDOM), planes=False, grid=True),
    "3D DenseNet-121": Contestant(("method=densenet121-3d", RANDOM), planes=False, grid=True),
    "MST": Contestant(("method=mst", "train.lr=1e-5", *THICK), planes=False),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--backbone")
    parser.add_argument("--adrenal", type=Path, help="adrenalmnist3d_64.npz")
    parser.add_argument("--hippocampus", type=Path, help="folder with images/ and labels.csv")
    parser.add_argument("--lesions", action="store_true")
    parser.add_argument("--few-lesions", action="store_true")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--cases", type=int, default=0, help="training and validation cases of a set; 0 = all")
    parser.add_argument("--tests", type=int, default=0, help="test cases of a set; 0 = all")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--only", nargs="*", default=list(CONTESTANTS))
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args()
    if not args.table:
        for seed in args.seeds:
            out = args.out / f"seed-{seed}"
            out.mkdir(parents=True, exist_ok=True)
            for name, manifest in _sets(args, out, seed).items():
                for contestant in args.only:
                    _run(out / name / folder_of(contestant), manifest, name, contestant, args, seed)
    sys.stdout.write(_tables(args.out) + "\n")


def _sets(args: argparse.Namespace, out: Path, seed: int) -> dict[str, Path]:
    found: dict[str, Sequence[Row]] = {}
    if args.adrenal:
        _, cases, _ = inspect_npz(args.adrenal)
        found["adrenal"] = [(one.id, one.images["image"], one.cells["label"], str(one.split)) for one in cases]
    if args.hippocampus:
        found["hippocampus"] = _hippocampus(args.hippocampus, seed)
    for name, (train, val) in LESIONS.items():
        if getattr(args, name.replace("-", "_")):
            found[name] = _lesions(out.absolute() / f"{name}_scans", train, val, seed)
    limits = {"test": args.tests, "train": args.cases}
    return {name: _write(out / f"{name}.csv", rows, LABELS[name], limits) for name, rows in found.items()}


def _lesions(folder: Path, train: int, val: int, seed: int) -> list[Row]:
    made = read_table(make_dataset(folder, num_train=train, num_val=val, seed=seed))
    return [(one["case"], str(folder / one["image"]), one["ring"], one["split"]) for one in made]


def _hippocampus(folder: Path, seed: int) -> list[Row]:
    """Without masks: the label is made of them."""
    rows = read_table(folder / "labels.csv")
    truth = np.array([[float(row["small_volume"])] for row in rows])
    splits = make_splits([row["id"] for row in rows], truth, fractions=(0.5, 0.1, 0.4), seed=seed)
    scans = [str(next((folder / "images").glob(f"{row['id']}.*")).absolute()) for row in rows]
    return [(row["id"], scan, row["small_volume"], s) for row, scan, s in zip(rows, scans, splits, strict=True)]


def _write(path: Path, rows: Sequence[Row], label: str, limits: Mapping[str, int]) -> Path:
    """``limits``: at most so many test and other cases, drawn with a seed."""
    kept: list[Row] = []
    for which, limit in limits.items():
        own = [row for row in rows if (row[3] == "test") == (which == "test")]
        drawn = np.random.default_rng(0).permutation(len(own))[: limit or len(own)]
        kept += [own[index] for index in sorted(drawn)]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["case", "image", label, "split"])
        writer.writerows(kept)
    return path


def folder_of(contestant: str) -> str:
    """The name as one of a folder."""
    return contestant.replace(" ", "_").replace(",", "")


def _run(own: Path, manifest: Path, data: str, name: str, args: argparse.Namespace, seed: int) -> None:
    done = own / "contest.json"
    if done.exists():
        return
    own.mkdir(parents=True, exist_ok=True)
    contestant, label, before = CONTESTANTS[name], LABELS[data], processor_seconds()
    weights = ("--backbone", args.backbone)
    if not contestant.words:
        command("auto", manifest, "--labels", label, "-o", own / "run", "--minutes", args.minutes, *weights)
        told = own / "run" / "test" / "predictions.csv"
    else:
        task, plugin = own / "task.yaml", own / "run" / "plugin.safetensors"
        planes = ("--views", "axial,coronal,sagittal") if contestant.planes else ()
        command("plan", manifest, "--labels", label, "-o", task, "--overwrite", *weights, *planes)
        words = (*contestant.words, *(GRIDS[data] if contestant.grid else ()))
        words += () if "--quick" in words else (f"train.seed={seed}",)
        command("train", task, "-o", own / "run", "--device", "cpu", *words)
        command("predict", "-p", plugin, "-i", manifest, "--split", "test", "-o", own / "test")
        told = own / "test" / "predictions.csv"
    record = {"seconds": processor_seconds() - before, "predictions": str(told.relative_to(own))}
    done.write_text(json.dumps(record), encoding="utf-8")


def processor_seconds() -> float:
    """Of all commands that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def command(*words: object) -> None:
    """``anymc3d`` with these words; its failure ends the benchmark."""
    subprocess.run([sys.executable, "-m", "anymc3d", *map(str, words), "--quiet"], check=True)


def _tables(out: Path) -> str:
    lines: list[str] = []
    places: dict[str, list[int]] = {}
    for name, label in LABELS.items():
        found: dict[str, list[dict[str, Any]]] = {}
        for table in sorted(out.glob(f"seed-*/{name}.csv")):
            scores = sorted(_scores(table.parent / name, read_table(table), label), key=lambda one: -one["auroc"])
            for place, one in enumerate(scores, start=1):
                places.setdefault(one["name"], []).append(place)
                found.setdefault(one["name"], []).append(one)
        if found:
            lines += [f"\n{name}\n", "| contestant | mean | test AUROC of each seed | minus auto (p) | seconds |"]
            lines += ["|---|---|---|---|---|", *_by_mean(found)]
    lines += ["\n| contestant | mean rank | sets and seeds |", "|---|---|---|"]
    means = sorted((float(np.mean(own)), name, len(own)) for name, own in places.items())
    return "\n".join(lines + [f"| {name} | {mean:.1f} | {count} |" for mean, name, count in means])


def _by_mean(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """A line per contestant, the highest mean first; the differences to ``auto`` are of each seed."""
    rows = []
    for name, seeds in found.items():
        mean, each = float(np.mean([one["auroc"] for one in seeds])), "; ".join(one["shown"] for one in seeds)
        minus, seconds = "; ".join(one["minus"] for one in seeds), float(np.mean([one["seconds"] for one in seeds]))
        rows.append((-mean, f"| {name} | {mean:.3f} | {each} | {minus} | {seconds:.0f} |"))
    return [line for _, line in sorted(rows)]


def _scores(folder: Path, rows: Sequence[Mapping[str, str]], label: str) -> list[dict[str, Any]]:
    truth = {row["case"]: float(row[label]) for row in rows if row["split"] == "test"}
    targets, found = np.array(list(truth.values())), {}
    for name in CONTESTANTS:
        own = folder / folder_of(name)
        if (own / "contest.json").exists():
            record = json.loads((own / "contest.json").read_text(encoding="utf-8"))
            told = {row["case"]: float(row[f"logit.{label}"]) for row in read_table(own / record["predictions"])}
            found[name] = (np.array([told[case] for case in truth]), record["seconds"])
    return [_row(name, targets, logits, found.get("auto"), seconds) for name, (logits, seconds) in found.items()]


def auroc(targets: np.ndarray, logits: np.ndarray) -> float:
    """Of outcomes 0 and 1 (n,) and logits (n,)."""
    pairs = logits[targets == 1][:, None] - logits[targets == 0]
    return float((pairs > 0).mean() + 0.5 * (pairs == 0).mean())


def _row(name: str, targets: np.ndarray, logits: np.ndarray, auto: Any, seconds: float) -> dict[str, Any]:
    interval, value = delong_interval(targets, logits), auroc(targets, logits)
    bounds = "" if interval.low is None else f" ({interval.low:.3f} to {interval.high:.3f})"
    row: dict[str, Any] = {"name": name, "auroc": value, "shown": f"{value:.3f}{bounds}", "seconds": seconds}
    if name == "auto" or auto is None:
        return row | {"minus": ""}
    test = delong_paired_test(targets, logits, auto[0])
    p = "" if test.p_value is None else f" ({test.p_value:.3f})"
    return row | {"minus": f"{test.difference:+.3f}{p}"}


if __name__ == "__main__":
    main()
