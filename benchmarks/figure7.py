"""The paper's Figure 7 on planted lesions: does learning from masks help the classifier when labels are scarce?

The demo's lesions (rings against solid lesions of the same grey values, in deformed real anatomy): 8 training cases a
seed, 4 of them with their mask, 20 validation and 100 test cases; every seed has training cases of its own, all seeds
and decoders share validation and test. Test labels choose nothing. From the repository's root:

    python benchmarks/figure7.py run OUT --backbone WEIGHTS      # trains, predicts, evaluates; goes on after a kill
    python benchmarks/figure7.py table OUT                       # the table of segmentation.md
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from anymc3d.demo.dataset import make_dataset
from anymc3d.evaluate.delong import delong_paired_test
from anymc3d.files.tables import read_table, write_table

DECODERS = ("none", "nnunet", "eomt-2d", "eomt-3d")
SEEDS = (0, 1, 2)
CASES_A_SEED = 8
RESAMPLES = 10_000
TASK = """format: 1
name: figure7
labels: {{columns: [ring], kind: binary, classes: ['0', '1']}}
data: {{manifest: {manifest}, modality: MR}}
views:
  image: {{size: [98, 98, 16], plane: axial, field_of_view: [112, 112, 100]}}
backbone: {backbone}
augmentation: flips
train: {{epochs: 16, batch_size: 2, lora_lr: 2.0e-4, head_lr: 2.0e-3, seed: {seed}}}
"""


def write_tasks(out: Path, backbone: Path) -> None:
    """The data, and of every seed its manifest (own training cases, every second mask pair hidden) and task file."""
    whole = make_dataset(out / "data", num_train=CASES_A_SEED * len(SEEDS), num_val=20, num_test=100, seed=7)
    rows = read_table(whole)
    training = [row["case"] for row in rows if row["split"] == "train"]
    for seed in SEEDS:
        own = training[seed * CASES_A_SEED : (seed + 1) * CASES_A_SEED]
        chosen = [dict(row) for row in rows if row["split"] != "train" or row["case"] in own]
        for row in chosen:
            # Cases come in pairs, a ring and a solid lesion: whole pairs keep or lose their masks.
            hidden = row["split"] == "train" and own.index(row["case"]) // 2 % 2 == 1
            row["mask"] = "" if hidden else row["mask"]
        manifest = out / "data" / f"seed{seed}.csv"
        write_table(manifest, list(chosen[0]), chosen)
        text = TASK.format(manifest=manifest.resolve(), backbone=backbone.resolve(), seed=seed)
        (out / f"seed{seed}.yaml").write_text(text, encoding="utf-8")


def run(out: Path, backbone: Path) -> None:
    """Every seed with every decoder, one after the other, with the commands a user would type."""
    write_tasks(out, backbone)
    jobs = [(seed, decoder, out / f"{decoder}-{seed}") for seed in SEEDS for decoder in DECODERS]
    for seed, decoder, job in jobs:
        masks = [] if decoder == "none" else [f"segmentation.decoder={decoder}", "segmentation.keep=true"]
        _anymc3d("train", out / f"seed{seed}.yaml", "-o", job / "run", "--device", "cpu", "--quiet", *masks)
    for seed, decoder, job in jobs:
        wanted = [] if decoder == "none" else ["--segmentation"]
        given = ["-i", out / "data" / f"seed{seed}.csv", "--split", "test", *wanted]
        _anymc3d("predict", "-p", job / "run/plugin.safetensors", *given, "-o", job / "out", "--quiet")


def _anymc3d(*words: object) -> None:
    subprocess.run([sys.executable, "-m", "anymc3d", *map(str, words)], check=True)


def scores(out: Path, decoder: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Truth (n,) and raw logits (n,) of the test cases, in the manifest's order."""
    truth = {
        row["case"]: int(row["ring"]) for row in read_table(out / "data" / "manifest.csv") if row["split"] == "test"
    }
    found = {
        row["case"]: row["logit.ring"] for row in read_table(out / f"{decoder}-{seed}" / "out" / "predictions.csv")
    }
    return np.array(list(truth.values())), np.array([float(found[case]) for case in truth])


def table(out: Path) -> None:
    """AUROC per seed, the paired difference to training without masks, and the Dice of the lesion."""
    truth, _ = scores(out, "none", SEEDS[0])
    logits = {decoder: np.stack([scores(out, decoder, seed)[1] for seed in SEEDS]) for decoder in DECODERS}
    pairs = len(truth) // 2
    draws = np.random.default_rng(0).integers(pairs, size=(RESAMPLES, pairs))
    # A pair shares its lesion: it is drawn or left out whole.
    picked = np.concatenate([2 * draws, 2 * draws + 1], axis=1)
    baseline = [_mean_auroc(truth, logits["none"], rows) for rows in picked]
    print("| decoder | AUROC of each seed | mean | minus none (95 %) | p | DeLong p | Dice of the lesion |")
    print("|---|---|---|---|---|---|---|")
    for decoder in DECODERS:
        each = [roc_auc_score(truth, row) for row in logits[decoder]]
        cells = [decoder, " / ".join(f"{value:.3f}" for value in each), f"{np.mean(each):.3f}"]
        if decoder == "none":
            cells += ["", "", "", ""]
        else:
            change = np.array([_mean_auroc(truth, logits[decoder], rows) for rows in picked]) - baseline
            low, high = np.quantile(change, [0.025, 0.975])
            both = min(1.0, 2 * min((change <= 0).mean(), (change >= 0).mean()))
            seen = np.mean(each) - np.mean([roc_auc_score(truth, row) for row in logits["none"]])
            test = delong_paired_test(truth, logits[decoder].mean(0), logits["none"].mean(0))
            cells += [
                f"{seen:+.3f} ({low:+.3f} to {high:+.3f})",
                f"{both:.3f}",
                f"{test.p_value:.3f}",
                _dice(out, decoder),
            ]
        print("| " + " | ".join(cells) + " |")


def _mean_auroc(truth: np.ndarray, logits: np.ndarray, rows: np.ndarray) -> float:
    """Mean over the seeds of the AUROC of the same resampled cases."""
    picked = truth[rows]
    positive, negative = logits[:, rows[picked == 1]], logits[:, rows[picked == 0]]
    wins = (positive[:, :, None] > negative[:, None, :]).mean(axis=(1, 2))
    ties = (positive[:, :, None] == negative[:, None, :]).mean(axis=(1, 2))
    return float((wins + 0.5 * ties).mean())


def _dice(out: Path, decoder: str) -> str:
    """Mean Dice over the test cases of each seed."""
    means = []
    for seed in SEEDS:
        with (out / f"{decoder}-{seed}" / "out" / "segmentations.csv").open(newline="", encoding="utf-8") as file:
            found = [float(row["dice"]) for row in csv.DictReader(file) if row["dice"]]
        means.append(np.mean(found))
    return " / ".join(f"{value:.2f}" for value in means)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job", choices=("run", "table"))
    parser.add_argument("out", type=Path)
    parser.add_argument("--backbone", type=Path, help="DINOv2 ViT-S/14: a folder or file of weights")
    args = parser.parse_args()
    if args.job == "run":
        run(args.out, args.backbone)
    else:
        table(args.out)


if __name__ == "__main__":
    main()
