"""A picture of where the query looks: prepared slices of a few test cases under the weight each of them got."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from anymc3d.data.case import Case
from anymc3d.data.dataset import CaseScans
from anymc3d.demo.dataset import LABEL
from anymc3d.files import atomic
from anymc3d.predict.predictor import Prediction, Predictor

CASES_PER_KIND = 2


def draw_slice_weights(predictor: Predictor, cases: Sequence[Case], path: Path) -> Path:
    """Draw the first test cases of each kind, one row a case, slices from bottom to top, and return ``path``."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    test = [case for case in cases if case.split == "test"]
    chosen = [case for kind in ("1", "0") for case in [c for c in test if c.cells[LABEL] == kind][:CASES_PER_KIND]]
    (plugin,) = predictor.plugins
    (view, settings), *_ = plugin.card.preprocessing.items()
    columns = settings.size[2] or 8
    figure = Figure(figsize=(1.25 * columns, 1.5 * len(chosen)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(chosen), columns, squeeze=False)
    for row, case in zip(axes, chosen, strict=True):
        (prediction,) = predictor.predict_case(case)
        prepared = CaseScans(case).prepare({view: settings}).views[view]
        weights = prediction.slice_weights[view]
        for index, axis in enumerate(row):
            axis.imshow(np.rot90(prepared.slices[index, 0].astype(np.float32)), cmap="gray", vmin=0, vmax=1)
            axis.set(xticks=[], yticks=[])
            axis.set_title(f"{weights[index]:.2f}", fontsize=8, pad=2)
            strong = weights[index] >= 0.9 * max(weights)
            for spine in axis.spines.values():
                spine.set(color="#D55E00" if strong else "0.8", linewidth=2.5 if strong else 0.5)
        row[0].set_ylabel(_caption(case, prediction), fontsize=8)
    figure.suptitle(f"Slice weights of the query, view {view}; the strongest slices are framed", fontsize=10)
    with atomic.replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
    return path


def _caption(case: Case, prediction: Prediction) -> str:
    truth = "ring" if case.cells[LABEL] == "1" else "solid"
    return f"{case.id}\ntruth: {truth}\np(ring) = {prediction.probabilities[LABEL]:.2f}"
