"""Logits of the head -> what ``predictions.csv`` holds per label: raw logit and probability.

| kind       | labels           | raw logit  | probability |
|------------|------------------|------------|-------------|
| binary     | the column       | z1 - z0    | sigmoid     |
| multiclass | column=class (K) | z_k        | softmax     |
| ordinal    | column=grade (K) | log p_k    | softmax     |
| multilabel | the columns (K)  | z_k        | sigmoid     |

A number (regression) has neither: its column is ``value``, in the units of the manifest.

Multi-class and ordinal cases are decided by the largest probability.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from anymc3d.evaluate.covariates import PARTS as COVARIATE_PARTS
from anymc3d.evaluate.metrics import one_vs_rest
from anymc3d.settings.config import ONE_OF_CLASSES, LabelSettings
from anymc3d.types import LabelKind

VALUE = "value"
"""The one column that a label that is a number has in ``predictions.csv``."""
NOT_ANSWERED = "not answered"
"""What ``predict --abstain`` writes in place of a decision."""
OOD_SCORE = "ood_score"
"""The last column of what ``predict`` writes: how far a case is from the training scans, above 1 an alarm."""


def raw_logits(logits: np.ndarray, kind: LabelKind) -> np.ndarray:
    """Head output (n, K) -> one raw logit per label (n, labels), in float64."""
    logits = np.asarray(logits, dtype=np.float64)
    return logits[:, 1:2] - logits[:, 0:1] if kind == "binary" else logits


def probabilities(raw: np.ndarray, kind: LabelKind) -> np.ndarray:
    """Raw logits (n, labels) -> uncalibrated probabilities (n, labels), finite and in [0, 1]."""
    raw = np.asarray(raw, dtype=np.float64)
    if kind in ONE_OF_CLASSES:
        powers = np.exp(raw - raw.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)
    return np.exp(-np.logaddexp(0.0, -raw))


def label_targets(targets: np.ndarray, kind: LabelKind, num_labels: int) -> np.ndarray:
    """Encoded targets (n, L) -> 0 / 1 / NaN per label (n, labels); classes become one column per class."""
    if kind not in ONE_OF_CLASSES:
        return targets
    missing = np.isnan(targets)
    return np.where(missing, np.nan, (targets == np.arange(num_labels)).astype(float))


def ranking_scores(raw: np.ndarray, kind: LabelKind) -> np.ndarray:
    """Raw logits -> what ranks cases for each label (n, labels): of classes the log-odds of one against the rest."""
    return one_vs_rest(raw) if kind in ONE_OF_CLASSES else np.asarray(raw, dtype=np.float64)


def decisions(raw: np.ndarray, kind: LabelKind, thresholds: Sequence[float]) -> np.ndarray:
    """0 / 1 per label (n, labels): raw logit at or above its threshold; classes: the largest probability."""
    if kind in ONE_OF_CLASSES:
        return (np.arange(raw.shape[1]) == raw.argmax(axis=1)[:, None]).astype(int)
    return (np.asarray(raw) >= np.asarray(thresholds)).astype(int)


def prediction_columns(
    label_names: Sequence[str],
    *,
    with_plugin: bool = False,
    with_covariates: Sequence[str] = (),
    numbers: Collection[str] = (),
) -> list[str]:
    """The columns of ``predictions.csv``; ``with_covariates``: labels whose answer also has its two parts alone;
    ``numbers``: labels that are numbers."""
    per_label = [
        f"{what}.{name}"
        for name in label_names
        for what in ((VALUE,) if name in numbers else ("logit", "probability", "decision"))
    ]
    alone = [f"{part}.{name}" for name in with_covariates for part in COVARIATE_PARTS]
    return ["case", *(["plugin"] if with_plugin else []), "status", "message", *per_label, *alone]


def columns_of(labels: LabelSettings, *, with_plugin: bool = False, with_covariates: bool = False) -> list[str]:
    """The columns of ``predictions.csv`` of one task."""
    names = labels.output_names
    return prediction_columns(
        names,
        with_plugin=with_plugin,
        with_covariates=names if with_covariates else (),
        numbers=names if labels.is_number else (),
    )


def value_cells(label_names: Sequence[str], values: np.ndarray) -> dict[str, str]:
    """The label cells of one row of numbers, (labels,) of one case."""
    return {f"{VALUE}.{name}": format(float(value), ".9g") for name, value in zip(label_names, values, strict=True)}


def part_cells(label_names: Sequence[str], image: np.ndarray, covariates: np.ndarray) -> dict[str, str]:
    """The raw logits (labels,) of the image alone and of the covariates alone, of one case."""
    columns = {"image": image, "covariates": covariates}
    return {
        f"{part}.{name}": format(float(columns[part][index]), ".9g")
        for index, name in enumerate(label_names)
        for part in COVARIATE_PARTS
    }


def prediction_cells(
    label_names: Sequence[str], raw: np.ndarray, probability: np.ndarray, decision: np.ndarray
) -> dict[str, str]:
    """The label cells of one row; ``raw``, ``probability`` and ``decision`` are (labels,) of one case."""
    cells = {}
    for index, name in enumerate(label_names):
        cells[f"logit.{name}"] = format(float(raw[index]), ".9g")
        cells[f"probability.{name}"] = format(float(probability[index]), ".9g")
        cells[f"decision.{name}"] = str(int(decision[index]))
    return cells
