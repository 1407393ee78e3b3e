"""Coverage of conformal prediction sets on real predictions: val rows to test rows, and over random halves of both.

    python benchmarks/prediction_sets.py PLUGIN PREDICTIONS.csv MANIFEST

``PREDICTIONS.csv`` holds the val and test rows, by ``anymc3d predict``. The first table fits the sets on
the val rows and counts them on the test rows, as ``calibrate --coverage`` and ``evaluate`` do. The second takes 200
random halves of val and test rows together, which are exchangeable: there the promise must hold on average.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from anymc3d.evaluate.conformal import PredictionSets, fit_sets
from anymc3d.plugins import load_plugin
from anymc3d.plugins.recalibrate import ScoredCases, read_scored
from anymc3d.settings.config import LabelSettings

COVERAGES = (0.8, 0.9, 0.95)
HALVES = 200


def counted(sets: PredictionSets, targets: np.ndarray, raw: np.ndarray, labels: LabelSettings) -> np.ndarray:
    """Coverage of all, positive and negative cases, share of sets with one answer, with both and with none."""
    allowed = sets.answers(raw, labels)[:, 0]
    truth = targets[:, 0].astype(int)
    held, size = allowed[np.arange(len(truth)), truth], allowed.sum(axis=1)
    right = [held.mean(), held[truth == 1].mean(), held[truth == 0].mean()]
    return np.array([*right, (size == 1).mean(), (size == 2).mean(), (size == 0).mean()])


def fitted(cases: ScoredCases, rows: np.ndarray, labels: LabelSettings, coverage: float) -> PredictionSets:
    patients = [cases.patients[i] for i in rows]
    return fit_sets(cases.targets[rows], cases.raw[rows], labels, patients, coverage=coverage, split="val")


def table(rows: dict[float, tuple[np.ndarray, np.ndarray | None]]) -> Iterator[str]:
    yield "| asked | all | positive | negative | one answer | both | none |"
    yield "|---|---|---|---|---|---|---|"
    for coverage, (values, spread) in rows.items():
        shown = [
            f"{v:.3f}" + ("" if spread is None else f" (SD {s:.3f})")
            for v, s in zip(values, values if spread is None else spread, strict=True)
        ]
        yield f"| {coverage:g} | {' | '.join(shown)} |"


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("plugin", "predictions", "manifest"):
        parser.add_argument(name, type=Path)
    args = parser.parse_args()
    plugin = load_plugin(args.plugin)
    labels = plugin.card.labels
    cases = read_scored(plugin, args.predictions, args.manifest)
    splits = np.array(cases.splits)
    val, test = (np.flatnonzero(splits == name) for name in ("val", "test"))
    official, halves = {}, {}
    rng = np.random.default_rng(0)
    both = np.concatenate([val, test])
    for coverage in COVERAGES:
        sets = fitted(cases, val, labels, coverage)
        official[coverage] = counted(sets, cases.targets[test], cases.raw[test], labels), None
        drawn = []
        for _ in range(HALVES):
            order = rng.permutation(both)
            one, other = order[: len(order) // 2], order[len(order) // 2 :]
            drawn.append(counted(fitted(cases, one, labels, coverage), cases.targets[other], cases.raw[other], labels))
        halves[coverage] = np.mean(drawn, axis=0), np.std(drawn, axis=0)
    print(f"fitted on {len(val)} val rows, counted on {len(test)} test rows\n")
    print("\n".join(table(official)))
    print(f"\nmean of {HALVES} random halves of these {len(both)} rows\n")
    print("\n".join(table(halves)))


if __name__ == "__main__":
    main()
