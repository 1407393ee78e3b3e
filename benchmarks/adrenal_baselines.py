"""What the plugin must beat on AdrenalMNIST3D: organ volume, and frozen features with a linear probe.

    python benchmarks/adrenal_baselines.py adrenalmnist3d_64.npz --backbone FOLDER -o OUT

Features: the class tokens of one slab (the mean projection) per plane at 98 pixels, joined; a logistic regression on
the training split, its strength C chosen by AUROC on the validation split; "random" is the same network with random
weights. Thresholds by Youden's J on validation. The test split is read once, at the end, by ``anymc3d evaluate``:
OUT/<name>/predictions.csv has its rows.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from anymc3d.data.manifest import Manifest, read_manifest
from anymc3d.data.preprocess import prepare_view
from anymc3d.data.readers import read_volume
from anymc3d.evaluate import outputs
from anymc3d.evaluate.command import evaluate_predictions
from anymc3d.evaluate.metrics import auroc
from anymc3d.evaluate.operating_points import choose
from anymc3d.files.tables import write_table
from anymc3d.models.classifier import Encoding, to_backbone_input
from anymc3d.models.store import find_backbone
from anymc3d.models.vit import random_vit
from anymc3d.settings.views import ViewSettings

PLANES = ("axial", "coronal", "sagittal")
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1)


def features(manifest: Manifest, network: torch.nn.Module, encoding: Encoding) -> np.ndarray:
    """Class tokens of the three mean projections of every case: (n, 3 D)."""
    views = [
        ViewSettings(size=(98, 98, 1), plane=plane, normalise="window", windows=((0.0, 255.0),)) for plane in PLANES
    ]
    rows = []
    for case in manifest.cases:
        volume = read_volume(case.images["image"])
        slices = torch.from_numpy(np.concatenate([prepare_view(volume, view).slices for view in views]))
        with torch.inference_mode():
            tokens = network(to_backbone_input(slices, network.patch_size, encoding)).tokens[:, 0]
        rows.append(tokens.flatten().numpy())
    return np.stack(rows)


def probe(values: np.ndarray, targets: np.ndarray, splits: np.ndarray) -> tuple[np.ndarray, str]:
    """Fit on train, choose C on val; returns log-odds of all rows and what was chosen."""
    train, val = splits == "train", splits == "val"
    fitted = {}
    for strength in STRENGTHS:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=5000))
        scores = model.fit(values[train], targets[train]).decision_function(values)
        fitted[strength] = (auroc(targets[val], scores[val]).value, scores)
    best = max(fitted, key=lambda strength: fitted[strength][0])
    return fitted[best][1], ", ".join(
        f"C={c:g}: val AUROC {v:.3f}" for c, (v, _) in fitted.items()
    ) + f"; chosen C={best:g}"


def report(name: str, manifest: Manifest, scores: np.ndarray, out: Path) -> str:
    """Write predictions of val and test rows, evaluate them, return one line."""
    targets = np.array([int(case.cells["label"]) for case in manifest.cases])
    splits = np.array([case.split for case in manifest.cases])
    val = splits == "val"
    point = choose("youden", targets[val], scores[val])
    probability = outputs.probabilities(scores[:, None], "binary")
    rows = [
        {"case": case.id, "status": "ok", "message": ""}
        | outputs.prediction_cells(
            ("label",), scores[i : i + 1], probability[i], np.array([scores[i] >= point.threshold])
        )
        for i, case in enumerate(manifest.cases)
        if splits[i] != "train"
    ]
    folder = out / name.replace(" ", "-")
    folder.mkdir(parents=True, exist_ok=True)
    write_table(folder / "predictions.csv", outputs.prediction_columns(("label",)), rows)
    study = evaluate_predictions(folder / "predictions.csv", manifest.path, folder / "metrics", overwrite=True)
    wanted = [row for row in study.rows if row["group"] == "all" and row["metric"] in ("auroc", "accuracy")]
    cells = [
        f"{row['metric']} {row['value']:.3f} ({row['ci_low']:.3f} to {row['ci_high']:.3f})"
        for row in wanted
        if row["operating_point"] in ("", "youden")
    ]
    return f"{name}: " + "; ".join(cells)


def main() -> None:
    """Run all three."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("npz", type=Path)
    parser.add_argument("--backbone", required=True)
    parser.add_argument("-o", "--out", type=Path, required=True)
    args = parser.parse_args()
    manifest = read_manifest(args.npz, labels=["label"])
    targets = np.array([int(case.cells["label"]) for case in manifest.cases])
    splits = np.array([case.split for case in manifest.cases])
    volume = np.array([read_volume(case.images["image"]).voxels.mean() for case in manifest.cases])
    sign = 1.0 if auroc(targets[splits == "train"], volume[splits == "train"]).value >= 0.5 else -1.0
    print(report("organ volume alone", manifest, sign * volume / volume.std(), args.out), flush=True)
    loaded = find_backbone(args.backbone)
    encoding = Encoding(mean=loaded.card.mean, std=loaded.card.std)
    networks = {"frozen DINOv2": loaded.module, "frozen random weights": random_vit(loaded.card.config, seed=0).eval()}
    for name, network in networks.items():
        scores, chosen = probe(features(manifest, network, encoding), targets, splits)
        print(f"{name}: {chosen}")
        print(report(name, manifest, scores, args.out), flush=True)


if __name__ == "__main__":
    main()
