"""Sister plugins of one task calibrated together: each on its own validation cases, and a label that has too few
there on the pooled out-of-fold cases of all of them (docs/metrics.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from anymc3d.evaluate.calibration import MIN_OUTCOMES
from anymc3d.evaluate.task_calibration import POOLED, Choice, takes_pooled
from anymc3d.files import atomic
from anymc3d.files.tables import write_table
from anymc3d.plugins import load_plugin, plugin_bytes
from anymc3d.plugins.recalibrate import Recalibration, ScoredCases, read_scored, recalibrate
from anymc3d.train.run_folder import RunFolder

COLUMNS = ("member", "label", "method", "criterion", "source", "n", "n_positive", "threshold", "slope", "note")

Row = Mapping[str, object]


def own_cases(run: RunFolder) -> ScoredCases:
    """The validation cases of a finished run, with its plugin's raw logits."""
    return read_scored(load_plugin(run.plugin), run.predictions, run.manifest).of_split("val")


def any_rare(runs: Sequence[RunFolder], pooled: ScoredCases) -> bool:
    """Whether a label of some run has too few validation cases, and more among the pooled ones."""
    return any(
        takes_pooled(of_run[of_run == of_run], more[more == more])
        for run in runs
        for of_run, more in zip(own_cases(run).targets.T, pooled.targets.T, strict=True)
    )


def calibrate_sisters(
    runs: Mapping[str, RunFolder], out: Mapping[str, Path], pooled: ScoredCases, choice: Choice, table: Path
) -> list[Row]:
    """Write every run's plugin once more, calibrated; the weights and the plugin of the run stay as they are.

    Args:
        runs: name of the member -> its finished run.
        out: name -> the file to write.
        pooled: out-of-fold cases of all members.
        choice: method and criterion; the method is not None.
        table: CSV with one row per member and label: what was fitted on what.

    Returns:
        the rows of the table.
    """
    rows: list[Row] = []
    for name, run in runs.items():
        plugin = load_plugin(run.plugin)
        criterion = None if plugin.card.labels.one_of_classes else choice.criterion
        new = recalibrate(plugin, own_cases(run), split="val", method=choice.method, criterion=criterion, pooled=pooled)
        atomic.write_bytes(out[name], plugin_bytes(new.card, plugin.tensors))
        rows += _rows(name, new)
    write_table(table, COLUMNS, rows)
    return rows


def pooled_warnings(rows: Sequence[Row], num_members: int) -> list[str]:
    """One line that names the labels fitted on pooled cases, one for those that were too few even so."""
    lines = []
    for what, chosen in (
        ("were fitted on the pooled out-of-fold cases", [row for row in rows if row["source"] == POOLED]),
        ("kept the slope 1", [row for row in rows if "slope left" in str(row["note"])]),
    ):
        labels = [str(row["label"]) for row in chosen]
        if labels:
            named = ", ".join(f"{name} ({labels.count(name)} of {num_members})" for name in dict.fromkeys(labels))
            lines.append(
                f"labels with fewer than {MIN_OUTCOMES} cases of the rarer outcome {what}, in members: {named}"
            )
    return lines


def _rows(name: str, new: Recalibration) -> list[Row]:
    calibration = new.card.calibration
    assert calibration is not None, "recalibrate always fits one"
    return [
        {
            "member": name,
            "label": label,
            "method": calibration.method,
            "criterion": calibration.criterion,
            "source": POOLED if label in new.pooled or "fitted on pooled" in label_map.note else "val",
            "n": label_map.n,
            "n_positive": label_map.n_positive,
            "threshold": label_map.threshold,
            "slope": label_map.slope,
            "note": label_map.note,
        }
        for label, label_map in calibration.maps.items()
    ]
