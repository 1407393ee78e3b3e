"""What calibrating for CRG gains: 18 labels as in the VLM3D challenge, simulated, scored as the challenge scores.

Labels of prevalence 0.07 to 0.45, normal scores with an AUROC of about 0.885; 2,000 validation and 3,000 test cases a
draw. Thresholds from validation, scores of test. One row chooses each label's threshold by its own prevalence, as if
every label were a challenge of its own; ``crg`` chooses by the prevalence of all cells, which is what is scored.

    python benchmarks/crg_calibration.py > benchmarks/crg_calibration.md
"""

from __future__ import annotations

import argparse
import math

import numpy as np

from anymc3d.evaluate.operating_points import choose
from anymc3d.evaluate.outputs import probabilities
from anymc3d.evaluate.task_calibration import choose_points, fit_task
from anymc3d.settings.config import LabelSettings
from anymc3d.vlm3d.labels import LABELS
from anymc3d.vlm3d.scores import challenge_metrics

SETTINGS = LabelSettings(columns=LABELS, kind="multilabel")
PREVALENCES = np.linspace(0.07, 0.45, len(LABELS))
DISTANCE = 1.7
"""Between the means of positives and negatives, in standard deviations: an AUROC of 0.885."""
STRATEGIES = ("none", "f1", "crg, by each label's own prevalence", "crg", "f1_crg")


def draw(rng: np.random.Generator, num_cases: int) -> tuple[np.ndarray, np.ndarray]:
    """Targets and raw logits (num_cases, labels); logits are the true log-odds, too steep and too high, as those
    of a network whose loss favours rare positives. The rows but the first do not depend on that."""
    targets = (rng.random((num_cases, len(LABELS))) < PREVALENCES).astype(float)
    scores = rng.normal(size=targets.shape) + DISTANCE * targets
    log_odds = DISTANCE * (scores - DISTANCE / 2) + np.log(PREVALENCES / (1 - PREVALENCES))
    return targets, 4 * log_odds + 1.25


def calibrated(strategy: str, targets: np.ndarray, raw: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Probabilities (n, labels) of the test cases."""
    if strategy == "none":
        return probabilities(test, "multilabel")
    if strategy in ("f1", "crg", "f1_crg"):
        points = choose_points(targets, raw, strategy)
    else:
        points = [choose("crg", targets[:, j], raw[:, j]) for j in range(raw.shape[1])]
    fitted = fit_task(targets, raw, SETTINGS, points, method="platt")
    return probabilities(fitted.apply(test), "multilabel")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=10)
    args = parser.parse_args()
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in STRATEGIES}
    for number in range(args.draws):
        rng = np.random.default_rng(number)
        targets, raw = draw(rng, 2000)
        truth, test = draw(rng, 3000)
        for name in STRATEGIES:
            scores = challenge_metrics(truth, calibrated(name, targets, raw, test))
            macro = scores["classification"]["macro"]
            found[name].append((macro["auroc"], macro["f1"], scores["crg"]["CRG"]))
    print("# Calibrating for CRG, simulated\n")
    print(f"Mean of {args.draws} draws (standard deviation between draws).\n")
    print("    python benchmarks/crg_calibration.py > benchmarks/crg_calibration.md\n")
    print("| chosen for | macro AUROC | macro F1 | CRG | CRG gained |")
    print("|---|---|---|---|---|")
    base = np.array(found["none"])[:, 2]
    for name, rows in found.items():
        values = np.array(rows)
        cells = [
            f"{mean:.4f} ({sd:.4f})" for mean, sd in zip(values.mean(axis=0), values.std(axis=0, ddof=1), strict=True)
        ]
        gain = values[:, 2] - base
        error = gain.std(ddof=1) / math.sqrt(len(gain))
        print(f"| {name} | {' | '.join(cells)} | {gain.mean():+.4f} (standard error {error:.4f}) |")


if __name__ == "__main__":
    main()
