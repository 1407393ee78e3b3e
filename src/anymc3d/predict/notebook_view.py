"""How a prediction looks in a notebook: the answer with the pictures of its report that need no scan."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from anymc3d.page.answers import meter, slice_bars
from anymc3d.page.document import Markup, listing, paragraph, table
from anymc3d.page.notebook import cell
from anymc3d.predict.ood_warnings import NOT_TO_BE_USED

if TYPE_CHECKING:
    from anymc3d.predict.prediction import Prediction

MOST_LABELS = 30
"""Rows of a table; ``probabilities`` has them all."""


def html_of(prediction: Prediction) -> str:
    """The piece of HTML that a notebook shows."""
    return cell(f"Case {prediction.case}, plugin {prediction.plugin}", _parts(prediction))


def _parts(prediction: Prediction) -> Iterator[str]:
    if prediction.unlike_training:
        yield paragraph(NOT_TO_BE_USED, "warning")
    yield from (paragraph(f"The plugin: {doubt}.", "warning") for doubt in prediction.plugin_doubts)
    if prediction.status == "error":
        yield paragraph(f"No answer: {prediction.message}", "warning")
        return
    if prediction.values:
        numbers = [(name, f"{value:.4g}") for name, value in list(prediction.values.items())[:MOST_LABELS]]
        yield table("Predicted numbers", ("Label", "Predicted"), numbers, numbers=(1,))
    else:
        columns = ("Label", "Decision", "Probability", "Calibration", "0 to 1")
        yield table("Probabilities and decisions", columns, _rows(prediction), numbers=(2,))
    if len(prediction.labels) > MOST_LABELS:
        yield paragraph(f"{len(prediction.labels) - MOST_LABELS} more labels are not shown.", "quiet")
    yield from (slice_bars(view, weights) for view, weights in prediction.slice_weights.items() if any(weights))
    warnings = [line for line in prediction.message.split("; ") if line]
    if warnings:
        yield listing(warnings)


def _rows(prediction: Prediction) -> Iterator[tuple[str, ...]]:
    for name in prediction.labels[:MOST_LABELS]:
        probability, state = prediction.probabilities[name], prediction.calibration.get(name, "none")
        calibration = (
            "calibrated" if state == "calibrated" else f"{state}, not calibrated" if state != "none" else "none"
        )
        yield name, str(prediction.decisions[name]), f"{probability:.3f}", calibration, Markup(meter(probability))
