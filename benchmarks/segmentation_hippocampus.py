"""Dice of the decoders on the hippocampus crops (two structures, real masks): the commands a user would type.

    python benchmarks/segmentation_hippocampus.py OUT --data hippocampus_mr --backbone WEIGHTS [--decoder nnunet]

The label (small volume) comes from the masks, so its AUROC proves nothing; what is shown is that each decoder learns.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from anymc3d.files.tables import read_table, write_table

DECODERS = ("nnunet", "eomt-2d", "eomt-3d")
SPLITS = {"train": 32, "val": 8, "test": 20}
TASK = """format: 1
name: hippocampus
labels: {{columns: [small_volume], kind: binary, classes: ['0', '1']}}
data: {{manifest: manifest.csv, modality: MR}}
views:
  image: {{size: [42, 56, 12], plane: axial, field_of_view: [40.0, 54.0, 42.0]}}
backbone: {backbone}
segmentation: {{keep: true, decoder: nnunet}}
train: {{epochs: {epochs}, lora_lr: 2.0e-4, head_lr: 2.0e-3}}
"""


def write_task(out: Path, data: Path, backbone: Path, epochs: int) -> None:
    """The first cases of the set with their masks; every fourth training case without."""
    names = [split for split, count in SPLITS.items() for _ in range(count)]
    rows = []
    for split, row in zip(names, read_table(data / "labels.csv"), strict=False):
        name = row["id"]
        hidden = split == "train" and len(rows) % 4 == 3
        mask = "" if hidden else str(data / "labels" / f"{name}.nii.gz")
        image = str(data / "images" / f"{name}.nii.gz")
        rows.append({"case": name, "image": image, "mask": mask, "small_volume": row["small_volume"], "split": split})
    out.mkdir(parents=True, exist_ok=True)
    write_table(out / "manifest.csv", list(rows[0]), rows)
    (out / "task.yaml").write_text(TASK.format(backbone=backbone, epochs=epochs), encoding="utf-8")


def run(out: Path, decoder: str) -> None:
    """Train, draw and score one decoder."""
    _anymc3d(
        "train", out / "task.yaml", "-o", out / decoder, "--device", "cpu", "--quiet", f"segmentation.decoder={decoder}"
    )
    drawn = out / f"{decoder}-test"
    given = ("-i", out / "manifest.csv", "--split", "test", "-o", drawn, "--segmentation", "--quiet")
    _anymc3d("predict", "-p", out / decoder / "plugin.safetensors", *given)
    figures = ("-o", out / f"{decoder}-figures", "--segmentations", drawn / "segmentations.csv", "--quiet")
    _anymc3d("evaluate", drawn / "predictions.csv", out / "manifest.csv", *figures)
    for row in read_table(out / f"{decoder}-figures" / "metrics.csv"):
        if row["metric"] == "dice":
            print(f"| {decoder} | {row['label']} | {row['value']} | {row['ci_low']} to {row['ci_high']} | {row['n']} |")


def _anymc3d(*words: object) -> None:
    subprocess.run([sys.executable, "-m", "anymc3d", *map(str, words)], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--backbone", type=Path, required=True)
    parser.add_argument("--decoder", choices=DECODERS)
    parser.add_argument("--epochs", type=int, default=8)
    args = parser.parse_args()
    write_task(args.out, args.data.resolve(), args.backbone.resolve(), args.epochs)
    for decoder in [args.decoder] if args.decoder else DECODERS:
        run(args.out, decoder)


if __name__ == "__main__":
    main()
