"""Rules of blending the candidates of ``anymc3d auto``, compared on its nested logits; test cases are not looked at.

    python benchmarks/blends.py MANIFEST LABEL OUT [--minutes 10] [--backbone FOLDER]

Runs ``auto`` and scores each rule in the outer folds: it chooses on logits of a fold's training cases, each by a fit
without its patient, and answers the fold once. CE: mean cross-entropy, of binary labels AUROC beside it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

import anymc3d
from anymc3d.automl import joined
from anymc3d.automl.blend import best_single, case_losses, choose_blend, fit_weights, paired


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest")
    parser.add_argument("label")
    parser.add_argument("out")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--backbone")
    args = parser.parse_args()
    kept: list[Any] = []
    own = joined.estimate

    def listen(scored: Sequence[Any], pool: Any, settings: Any) -> Any:
        kept[:] = [scored, pool]
        return own(scored, pool, settings)

    joined.estimate = listen
    anymc3d.auto(args.manifest, args.label, args.out, minutes=args.minutes, backbone=args.backbone)
    scored, pool = kept
    sys.stdout.write(f"{len(scored)} candidates, {len(pool)} cases\n| rule | CE | AUROC |\n|---|---|---|\n")
    for name, rule in RULES.items():
        logits = np.full_like(scored[0].out, np.nan)
        for number in range(len(pool.fold_names)):
            train, out = np.flatnonzero(pool.folds != number), np.flatnonzero(pool.folds == number)
            found = [one.inner[number] for one in scored]
            families = [one.candidate.family for one in scored]
            weights = rule(found, families, pool.targets[train], pool.labels, pool.of(train))
            logits[out] = sum(weight * scored[index].out[out] for index, weight in weights.items())
        loss = case_losses(logits, pool.targets, pool.labels).mean()
        sys.stdout.write(f"| {name} | {loss:.3f} | {pool.auroc(logits).value:.3f} |\n")


def single(found: Any, families: Any, targets: Any, labels: Any, patients: Any) -> dict[int, float]:
    return {best_single(found, targets, labels, patients, margin=1.0): 1.0}


def one_by_one(
    found: Any, families: Any, targets: Any, labels: Any, patients: Any, *, margin: float
) -> dict[int, float]:
    """From the best single one, each further one only if it lowers the cross-entropy by ``margin`` standard errors."""
    members = [best_single(found, targets, labels, patients, margin=1.0)]
    weights = fit_weights([found[members[0]]], targets, labels)
    losses = case_losses(weights[0] * found[members[0]], targets, labels)
    while len(members) < 4:
        tried = []
        for index in (i for i in range(len(found)) if i not in members):
            own = fit_weights([found[i] for i in (*members, index)], targets, labels)
            mixed = sum(weight * found[i] for weight, i in zip(own, (*members, index), strict=True))
            tried.append((case_losses(mixed, targets, labels), index, own))
        after, index, own = min(tried, key=lambda one: float(one[0].sum()))
        gain, error = paired(losses, after, patients)
        if gain <= margin * error:
            break
        members, weights, losses = [*members, index], own, after
    return {i: float(w / weights.sum()) for i, w in zip(members, weights, strict=True)}


def equal(found: Any, families: Any, targets: Any, labels: Any, patients: Any) -> dict[int, float]:
    return {index: 1 / len(found) for index in range(len(found))}


def by_family(found: Any, families: Any, targets: Any, labels: Any, patients: Any) -> dict[int, float]:
    """What ``auto`` does."""
    weights = choose_blend(found, families, targets, labels, patients, most=6, margin=1.0).weights
    return {index: weight / sum(weights.values()) for index, weight in weights.items()}


def near_the_best(
    found: Any, families: Any, targets: Any, labels: Any, patients: Any, *, within: float
) -> dict[int, float]:
    """As ``auto``, of those families alone whose loss is within so many standard errors of the lowest."""
    losses = [case_losses(logits, targets, labels) for logits in found]
    best = {
        name: min((i for i, own in enumerate(families) if own == name), key=lambda i: float(losses[i].sum()))
        for name in dict.fromkeys(families)
    }
    lowest = min(best.values(), key=lambda i: float(losses[i].sum()))
    worse = {name: paired(losses[i], losses[lowest], patients) for name, i in best.items()}
    near = {name for name, (loss, error) in worse.items() if loss <= within * error}
    kept = [i for i, name in enumerate(families) if name in near]
    weights = by_family([found[i] for i in kept], [families[i] for i in kept], targets, labels, patients)
    return {kept[place]: weight for place, weight in weights.items()}


RULES: dict[str, Callable[..., dict[int, float]]] = {
    "the best single one": single,
    "one by one, more than one standard error": partial(one_by_one, margin=1.0),
    "one by one, whatever helps": partial(one_by_one, margin=0.0),
    "all, equal weights": equal,
    "one of each family, held near equal weights": by_family,
    "the same, families within one standard error of the best": partial(near_the_best, within=1.0),
    "the same, within two": partial(near_the_best, within=2.0),
}

if __name__ == "__main__":
    main()
