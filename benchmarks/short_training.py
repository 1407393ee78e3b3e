"""What a training of minutes learns, by the size of a step, the blocks that are adapted and how far it may go.

    python benchmarks/short_training.py OUT --backbone FOLDER --lesions 1 2 --adrenal adrenalmnist3d_64.npz

Planted lesions: 128 training and 32 validation cases of the seed, 140 others held out (100 of another seed), 12 axial
slices of 98 x 112 pixels of the whole scan. AdrenalMNIST3D: 400 of the official training cases by seed, the 98 official
validation cases, 400 other training cases held out, three planes of four slabs of 70 x 70 pixels; the official test
split is not opened. Prints a line per training: held-out AUROC, seconds of the processor. ``OUT`` keeps what is done.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from auto import Row, auroc, command, folder_of, processor_seconds

from anymc3d.data.medmnist import inspect_npz
from anymc3d.demo.dataset import make_dataset
from anymc3d.files.tables import read_table

FROZEN, WHOLE = "train.start=frozen", "train.trained_share=1"
ONE_COPY = ("augmentation=none", "train.copies=1")
FLIPS = ("augmentation=flips", "train.copies=2")
THIN = ("views.image.size=[98,112,12]",)
SLABS = tuple(f"views.{plane}.size=[70,70,4]" for plane in ("axial", "coronal", "sagittal"))


def _row(start: Sequence[str], step: int, blocks: int, epochs: int, copies: Sequence[str]) -> tuple[str, ...]:
    return (*start, f"train.batch_size={step}", f"method.blocks={blocks}", f"train.epochs={epochs}", *copies)


RANDOM = ("train.start=random", "train.standardise=true")
FASTER = (*RANDOM, "train.lora_lr=1e-3", "train.head_lr=5e-3")
LESION_ROWS = {
    "steps of 8, half-way": _row((FROZEN,), 8, 2, 6, FLIPS),
    "steps of 4": _row((FROZEN, WHOLE), 4, 3, 6, ONE_COPY),
    "steps of 2, half-way": _row((FROZEN,), 2, 3, 6, ONE_COPY),
    "steps of 2": _row((FROZEN, WHOLE), 2, 3, 6, ONE_COPY),
    "steps of 2, two copies": _row((FROZEN, WHOLE), 2, 3, 6, FLIPS),
    "steps of 1, two copies": _row((FROZEN, WHOLE), 1, 3, 6, FLIPS),
    "9 epochs": _row((FROZEN, WHOLE), 2, 3, 9, ONE_COPY),
    "12 epochs": _row((FROZEN, WHOLE), 2, 3, 12, ONE_COPY),
    "six blocks, 3 epochs": _row((FROZEN, WHOLE), 2, 6, 3, ONE_COPY),
    "six blocks, 4 epochs": _row((FROZEN, WHOLE), 2, 6, 4, ONE_COPY),
    "six blocks, 4 epochs, two copies": _row((FROZEN, WHOLE), 2, 6, 4, FLIPS),
    "six blocks, 4 epochs, steps of 4": _row((FROZEN, WHOLE), 4, 6, 4, ONE_COPY),
    "six blocks, 6 epochs": _row((FROZEN, WHOLE), 2, 6, 6, ONE_COPY),
    "random, paper's rates": _row(RANDOM, 2, 3, 6, ONE_COPY),
    "random, rates of 1e-3 and 5e-3, six blocks, 4 epochs, two copies": _row(FASTER, 2, 6, 4, FLIPS),
}
ADRENAL_ROWS = {
    "steps of 8, half-way": _row((FROZEN,), 8, 3, 6, FLIPS),
    "steps of 2": _row((FROZEN, WHOLE), 2, 3, 6, ONE_COPY),
    "steps of 2, half-way": _row((FROZEN,), 2, 3, 6, ONE_COPY),
    "random, paper's rates": _row(RANDOM, 2, 3, 6, ONE_COPY),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--backbone", required=True)
    parser.add_argument("--lesions", type=int, nargs="*", default=[], help="seeds")
    parser.add_argument("--adrenal", type=Path, help="adrenalmnist3d_64.npz")
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2], help="of AdrenalMNIST3D")
    parser.add_argument("--only", nargs="*", help="rows")
    args = parser.parse_args()
    for seed in args.lesions:
        manifest = _write(args.out / f"lesions-{seed}.csv", _lesions(args.out.absolute(), seed))
        for name, words in LESION_ROWS.items():
            if args.only is None or name in args.only:
                _train(args.out / f"lesions-{seed}", manifest, name, (), (*words, *THIN), args.backbone)
    for seed in args.seeds if args.adrenal else ():
        manifest = _write(args.out / f"adrenal-{seed}.csv", _adrenal(args.adrenal, seed))
        for name, words in ADRENAL_ROWS.items():
            planes = ("--views", "axial,coronal,sagittal")
            if args.only is None or name in args.only:
                _train(args.out / f"adrenal-{seed}", manifest, name, planes, (*words, *SLABS), args.backbone)


def _lesions(out: Path, seed: int) -> list[Row]:
    own, other = (read_table(make_dataset(out / f"lesions_{s}", num_train=160, num_val=40, seed=s)) for s in (seed, 9))
    drawn = np.random.default_rng(0).permutation(200)
    rows = []
    for place, index in enumerate(drawn):
        split = "train" if place < 128 else "val" if place < 160 else "test"
        rows.append((own[index]["case"], str(out / f"lesions_{seed}" / own[index]["image"]), own[index]["ring"], split))
    others = [one for one in other if one["split"] != "test"][:100]
    return rows + [("o" + one["case"], str(out / "lesions_9" / one["image"]), one["ring"], "test") for one in others]


def _adrenal(npz: Path, seed: int) -> list[Row]:
    _, cases, _ = inspect_npz(npz)
    train = [case for case in cases if case.split == "train"]
    drawn = np.random.default_rng(seed).permutation(len(train))[:800]
    taken = [(train[index], "train" if place < 400 else "test") for place, index in enumerate(drawn)]
    taken += [(case, "val") for case in cases if case.split == "val"]
    return [(case.id, case.images["image"], case.cells["label"], split) for case, split in taken]


def _write(path: Path, rows: Sequence[Row]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["case", "image", "label", "split"])
        writer.writerows(rows)
    return path


def _train(folder: Path, manifest: Path, name: str, planes: Sequence[str], words: Sequence[str], backbone: str) -> None:
    own = folder / folder_of(name)
    done, task = own / "result.json", own / "task.yaml"
    if not done.exists():
        own.mkdir(parents=True, exist_ok=True)
        command("plan", manifest, "--labels", "label", "-o", task, "--overwrite", "--backbone", backbone, *planes)
        before = processor_seconds()
        command("train", task, "-o", own / "run", "--device", "cpu", *words)
        seconds = processor_seconds() - before
        plugin, test = own / "run" / "plugin.safetensors", own / "test"
        command("predict", "-p", plugin, "-i", manifest, "--split", "test", "-o", test)
        truth = {row["case"]: int(row["label"]) for row in read_table(manifest) if row["split"] == "test"}
        logits = {row["case"]: float(row["logit.label"]) for row in read_table(test / "predictions.csv")}
        value = auroc(np.array(list(truth.values())), np.array([logits[case] for case in truth]))
        done.write_text(json.dumps({"auroc": value, "seconds": seconds}), encoding="utf-8")
    result = json.loads(done.read_text(encoding="utf-8"))
    print(f"{folder.name} | {name} | {result['auroc']:.3f} | {result['seconds']:.0f}", flush=True)


if __name__ == "__main__":
    main()
