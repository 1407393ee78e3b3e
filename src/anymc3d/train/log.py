"""The log of a run: one row per epoch as CSV and as JSON lines, and the curves as a picture."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from anymc3d.data.case_scans import PreparedCase
from anymc3d.files import atomic
from anymc3d.files.tables import write_table
from anymc3d.train.checkpoint import TrainingState
from anymc3d.train.run_folder import RunFolder
from anymc3d.train.study import Study

logger = logging.getLogger(__name__)

DRAW_EVERY_S = 30.0
"""Seconds of training between two drawings of the curves; they are drawn once more at the end."""


def write(folder: RunFolder, state: TrainingState) -> None:
    """Write all epochs so far. Each file is replaced whole, so a resumed run has no torn or doubled line."""
    rows = state.history
    if not rows:
        return
    write_table(folder.log_csv, list(rows[0]), rows)
    atomic.write_text(folder.log_jsonl, "".join(json.dumps(row) + "\n" for row in rows))
    if _is_due(rows):
        draw_curves(folder, rows)


def _is_due(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the last epoch went past another ``DRAW_EVERY_S``: a drawing takes longer than a short epoch does."""
    now = sum(row["seconds"] for row in rows)
    return int(now / DRAW_EVERY_S) > int((now - rows[-1]["seconds"]) / DRAW_EVERY_S)


def write_regions(folder: RunFolder, study: Study, prepared: Mapping[int, PreparedCase]) -> None:
    """``regions.csv``: what became of the region of every training and validation case; in the log the numbers."""
    rows = []
    for index, case in sorted(prepared.items()):
        outcome = "excluded" if case.excluded else "noted" if case.notes else "whole"
        cells = {"case": study.manifest.cases[index].id, "split": study.splits[index], "region": outcome}
        rows.append(cells | {"message": case.excluded or "; ".join(case.notes)})
    write_table(folder.regions, ("case", "split", "region", "message"), rows)
    numbers = Counter(row["region"] for row in rows)
    outcomes = ", ".join(f"{number} {outcome}" for outcome, number in sorted(numbers.items()))
    logger.log(logging.INFO if set(numbers) == {"whole"} else logging.WARNING, "regions: %s; see regions.csv", outcomes)


def draw_curves(folder: RunFolder, rows: list[dict[str, Any]]) -> None:
    """Losses and validation AUROC over epochs, the chosen epoch marked."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    epochs = [row["epoch"] for row in rows]
    left.plot(epochs, [row["train_loss"] for row in rows], marker=".", color="#0072B2", label="training")
    left.plot(epochs, [row["val_loss"] for row in rows], marker=".", color="#D55E00", label="validation")
    left.set(xlabel="epoch", ylabel="loss", ylim=(0, None))
    left.legend(frameon=False)
    defined = [(row["epoch"], row["val_auroc"]) for row in rows if row["val_auroc"] is not None]
    if defined:
        right.plot(*zip(*defined, strict=True), marker=".", color="#009E73")
    best = rows[-1]["best_epoch"]
    right.axvline(best, color="0.5", linestyle=":", zorder=0)
    right.set_title(f"chosen: epoch {best}", fontsize=10)
    # From chance, or from the lowest epoch if that is below: a step of 0.015 must not look like a cliff.
    lowest = min([value for _, value in defined] + [0.5])
    right.set(xlabel="epoch", ylabel="validation AUROC", ylim=(max(0.0, lowest - 0.02), 1.005))
    right.grid(color="#E5E5E5", linewidth=0.7)
    for axis in (left, right):
        axis.xaxis.get_major_locator().set_params(integer=True)
    with atomic.replacing(folder.curves) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
