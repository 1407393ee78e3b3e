"""Simulated coverage of the 95 % intervals of ``anymc3d evaluate``: few patients, several scans of each, rare outcomes.

Patients have a shift of their own that makes half of the variance of a score; outcomes differ from scan to scan. What
is covered is the value of the metric in a population of patients. Beside the package's own intervals stand the usual
bootstraps by patient (percentile, basic, BCa), on equal resamples. From the repository's root, six minutes
of one core:

    python benchmarks/intervals.py > benchmarks/intervals.md
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np
from scipy.special import expit, ndtr, ndtri

from anymc3d.evaluate import weighted
from anymc3d.evaluate.delong import delong_paired_test
from anymc3d.evaluate.measures import LabelCases, Sampling, label_measures

PATIENTS, SCANS = (5, 10, 20, 50), (1, 4, 12)
PREVALENCE, DISTANCE, THRESHOLD = 0.4, 1.2, 0.6
METRICS = ("auroc", "average_precision", "brier", "sensitivity", "accuracy", "balanced_accuracy", "f1", "crg")
RESAMPLES = 300
OTHERS = ("percentile", "basic", "BCa")
COMPARED = ("auroc", "average_precision", "f1")
Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]


def draw(rng: np.random.Generator, num_patients: int, scans: int, second: bool = False) -> tuple[np.ndarray, ...]:
    """Targets, scores and patients (n,); ``second``: also the scores of another, equally good system."""
    own = np.repeat(np.arange(num_patients), scans)
    targets = (rng.random(own.size) < PREVALENCE).astype(float)
    shared, *apart = (_noise(rng, own, share) for share in ((1.0,) if not second else (0.6, 0.4, 0.4)))
    scores = [DISTANCE * targets + shared + part for part in (apart or [0.0])]
    return targets, own, *scores


def _noise(rng: np.random.Generator, own: np.ndarray, share: float) -> np.ndarray:
    shift = rng.normal(size=own.max() + 1)[own]
    return np.sqrt(share / 2) * (shift + rng.normal(size=own.size))


def as_cases(targets: np.ndarray, scores: np.ndarray) -> LabelCases:
    """What ``evaluate`` works on; the probabilities are a fixed, slightly wrong map of the scores."""
    decided = (scores > THRESHOLD).astype(float)
    rows = np.arange(targets.size)
    return LabelCases("y", rows, targets, scores, expit(1.2 * scores - 1), {"plugin": decided})


def truths() -> dict[str, float]:
    """Every metric in a population of a million patients with one scan each."""
    targets, _, scores = draw(np.random.default_rng(0), 1_000_000, 1)
    cases, once = as_cases(targets, scores), np.ones((1, targets.size))
    counts = weighted.confusion(targets, cases.decisions["plugin"], once)
    found = {name: getattr(weighted, name)(counts) for name in METRICS[3:]}
    found |= {name: getattr(weighted, name)(targets, scores, once) for name in METRICS[:2]}
    found["brier"] = weighted.brier(targets, cases.probabilities, once)
    return {name: float(value[0]) for name, value in found.items()}


def ours(cases: LabelCases, own: np.ndarray) -> Iterator[tuple[str, float, float, float]]:
    """Metric, value and interval, where there is one."""
    for one in label_measures(cases, own.astype(object), Sampling(num_resamples=RESAMPLES)):
        if one.interval.low is not None:
            yield one.metric, one.value.value, one.interval.low, one.interval.high


def usual(
    metric: str, cases: LabelCases, own: np.ndarray, rng: np.random.Generator
) -> Mapping[str, tuple[float, float]]:
    """Percentile, basic and BCa interval: whole patients, those with a positive and those without apart."""

    def value(weights: np.ndarray) -> np.ndarray:
        if metric == "f1":
            return weighted.f1(weighted.confusion(cases.targets, cases.decisions["plugin"], weights))
        return getattr(weighted, metric)(cases.targets, cases.scores, weights)

    has_positive = np.bincount(own, cases.targets) > 0
    counts = np.ones((RESAMPLES, has_positive.size))
    for members in (np.flatnonzero(has_positive), np.flatnonzero(~has_positive)):
        if members.size:
            drawn = rng.integers(members.size, size=(RESAMPLES, members.size))
            counts[:, members] = (drawn[:, :, None] == np.arange(members.size)).sum(axis=1)
    estimate = float(value(np.ones((1, own.size)))[0])
    draws = value(counts[:, own])
    draws = draws[~np.isnan(draws)]
    without = value((1 - np.eye(has_positive.size))[:, own])
    low, high = np.quantile(draws, [0.025, 0.975])
    return {
        "percentile": (low, high),
        "basic": (2 * estimate - high, 2 * estimate - low),
        "BCa": _bca(estimate, draws, without[~np.isnan(without)]),
    }


def _bca(estimate: float, draws: np.ndarray, without: np.ndarray) -> tuple[float, float]:
    below = (draws < estimate).mean() + (draws == estimate).mean() / 2
    bias = ndtri(np.clip(below, 1e-3, 1 - 1e-3))
    apart = without.mean() - without
    skew = (apart**3).sum() / max(6 * (apart**2).sum() ** 1.5, 1e-300)
    shares = [ndtr(bias + (bias + z) / (1 - skew * (bias + z))) for z in (-1.96, 1.96)]
    low, high = np.quantile(draws, shares)
    return float(low), float(high)


def by_patients(runs: int) -> None:
    """Tables 1 and 2: patients by scans."""
    truth = truths()
    heads = [*METRICS, "difference of two AUROCs"]
    lines, others, excluded = [], [], Counter()
    for num_patients in PATIENTS:
        for scans in SCANS:
            rng = np.random.default_rng(1000 * num_patients + scans)
            hits: Counter[str] = Counter()
            there: Counter[str] = Counter()
            for _ in range(runs):
                targets, own, scores, rival = draw(rng, num_patients, scans, second=True)
                if len(np.unique(targets)) < 2:
                    continue
                cases = as_cases(targets, scores)
                for metric, value, low, high in ours(cases, own):
                    there[metric] += 1
                    hits[metric] += low <= truth.get(metric, value) <= high
                    excluded["ours"] += not low <= value <= high
                    if metric in COMPARED:
                        for name, (low, high) in usual(metric, cases, own, rng).items():
                            hits[f"{metric} {name}"] += low <= truth[metric] <= high
                            excluded[name] += not low <= value <= high
                test = delong_paired_test(targets, scores, rival, patients=own)
                if test.interval.low is not None:
                    there[heads[-1]] += 1
                    hits[heads[-1]] += test.interval.low <= 0 <= test.interval.high
            place = f"| {num_patients} | {scans} |"
            lines.append(f"{place} {' | '.join(_cell(hits[name], there[name], runs) for name in heads)} |")
            cells = [
                f"{hits[f'{metric} {name}'] / max(1, there[metric]):.2f}" for metric in COMPARED for name in OTHERS
            ]
            others.append(f"{place} {' | '.join(cells)} |")
    print(
        f"\n## Patients by scans of each\n\n{runs} data sets a line; in brackets how many of them have an interval.\n"
    )
    print(f"| patients | scans | {' | '.join(heads)} |\n|{'---|' * (len(heads) + 2)}")
    print("\n".join(lines))
    print("\n## The usual bootstraps on the same data\n")
    print(f"| patients | scans | {' | '.join(f'{metric}, {name}' for metric in COMPARED for name in OTHERS)} |")
    print(f"|{'---|' * (len(COMPARED) * len(OTHERS) + 2)}")
    print("\n".join(others))
    print(f"\nIntervals that exclude their own estimate: {', '.join(f'{n} {excluded[n]}' for n in ('ours', *OTHERS))}.")


def by_positives(runs: int) -> None:
    """Table 3: few positives among independent cases, sensitivity 0.8 and specificity 0.85 in truth."""
    print("\n## Few positives\n\n57 negatives, independent cases, sensitivity 0.8 and specificity 0.85 in truth.\n")
    print(
        "| positives | " + " | ".join((*METRICS[:3], *METRICS[5:], "F1, percentile bootstrap")) + " |\n|" + "---|" * 8
    )
    for num_positive in (1, 2, 3, 5, 9, 10, 20):
        rng = np.random.default_rng(num_positive)
        targets = np.r_[np.ones(num_positive), np.zeros(57)]
        own = np.arange(targets.size)
        truth = _truth_of(num_positive)
        hits: Counter[str] = Counter()
        there: Counter[str] = Counter()
        for _ in range(runs):
            cases = as_cases(targets, _scores(rng, targets))
            for metric, _, low, high in ours(cases, own):
                there[metric] += 1
                hits[metric] += metric in truth and low <= truth[metric] <= high
            low, high = usual("f1", cases, own, rng)["percentile"]
            hits["usual"] += low <= truth["f1"] <= high
        cells = [_cell(hits[name], there[name], runs) for name in (*METRICS[:3], *METRICS[5:])]
        print(f"| {num_positive} | {' | '.join(cells)} | {hits['usual'] / runs:.2f} |")


def _scores(rng: np.random.Generator, targets: np.ndarray) -> np.ndarray:
    """Normal scores of which 0.8 of the positives and 0.15 of the negatives are above the threshold."""
    means = np.where(targets == 1, THRESHOLD + ndtri(0.8), THRESHOLD + ndtri(0.15))
    return means + rng.normal(size=targets.size)


def _truth_of(num_positive: int) -> dict[str, float]:
    """The metrics of endless cases in this proportion."""
    targets = np.r_[np.ones(2000 * num_positive), np.zeros(2000 * 57)]
    scores = _scores(np.random.default_rng(0), targets)
    cases, once = as_cases(targets, scores), np.ones((1, targets.size))
    counts = weighted.confusion(targets, cases.decisions["plugin"], once)
    found = {name: getattr(weighted, name)(counts) for name in METRICS[5:]}
    found |= {name: getattr(weighted, name)(targets, scores, once) for name in METRICS[:2]}
    found["brier"] = weighted.brier(targets, cases.probabilities, once)
    return {name: float(value[0]) for name, value in found.items()}


def _cell(hits: int, there: int, runs: int) -> str:
    if there == 0:
        return "no interval"
    return f"{hits / there:.2f}" + (f" ({there / runs:.0%})" if there < runs else "")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000, help="data sets a line")
    args = parser.parse_args()
    print("# Coverage of 95 % intervals, simulated\n\n    python benchmarks/intervals.py > benchmarks/intervals.md")
    by_patients(args.runs)
    by_positives(args.runs)


if __name__ == "__main__":
    main()
