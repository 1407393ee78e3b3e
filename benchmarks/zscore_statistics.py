"""Should the mean and standard deviation of a backbone's images be applied to MR that is normalised already?

260 real MR crops of the hippocampus (Medical Segmentation Decathlon, Task04) with a yes/no label made from their masks
(volume below the median): a label, not a diagnosis. Crops of one size, so that their extent says nothing; coronal
slices; frozen class tokens, their mean, logistic regression; five times five folds. From the repository's root, two
minutes on one core:

    python benchmarks/zscore_statistics.py FOLDER BACKBONE > benchmarks/zscore_statistics.md

FOLDER holds ``images/*.nii.gz`` and ``labels.csv`` (columns ``id``, ``small_volume``); BACKBONE is a DINOv2 ViT-S/14.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from anymc3d.data.preprocess import prepare_view
from anymc3d.data.readers import read_volume
from anymc3d.files.tables import read_table
from anymc3d.models.classifier import Encoding, PackedSlices, VolumeClassifier, to_backbone_input
from anymc3d.models.store import find_backbone
from anymc3d.settings.views import ViewSettings

FIELD_MM = (32.0, 32.0, 40.0)
"""x, z and y of a coronal view."""
SIZE = (56, 56, 4)
CHOICES = (("zscore", "backbone"), ("zscore", "none"), ("percentile", "backbone"), ("percentile", "none"))
REPEATS = 5


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("backbone")
    args = parser.parse_args()
    backbone = find_backbone(args.backbone)
    rows = read_table(args.folder / "labels.csv")
    volumes = [read_volume(args.folder / "images" / f"{row['id']}.nii.gz") for row in rows]
    outcome = np.array([int(row["small_volume"]) for row in rows])
    print("# The backbone's mean and standard deviation on normalised MR\n")
    print(f"{len(rows)} hippocampus crops, {outcome.sum()} of them positive; AUROC of {REPEATS} x 5 folds.\n")
    print("    python benchmarks/zscore_statistics.py FOLDER BACKBONE > benchmarks/zscore_statistics.md\n")
    print("| normalise | statistics | the network's input: mean, sd, largest | AUROC (sd between repeats) |")
    print("|---|---|---|---|")
    for normalise, statistics in CHOICES:
        view = ViewSettings(
            size=SIZE, plane="coronal", field_of_view=FIELD_MM, normalise=normalise, statistics=statistics
        )
        features, seen = embed(volumes, view, backbone)
        scores = [auroc(features, outcome, seed) for seed in range(REPEATS)]
        shown = f"{seen.mean():.2f}, {seen.std():.2f}, {seen.max():.1f}"
        print(f"| {normalise} | {statistics} | {shown} | {np.mean(scores):.3f} ({np.std(scores, ddof=1):.3f}) |")


def embed(volumes: list, view: ViewSettings, backbone) -> tuple[np.ndarray, np.ndarray]:
    """Mean class token of every volume (n, D), and what reached the network."""
    standardised = ["image"] if view.is_standardised else []
    encoder = VolumeClassifier(
        backbone.module, views=("image",), num_logits=2, rank=None, standardised=standardised
    ).eval()
    encoding = Encoding(mean=backbone.card.mean, std=backbone.card.std)
    tokens, seen = [], []
    with torch.inference_mode():
        for volume in volumes:
            slices = torch.from_numpy(prepare_view(volume, view).slices)
            packed = PackedSlices(slices, (len(slices),))
            tokens.append(encoder.encode(backbone.module, "image", packed, encoding).mean(dim=0).numpy())
            seen.append(to_backbone_input(slices, 14, encoder.seen_as("image", encoding)).numpy())
    return np.stack(tokens), np.concatenate(seen)


def auroc(features: np.ndarray, outcome: np.ndarray, seed: int) -> float:
    """Of out-of-fold log-odds."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000))
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    found = cross_val_predict(model, features, outcome, cv=folds, method="decision_function")
    return float(roc_auc_score(outcome, found))


if __name__ == "__main__":
    main()
