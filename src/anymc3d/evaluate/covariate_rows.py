"""The first question of every reviewer: what the covariates answer alone, what the image does, and what both do.

Rows of ``metrics.csv`` for plugins with covariates, whose predictions hold the raw logits of each part: the AUROC of
either alone, and the paired differences of all three on the same cases.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from anymc3d.evaluate.comparison import compare
from anymc3d.evaluate.covariates import PARTS, SAYS
from anymc3d.evaluate.delong import delong_interval
from anymc3d.evaluate.measures import LabelCases, Measure, Sampling
from anymc3d.evaluate.metrics import auroc
from anymc3d.evaluate.predictions import PluginPredictions
from anymc3d.evaluate.study_rows import ALL, Row, row_of
from anymc3d.evaluate.weighted import Floats

BOTH = "both"


def answers(
    predictions: PluginPredictions, targets: Floats, members: NDArray[np.intp]
) -> list[tuple[str, list[LabelCases]]]:
    """What both, the image and the covariates say of the cases ``members``, by the name under which rows show it; none
    where the plugin has no covariates."""
    if not predictions.parts:
        return []
    before = f"{predictions.plugin}, " if predictions.plugin else ""
    parts = [(predictions.plugin or BOTH, predictions.scores())]
    parts += [(f"{before}{SAYS[part]}", predictions.ranked(predictions.parts[part])) for part in PARTS]
    return [(name, _cases(predictions, scores, targets, members)) for name, scores in parts]


def _cases(
    predictions: PluginPredictions, scores: Floats, targets: Floats, members: NDArray[np.intp]
) -> list[LabelCases]:
    labels = []
    for j, label in enumerate(predictions.labels):
        rows = np.flatnonzero(~np.isnan(targets[members, j]) & ~np.isnan(scores[members, j]))
        cases = members[rows]
        labels.append(LabelCases(label, rows, targets[cases, j], scores[cases, j], scores[cases, j], {}))
    return labels


def covariate_rows(
    answers_of: Sequence[tuple[str, Sequence[LabelCases]]],
    patients: NDArray[np.object_],
    split: str,
    sampling: Sampling,
) -> Iterator[Row]:
    """Rows of one plugin: AUROC of each part alone, then the paired differences of the three; ``patients`` (n,) of all
    evaluated cases."""
    for name, labels in answers_of[1:]:
        for cases in labels:
            value = auroc(cases.targets, cases.scores)
            row_patients = patients[cases.rows]
            interval = delong_interval(cases.targets, cases.scores, patients=row_patients, level=sampling.level)
            measure = Measure("auroc", "", value, interval, cases.targets.size, int(cases.targets.sum()))
            yield row_of(measure, {"label": cases.label, "group": ALL, "split": split, "plugin": name})
    for pair in compare(answers_of, patients, sampling):
        frame = {"label": pair.label, "group": ALL, "split": split, "plugin": " - ".join(pair.plugins)}
        yield from (row_of(measure, frame) for measure in pair.measures())
