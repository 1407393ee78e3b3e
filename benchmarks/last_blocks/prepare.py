"""The two manifests of the comparison of last blocks; no official test case of AdrenalMNIST3D is in either.

    python benchmarks/last_blocks/prepare.py ../shared/data/adrenalmnist3d/adrenalmnist3d_64.npz

Rows called ``test`` in ``adrenal.csv`` are 300 of the official *training* cases, drawn with a seed, never trained on.
``lesions/`` is the demo's generator (pip install '.[demo]').
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np

from anymc3d.data.medmnist import inspect_npz
from anymc3d.demo.dataset import make_dataset

HERE = Path(__file__).resolve().parent
HELD_OUT = 300


def adrenal(npz: Path, out: Path) -> None:
    """Write the official training and validation cases, ``HELD_OUT`` of the training ones as ``test``."""
    _, cases, problems = inspect_npz(npz)
    if problems:
        raise SystemExit("; ".join(problems))
    train = [case for case in cases if case.split == "train"]
    drawn = np.random.default_rng(0).permutation(len(train))[:HELD_OUT]
    held_out = {train[index].id for index in drawn}
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["case", "image", "split", "label"])
        for case in cases:
            if case.split != "test":
                split = "test" if case.id in held_out else case.split
                writer.writerow([case.id, case.images["image"], split, case.cells["label"]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("npz", type=Path)
    arguments = parser.parse_args()
    adrenal(arguments.npz, HERE / "adrenal.csv")
    make_dataset(HERE / "lesions", num_train=32, num_val=40, num_test=60, seed=12)


if __name__ == "__main__":
    main()
