"""Scores of heatmaps (``heatmap_scores.csv`` of ``anymc3d explain``) -> rows of ``metrics.csv``.

A map of a label is scored on the cases that have the label: elsewhere there is nothing of it to point at. Maps over
all views are taken where there are several views. ``group`` is ``heatmap=<method>``; intervals draw patients.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from anymc3d.errors import UsageError
from anymc3d.evaluate.intervals import Interval
from anymc3d.evaluate.measures import Measure, Sampling, mean_interval, share_interval
from anymc3d.evaluate.metrics import Metric
from anymc3d.evaluate.score_tables import check_scores
from anymc3d.evaluate.study_rows import Row, row_of
from anymc3d.evaluate.weighted import Floats

METRICS: Mapping[str, str] = {
    "pointing_game": "peak_in_mask",
    "peak_distance_mm": "peak_distance_mm",
    "mass_in_mask": "mass_in_mask",
    "mask_share": "mask_share",
    "deletion": "deletion",
    "insertion": "insertion",
    "shuffled_plugin_correlation": "shuffled_plugin",
    "shuffled_network_correlation": "shuffled_network",
}
"""Name in ``metrics.csv`` -> column of ``heatmap_scores.csv``."""
SHARES = ("mass_in_mask", "mask_share", "deletion", "insertion")
"""Metrics that lie in [0, 1]."""
FUSED = "fused"


def heatmap_rows(
    scores: Sequence[Mapping[str, str]],
    positives: Mapping[str, Mapping[str, str]],
    *,
    split: str,
    plugin: str,
    sampling: Sampling,
) -> Iterator[Row]:
    """Yield one row per label, method and metric.

    Args:
        scores: the rows of ``heatmap_scores.csv``.
        positives: label -> case -> patient, of the cases that count and have the label.

    Raises:
        UsageError: the table is not one of ``anymc3d explain``, or holds none of these labels.
    """
    expected = {"case", "label", "view", "method", *METRICS.values()}
    if not scores or expected - set(scores[0]):
        missing = ", ".join(sorted(expected - set(scores[0] if scores else ())))
        raise UsageError(
            f"--heatmaps: expected the heatmap_scores.csv of 'anymc3d explain', columns missing: {missing}"
        )
    labels = sorted({row["label"] for row in scores})
    if not set(labels) & set(positives):
        raise UsageError(
            f"--heatmaps: expected maps of {', '.join(positives)}, the table has {', '.join(labels)}; "
            "give the table of the same plugin"
        )
    check_scores(scores, option="--heatmaps", key=("case", "label", "view", "method"), numbers=tuple(METRICS.values()))
    for label, patients in positives.items():
        of_label = [row for row in scores if row["label"] == label and row["case"] in patients]
        views = {row["view"] for row in of_label}
        view = FUSED if FUSED in views else next(iter(views), "")
        for method in dict.fromkeys(row["method"] for row in of_label):
            chosen = [row for row in of_label if row["method"] == method and row["view"] == view]
            frame = {"label": label, "group": f"heatmap={method}", "split": split, "plugin": plugin}
            for metric, column in METRICS.items():
                yield row_of(_measure(metric, column, chosen, patients, sampling), frame)


def _measure(
    metric: str,
    column: str,
    rows: Sequence[Mapping[str, str]],
    patients: Mapping[str, str],
    sampling: Sampling,
) -> Measure:
    measured = [row for row in rows if row[column] != ""]
    values = np.array([float(row[column]) for row in measured])
    if not measured:
        why = f"no positive case has {column}: no mask, an empty map, or not asked for"
        return Measure(metric, "", Metric(None, why), Interval(None, None, ""), 0, 0)
    names = [patients[row["case"]] for row in measured]
    interval = _interval(metric, values, names, sampling)
    return Measure(metric, "", Metric(math.fsum(values) / len(values)), interval, len(measured), len(measured))


def _interval(metric: str, values: Floats, patients: Sequence[str], sampling: Sampling) -> Interval:
    if metric == "pointing_game":
        return share_interval(values, patients, sampling)
    return mean_interval(values, patients, sampling, scale="share" if metric in SHARES else "real")
