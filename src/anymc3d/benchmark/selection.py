"""Which trial of a search is the best, by the metric that chose each run's epoch: validation AUROC, then loss.

Nothing but the logs of the runs is read, and they hold nothing of the test cases.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

from anymc3d.errors import RunFolderError
from anymc3d.files.tables import read_table


def choose_trial(runs: Sequence[Path]) -> tuple[int, list[dict[str, float | int | None]]]:
    """The position of the best run, and of each run its chosen epoch with validation AUROC and loss.

    A defined AUROC is better than none, equal ones are ranked by the lower loss, then the earlier trial stays.

    Raises:
        RunFolderError: a run has no log.
    """
    scores = [_score(run) for run in runs]
    ranks = [(-math.inf if s["val_auroc"] is None else s["val_auroc"], -float(s["val_loss"] or 0.0)) for s in scores]
    return ranks.index(max(ranks)), scores


def _score(run: Path) -> dict[str, float | int | None]:
    if (run / "quick.json").exists():
        return {"epoch": None, "val_auroc": _validation_auroc(run), "val_loss": None}
    path = run / "log.jsonl"
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        best = rows[-1]["best_epoch"]
        row = next(row for row in rows if row["epoch"] == best)
        return {"epoch": best, "val_auroc": row["val_auroc"], "val_loss": row["val_loss"]}
    except (OSError, ValueError, KeyError, IndexError, StopIteration) as error:
        raise RunFolderError(f"{path}: expected the log of a finished run ({type(error).__name__})") from None


def _validation_auroc(run: Path) -> float | None:
    """The validation AUROC of a method that is fitted at once, without epochs."""
    rows = [row for row in read_table(run / "metrics.csv") if row["metric"] == "auroc" and row["value"]]
    headline = next((row for row in rows if row["label"] == "macro"), rows[0] if rows else None)
    return None if headline is None else float(headline["value"])
