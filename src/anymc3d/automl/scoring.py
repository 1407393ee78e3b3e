"""The test split, scored once by the finished plugin: these cases have chosen and fitted nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from anymc3d.automl.compare import Value, auroc_of
from anymc3d.automl.data import AutoData
from anymc3d.automl.folder import AutoFolder
from anymc3d.evaluate.study import evaluate_rows
from anymc3d.plugins import load_plugin
from anymc3d.predict.cohort import predict_cohort
from anymc3d.predict.predictor import Predictor
from anymc3d.train.quick.crossval import Pool

Row = Mapping[str, Any]


def score_test(folder: AutoFolder, data: AutoData, device: str, *, quiet: bool) -> tuple[Value, list[Row]]:
    """AUROC of the test cases, and all their metrics. Cases that cannot be read have no answer and no part in it."""
    plugin = load_plugin(folder.plugin)
    predictor = Predictor([plugin], device=device)
    rows = predict_cohort(predictor, data.test_cases, folder.test, quiet=quiet).rows
    answered = [index for index, row in enumerate(rows) if row["status"] != "error"]
    names = data.labels.output_names
    raw = np.array([[float(rows[index][f"logit.{name}"]) for name in names] for index in answered])
    cases = [data.test_cases[index] for index in answered]
    targets = data.targets[[data.test[index] for index in answered]]
    logits = np.concatenate([np.zeros_like(raw), raw], axis=1) if data.labels.kind == "binary" else raw
    none = np.zeros(len(cases), dtype=np.intp)
    pool = Pool(tuple(case.patient for case in cases), targets, data.labels, none, ("test",))
    listed = [
        {"case": c.id, "patient": c.patient, "split": "test", **{name: c.cells[name] for name in data.labels.columns}}
        for c in data.test_cases
    ]
    metrics = evaluate_rows(_without_plugin(rows), listed, labels=data.labels, plugin=plugin.card.name)
    return auroc_of(pool, logits), list(metrics)


def _without_plugin(rows: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    return [{name: cell for name, cell in row.items() if name != "plugin"} for row in rows]
