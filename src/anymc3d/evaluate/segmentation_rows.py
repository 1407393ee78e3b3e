"""Dice of segmentations (``segmentations.csv`` of ``anymc3d predict --segmentation``) -> rows of ``metrics.csv``.

One row a structure and image column, over the evaluated cases that have a mask of it: the mean over cases, intervals
draw patients. A case in which neither mask nor answer holds the structure has no Dice and is left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from anymc3d.errors import UsageError
from anymc3d.evaluate.intervals import Interval
from anymc3d.evaluate.measures import Measure, Sampling, mean_interval
from anymc3d.evaluate.metrics import Metric
from anymc3d.evaluate.score_tables import check_scores
from anymc3d.evaluate.study_rows import Row, row_of

COLUMNS = ("case", "image", "label", "true_volume_ml", "dice")


def segmentation_rows(
    table: Sequence[Mapping[str, str]],
    patients: Mapping[str, str],
    *,
    split: str,
    plugin: str,
    sampling: Sampling,
) -> Iterator[Row]:
    """Yield one row per structure; ``label`` is ``mask=<label>``, ``group`` the image column.

    Args:
        table: the rows of ``segmentations.csv``.
        patients: case -> patient, of the cases that count.

    Raises:
        UsageError: the table is not one of ``anymc3d predict --segmentation``, was changed by hand, or has none of
            these cases.
    """
    missing = set(COLUMNS) - set(table[0] if table else ())
    if missing:
        raise UsageError(
            "--segmentations: expected the segmentations.csv of 'anymc3d predict --segmentation', columns missing: "
            f"{', '.join(sorted(missing))}"
        )
    rows = [row for row in table if row["case"] in patients and row["label"]]
    if not rows:
        raise UsageError("--segmentations: no segmented case of the table is among those evaluated")
    check_scores(
        rows,
        option="--segmentations",
        key=("case", "image", "label"),
        numbers=("true_volume_ml", "dice"),
        highest={"dice": 1.0},
    )
    for image, label in dict.fromkeys((row["image"], row["label"]) for row in rows):
        of_pair = [row for row in rows if (row["image"], row["label"]) == (image, label)]
        frame = {"label": f"mask={label}", "group": f"image={image}", "split": split, "plugin": plugin}
        yield row_of(_dice(of_pair, patients, sampling), frame)


def left_out(table: Sequence[Mapping[str, str]], cases: Sequence[str]) -> list[str]:
    """What a reader of the mean should know: evaluated cases that have no map, or whose mask cannot be used."""
    wanted = set(cases)
    drawn = {row["case"] for row in table if row["label"]}
    unusable = {row["case"] for row in table if row.get("status") == "warn"} & wanted
    lines = []
    if wanted - drawn:
        what = "have no map, because they failed or are not in the table"
        lines.append(f"Dice is of the others: {len(wanted - drawn)} of {len(wanted)} evaluated cases {what}")
    if unusable:
        lines.append(f"Dice is of the others: the masks of {len(unusable)} evaluated cases cannot be used")
    return lines


def _dice(rows: Sequence[Mapping[str, str]], patients: Mapping[str, str], sampling: Sampling) -> Measure:
    with_mask = [row for row in rows if row["true_volume_ml"] != ""]
    measured = [row for row in with_mask if row["dice"] != ""]
    num_true = sum(float(row["true_volume_ml"]) > 0 for row in measured)
    if not measured:
        why = "no case has a mask of it" if not with_mask else "neither a mask nor an answer holds it"
        return Measure("dice", "", Metric(None, why), Interval(None, None, ""), 0, 0)
    values = np.array([float(row["dice"]) for row in measured])
    interval = mean_interval(values, [patients[row["case"]] for row in measured], sampling)
    return Measure("dice", "", Metric(math.fsum(values) / values.size), interval, values.size, num_true)
