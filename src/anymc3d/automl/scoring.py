"""The test split, scored once by the finished plugin: these cases have chosen and fitted nothing."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from anymc3d.automl.clinical import head_logits
from anymc3d.automl.compare import Value, auroc_of
from anymc3d.automl.data import AutoData
from anymc3d.automl.folder import AutoFolder
from anymc3d.evaluate import outputs
from anymc3d.evaluate.study import evaluate_rows
from anymc3d.plugins import load_plugin
from anymc3d.predict.cohort import predict_cohort
from anymc3d.predict.predictor import Predictor
from anymc3d.train.quick.crossval import Pool

Row = Mapping[str, Any]
FEW = 6
"""Cases whose answers show how long all will take."""


class TestCases:
    """The cases of the test split, and the plugin that answers them; answers are kept, as any prediction's are."""

    __test__ = False

    def __init__(self, folder: AutoFolder, data: AutoData, device: str, *, quiet: bool) -> None:
        self.folder, self.data, self.quiet = folder, data, quiet
        self.predictor = Predictor([load_plugin(folder.plugin)], device=device, segmenters=data.segmenters)

    def seconds(self) -> float:
        """What all of them would take, by the first few; these are answered then."""
        few = min(FEW, len(self.data.test))
        self._answers(1)
        started = time.monotonic()
        self._answers(few)
        return (time.monotonic() - started) / max(1, few - 1) * (len(self.data.test) - few)

    def scored(self) -> tuple[Value, list[Row]]:
        """AUROC (of a number R²) of the test cases, and all metrics; one that cannot be read has no part in them."""
        data, rows = self.data, self._answers(len(self.data.test))
        answered = [index for index, row in enumerate(rows) if row["status"] != "error"]
        names, columns = data.labels.output_names, data.labels.columns
        what = outputs.VALUE if data.labels.is_number else "logit"
        raw = np.array([[float(rows[index][f"{what}.{name}"]) for name in names] for index in answered])
        cases = [data.test_cases[index] for index in answered]
        targets = data.targets[[data.test[index] for index in answered]]
        if data.scale is not None:
            raw, targets = data.scale.standard(raw), data.scale.standard(targets)
        logits = head_logits(raw.reshape(len(answered), len(names)), data.labels)
        none = np.zeros(len(cases), dtype=np.intp)
        pool = Pool(tuple(case.patient for case in cases), targets, data.labels, none, ("test",))
        listed = [
            {"case": c.id, "patient": c.patient, "split": "test"} | {name: c.cells[name] for name in columns}
            for c in data.test_cases
        ]
        name = self.predictor.plugins[0].card.name
        metrics = evaluate_rows(_without_plugin(rows), listed, labels=data.labels, plugin=name)
        return auroc_of(pool, logits), list(metrics)

    def _answers(self, count: int) -> list[dict[str, str]]:
        quiet = self.quiet or count <= FEW
        return predict_cohort(self.predictor, self.data.test_cases[:count], self.folder.test, quiet=quiet).rows


def _without_plugin(rows: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    return [{name: cell for name, cell in row.items() if name != "plugin"} for row in rows]
