"""Scores of methods on the same test cases, and the paired tests between them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anymc3d.evaluate.command import read_labels
from anymc3d.evaluate.comparison import compare_with
from anymc3d.evaluate.delong import delong_interval
from anymc3d.evaluate.intervals import Interval
from anymc3d.evaluate.measures import LabelCases, Measure, Sampling
from anymc3d.evaluate.metrics import auroc
from anymc3d.evaluate.predictions import read_predictions
from anymc3d.evaluate.study_rows import ALL, row_of
from anymc3d.evaluate.targets import encode_targets
from anymc3d.files.tables import read_table
from anymc3d.settings.config import LabelSettings

_FIGURES = (
    *("metric", "label", "group", "split", "operating_point", "value"),
    *("ci_low", "ci_high", "ci_method", "n", "n_positive", "reason"),
)


@dataclass(frozen=True)
class JobScores:
    """The test cases of a job: ids and patients (n,), targets and ranking scores (n, labels), NaN where absent."""

    labels: tuple[str, ...]
    cases: tuple[str, ...]
    patients: NDArray[np.object_]
    targets: NDArray[np.float64]
    scores: NDArray[np.float64]

    def label_cases(self) -> list[LabelCases]:
        """Per label the cases with a target and a score."""
        per_label = []
        for j, label in enumerate(self.labels):
            rows = np.flatnonzero(~np.isnan(self.targets[:, j]) & ~np.isnan(self.scores[:, j]))
            scores = self.scores[rows, j]
            per_label.append(LabelCases(label, rows, self.targets[rows, j], scores, np.full(rows.size, np.nan), {}))
        return per_label

    def rows(self) -> Iterator[dict[str, Any]]:
        """AUROC per label with its interval, DeLong's or (several rows per patient) Obuchowski's, and their mean."""
        values = []
        for cases in self.label_cases():
            value = auroc(cases.targets, cases.scores)
            interval = delong_interval(cases.targets, cases.scores, patients=self.patients[cases.rows])
            measure = Measure("auroc", "", value, interval, cases.targets.size, int(cases.targets.sum()))
            values.append(value.value)
            yield _figure(measure, cases.label)
        if len(values) > 1:
            known = [value for value in values if value is not None]
            mean = replace(value, value=float(np.mean(known)) if known else None, reason="" if known else "no label")
            measure = Measure("auroc", "", mean, Interval(None, None, ""), len(self.cases), None)
            yield _figure(measure, "macro")


def read_scores(predictions: Path, manifest: Path, labels: LabelSettings) -> JobScores:
    """The test cases of a job, in the order of its manifest."""
    rows = [row for row in read_labels(manifest) if row.get("split") == "test"]
    targets = encode_targets(rows, labels)
    ids = tuple(row["case"] for row in rows)
    ((scored,), _) = read_predictions(read_table(predictions), ids, known=[labels])
    scores = scored.scores() if scored.settings else np.full(targets.shape, np.nan)
    patients = np.array([row["patient"] for row in rows], dtype=object)
    return JobScores(labels.output_names, ids, patients, targets, scores)


def averaged(members: Sequence[JobScores]) -> JobScores:
    """The mean of each case's raw score (the log-odds) over seeds; a case that one of them lacks is lacking."""
    return replace(members[0], scores=np.mean([member.scores for member in members], axis=0))


def paired_rows(methods: Mapping[str, tuple[JobScores, Mapping[str, Any]]], reference: str) -> Iterator[dict[str, Any]]:
    """Every method minus the reference on the cases that both predicted; p-values also after Holm over the methods.

    ``methods``: name -> its scores and the columns that describe it. Nothing without the reference.
    """
    if reference not in methods:
        return
    base = methods[reference][0]
    others = [(name, scored.label_cases()) for name, (scored, _) in methods.items() if name != reference]
    for compared in compare_with((reference, base.label_cases()), others, base.patients, Sampling()):
        name = compared.plugins[0]
        for measure in compared.measures():
            yield dict(methods[name][1]) | _figure(measure, compared.label) | {"method": name, "reference": reference}


def _figure(measure: Measure, label: str) -> dict[str, Any]:
    row = row_of(measure, {"label": label, "group": ALL, "split": "test", "plugin": ""})
    return {name: row[name] for name in _FIGURES}
