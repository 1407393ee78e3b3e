"""Training with LoRA over the outer folds, from the frozen solution, and whether it joins the blend.

In each outer fold the sight is the one that answered that fold's training cases best, whatever the representation; a
fifth of these cases is kept from training, chooses the epoch, and decides on the weight of the trained member beside
the frozen blend. Only then the fold's own cases are answered. The plugin holds the trained members of all folds, each
with an equal part of a weight that is chosen on the pooled out-of-fold cases.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anymc3d.automl.amount import BATCH, Amount
from anymc3d.automl.blend import case_losses, fit_weights, paired
from anymc3d.automl.clinical import head_logits
from anymc3d.automl.data import AutoData
from anymc3d.automl.estimate import Scored
from anymc3d.automl.settings import AutoSettings
from anymc3d.data.manifest import write_manifest
from anymc3d.data.splits import make_splits
from anymc3d.evaluate import outputs
from anymc3d.files.private import make_private
from anymc3d.files.tables import read_table
from anymc3d.plugins import Plugin, load_plugin
from anymc3d.predict.cohort import predict_cohort
from anymc3d.predict.predictor import Predictor
from anymc3d.settings.config import LabelSettings, TaskSettings
from anymc3d.settings.training import MethodSettings, TrainSettings
from anymc3d.train.fit import fit
from anymc3d.train.quick.crossval import Pool
from anymc3d.train.run_folder import RunFolder

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]

FIRST, SECOND = "frozen", "random"
STARTS: Mapping[str, Mapping[str, Any]] = {
    FIRST: {"start": "frozen", "trained_share": 1.0},
    SECOND: {"start": "random", "standardise": True},
}
"""What a training may start from: the frozen solution, or random values on standardised embeddings with the rates and
the loss of the paper. It goes all of the way: what it does to cases that chose nothing is measured before it joins."""
VALIDATION = 0.2
"""Of a fold's training cases."""
_LEAST_SPREAD = 0.05
"""Of the widest: a training that says the same of all cases is not blown up."""


@dataclass(frozen=True, eq=False)
class TrainedFold:
    """One training. ``val``: positions in the pool of the cases that chose, with their head logits ``val_logits``;
    ``held_out``: those of the fold, with ``out_logits``; ``task``: with the sight that was taken."""

    plugin: Plugin
    task: TaskSettings
    sight: str
    val: Rows
    val_logits: Floats
    held_out: Rows
    out_logits: Floats


def best_sight(
    able: Sequence[Scored], scored: Sequence[Scored], targets: Floats, labels: LabelSettings, number: int
) -> Scored:
    """Of ``able`` the candidate of the sight that shows most on the training cases of outer fold ``number``.

    ``targets`` are of these cases. What a sight shows is the lowest held-out cross-entropy of all its candidates in
    ``scored``: what patch tokens or earlier blocks know of a scan, training can bring to the class token.
    """
    shows: dict[str, float] = {}
    for one in scored:
        loss = float(case_losses(one.inner[number], targets, labels).sum())
        shows[one.candidate.family] = min(loss, shows.get(one.candidate.family, math.inf))
    return min(able, key=lambda one: shows[one.candidate.family])


def train_fold(
    folder: Path,
    data: AutoData,
    number: int,
    chosen: Scored,
    amount: Amount,
    *,
    start: str = FIRST,
    seed: int,
    device: str,
    quiet: bool,
) -> TrainedFold:
    """Train without outer fold ``number`` and answer it; the same call again resumes.

    ``start``: one of ``STARTS``.

    Raises:
        AnyMC3DError: as :func:`anymc3d.train.fit.fit`.
    """
    pool = data.pool
    rest, held_out = np.flatnonzero(pool.folds != number), np.flatnonzero(pool.folds == number)
    fractions = (1 - VALIDATION, VALIDATION, 0.0)
    dealt = make_splits(pool.of(rest), pool.strata(rest), fractions=fractions, seed=seed + number)
    splits = np.full(len(pool), "test", dtype=object)
    splits[rest] = dealt
    fold_dir = folder / (f"fold_{number}" if start == FIRST else f"fold_{number}_{start}")
    make_private(fold_dir)
    manifest = fold_dir / "cases.csv"
    write_manifest(manifest, data.manifest, {"split": splits.tolist()}, cases=data.cases)
    task = _task(chosen.candidate.task, manifest, number, amount, start, seed)
    drawn_by = data.segmenters
    path = fit(task, fold_dir / "run", device=device, segmenters=drawn_by, quiet=quiet)
    val = np.array([row for row, split in zip(rest, dealt, strict=True) if split == "val"], dtype=np.intp)
    val_rows = {row["case"]: row for row in read_table(RunFolder(fold_dir / "run").predictions)}
    plugin = load_plugin(path)
    predictor = Predictor([plugin], backbone=task.backbone.name, device=device, segmenters=drawn_by)
    answers = predict_cohort(predictor, [data.cases[row] for row in held_out], fold_dir / "held_out", quiet=quiet).rows
    val_logits = _head_logits([val_rows[data.cases[row].id] for row in val], data)
    return TrainedFold(plugin, task, chosen.candidate.family, val, val_logits, held_out, _head_logits(answers, data))


def better_start(first: TrainedFold, second: TrainedFold, pool: Pool, settings: AutoSettings) -> TrainedFold:
    """Of two trainings of one fold the second, if it lowers the cross-entropy on the cases that were kept from both by
    more than ``margin`` standard errors. A number of their own is fitted to either first: loss functions differ in how
    sure they make a network."""
    known = np.isfinite(first.val_logits).all(axis=1) & np.isfinite(second.val_logits).all(axis=1)
    rows = first.val[known]
    both_logits = [start.val_logits[known] for start in (first, second)]
    targets = pool.targets[rows]
    scaled = [fit_weights([logits], targets, pool.labels)[0] * logits for logits in both_logits]
    losses = [case_losses(logits, targets, pool.labels) for logits in scaled]
    gain, error = paired(losses[0], losses[1], pool.of(rows))
    return second if gain > settings.margin * error else first


def fold_scales(trained: Sequence[TrainedFold], labels: LabelSettings) -> list[float]:
    """Factors with mean 1 that give the logits of all trainings the same spread over their own validation cases.

    Short trainings differ several times in how sure they are: without, the mean of the folds' members would be the
    answer of the surest, and cases of different folds could not be compared.
    """
    if labels.is_number:
        return [1.0] * len(trained)
    spreads = np.array([spread(fold.val_logits, labels) for fold in trained])
    widest = spreads.max()
    inverse = 1 / np.maximum(spreads, _LEAST_SPREAD * widest) if widest > 0 else np.ones(len(trained))
    return [float(value) for value in inverse / inverse.mean()]


def spread(logits: Floats, labels: LabelSettings) -> float:
    """Standard deviation over cases of logits (n, K); of exclusive classes only their differences count."""
    known = logits[np.isfinite(logits).all(axis=1)]
    if not len(known):
        return 0.0
    if labels.one_of_classes:
        known = known - known.mean(axis=1, keepdims=True)
    return float(np.sqrt(known.var(axis=0).mean()))


def _task(base: TaskSettings, manifest: Path, number: int, amount: Amount, start: str, seed: int) -> TaskSettings:
    train = TrainSettings(
        **STARTS[start],
        epochs=amount.epochs,
        batch_size=BATCH,
        copies=amount.copies,
        chunk_size=base.train.chunk_size,
        recompute=base.train.recompute,
        seed=seed + number,
    )
    return replace(
        base,
        name=f"{base.name}-lora-{number}" + ("" if start == FIRST else f"-{start}"),
        data=replace(base.data, manifest=str(manifest.absolute())),
        method=MethodSettings(blocks=amount.blocks),
        fusion="query",
        train=train,
        augmentation=base.augmentation if amount.copies > 1 else "none",
        calibration="none",
    )


def _head_logits(rows: Sequence[dict[str, str]], data: AutoData) -> Floats:
    """Rows of predictions -> (n, K), of a number in standard units; NaN of a case without an answer."""
    labels = data.labels
    what = outputs.VALUE if labels.is_number else "logit"
    cells = [[row.get(f"{what}.{name}") or "nan" for name in labels.output_names] for row in rows]
    raw = np.array(cells, dtype=np.float64).reshape(len(rows), len(labels.output_names))
    return head_logits(raw if data.scale is None else data.scale.standard(raw), labels)


@dataclass(frozen=True)
class Share:
    """Weights of the frozen blend and of the trained member; that of the trained one is 0 where it brought nothing."""

    frozen: float
    trained: float

    def mixed(self, frozen: Floats, trained: Floats) -> Floats:
        """The weighted mean of logits (n, K)."""
        if self.trained == 0:
            return frozen
        return (self.frozen * frozen + self.trained * trained) / (self.frozen + self.trained)


def choose_share(
    frozen: Floats,
    trained: Floats,
    targets: Floats,
    labels: LabelSettings,
    patients: Sequence[str],
    settings: AutoSettings,
) -> Share:
    """The trained member joins if it lowers the cross-entropy by more than ``margin`` standard errors."""
    known = np.isfinite(trained).all(axis=1)
    frozen, trained, targets = frozen[known], trained[known], targets[known]
    patients = [patient for patient, is_known in zip(patients, known, strict=True) if is_known]
    alone = fit_weights([frozen], targets, labels)
    both = fit_weights([frozen, trained], targets, labels)
    before = case_losses(alone[0] * frozen, targets, labels)
    after = case_losses(both[0] * frozen + both[1] * trained, targets, labels)
    gain, error = paired(before, after, patients)
    if both[1] <= 0 or gain <= settings.margin * error:
        return Share(1.0, 0.0)
    return Share(float(both[0]), float(both[1]))
