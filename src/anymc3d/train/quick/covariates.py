"""Covariates in a quick run: the same nested folds answer for the image, the covariates and both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from anymc3d.data.covariates import with_kinds
from anymc3d.evaluate import outputs
from anymc3d.evaluate.covariates import SAYS
from anymc3d.plugins.covariates import CovariateRecord
from anymc3d.settings.config import TaskSettings
from anymc3d.train.covariates.record import Answers, Cells, TrainedCovariates, answers_of
from anymc3d.train.quick.crossval import NestedResult, Pool, Rows, purpose_seed


def trained(task: TaskSettings, pool: Pool, cells: Sequence[Cells], rows: Rows, *, purpose: str) -> TrainedCovariates:
    """The covariates alone, fitted on some cases of the pool; whether a column holds numbers or categories is what all
    of its cases show."""
    return TrainedCovariates(
        with_kinds(task.covariates, cells),
        [cells[row] for row in rows],
        pool.targets[rows],
        task.labels,
        pool.of(rows),
        seed=purpose_seed(task.data.split_seed, "covariates", purpose) % 2**32,
    )


def nested_answers(task: TaskSettings, pool: Pool, cells: Sequence[Cells], nested_fit: NestedResult) -> Answers:
    """Answers of every case by fits that never saw it: covariates, slopes and image are of its training part."""
    image = outputs.raw_logits(nested_fit.logits, task.labels.kind)
    both, alone = np.full(image.shape, np.nan), np.full(image.shape, np.nan)
    for number, name in enumerate(pool.fold_names):
        held_out, train = np.flatnonzero(pool.folds == number), np.flatnonzero(pool.folds != number)
        fitted = trained(task, pool, cells, train, purpose=f"fold {name}")
        record = fitted.joined_held_out(outputs.raw_logits(nested_fit.inner[number], task.labels.kind))
        part = answers_of(record, image[held_out], [cells[row] for row in held_out])
        both[held_out], alone[held_out] = part.both, part.alone
    return Answers(both, image, alone)


def plugin_record(
    task: TaskSettings, pool: Pool, cells: Sequence[Cells], train: Rows, inner: np.ndarray
) -> CovariateRecord:
    """What the plugin holds; ``inner``: head logits of the training cases by fits on the others."""
    fitted = trained(task, pool, cells, train, purpose="plugin")
    return fitted.joined_held_out(outputs.raw_logits(inner, task.labels.kind))


def report_of(names: Sequence[str], figures: Sequence[dict[str, Any]], plugin: str) -> dict[str, Any]:
    """The part of ``quick.json``: AUROC (or MAE) of both and of either alone, and the paired differences."""
    called = {plugin: "both"} | {f"{plugin}, {words}": words for words in SAYS.values()}
    of_number = any(row["metric"] == "mae" for row in figures)
    metric, difference = ("mae", "mae_difference") if of_number else ("auroc", "auroc_difference")
    rows = [row for row in figures if row["metric"] == metric and row["plugin"] in called and row["label"] != "macro"]
    pairs = [row for row in figures if row["metric"] == difference]
    p_values = {(r["plugin"], r["label"]): r["value"] for r in figures if r["metric"] == f"{difference}_p"}

    def figures_of(row: dict[str, Any], what: str) -> dict[str, Any]:
        numbers = {"value": row["value"], "low": row["ci_low"], "high": row["ci_high"], "reason": row["reason"]}
        return {"what": what, "label": row["label"], **numbers}

    return {
        "of": list(names),
        "metric": "MAE" if of_number else "AUROC",
        "answers": [figures_of(row, called[row["plugin"]]) for row in rows],
        "differences": [
            figures_of(row, " minus ".join(called[part] for part in _pair(row["plugin"], called)))
            | {"p": p_values.get((row["plugin"], row["label"]))}
            for row in pairs
        ],
    }


def _pair(text: str, names: dict[str, str]) -> tuple[str, str]:
    return next((a, b) for a in names for b in names if f"{a} - {b}" == text)
