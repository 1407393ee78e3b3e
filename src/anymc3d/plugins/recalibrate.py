"""A plugin and a table of its predictions in, the same weights with another calibration out. No scan is opened.

For a new site a few dozen labelled cases are enough for an operating point; a label with fewer than ten cases of
either outcome keeps its slope, or is fitted on the pooled out-of-fold cases of sister plugins, and says so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from anymc3d.data.pseudonyms import Pseudonyms
from anymc3d.errors import CalibrationError, did_you_mean
from anymc3d.evaluate.command import read_labels
from anymc3d.evaluate.conformal import fit_sets, too_few
from anymc3d.evaluate.metrics import RANKING_METRICS
from anymc3d.evaluate.operating_points import OperatingPoint
from anymc3d.evaluate.predictions import PREDICT_RECORD, read_predictions, shown_few
from anymc3d.evaluate.targets import encode_targets
from anymc3d.evaluate.task_calibration import (
    CRITERIA,
    METHODS,
    Pooled,
    TaskCalibration,
    check_method,
    choose_points,
    fit_task,
    takes_pooled,
)
from anymc3d.evaluate.weighted import Floats
from anymc3d.files.tables import read_table
from anymc3d.plugins import Plugin
from anymc3d.plugins.card import PluginCard
from anymc3d.settings.config import LabelSettings

USUAL_CRITERION = "youden"
FEW_FOR_ISOTONIC = 50


@dataclass(frozen=True)
class ScoredCases:
    """The cases of a manifest that have a prediction: targets (n, labels; NaN = missing) and raw logits (n, labels)."""

    targets: Floats
    raw: Floats
    splits: tuple[str, ...]
    """"" where the manifest has no splits."""
    patients: tuple[str, ...]

    def of_split(self, split: str) -> ScoredCases:
        """The cases of one split."""
        return self._kept([index for index, name in enumerate(self.splits) if name == split])

    def without_split(self, split: str) -> ScoredCases:
        """The cases of all other splits."""
        return self._kept([index for index, name in enumerate(self.splits) if name != split])

    def _kept(self, keep: Sequence[int]) -> ScoredCases:
        rows = np.asarray(keep, dtype=np.intp)
        names, patients = (tuple(part[i] for i in keep) for part in (self.splits, self.patients))
        return ScoredCases(self.targets[rows], self.raw[rows], names, patients)


@dataclass(frozen=True)
class Recalibration:
    """The new card, what it was fitted on, and what the reader should know."""

    card: PluginCard
    split: str
    cases: int
    positives: Mapping[str, tuple[int, int]]
    """Label -> (positives, cases with a label)."""
    warnings: list[str]
    pooled: tuple[str, ...] = ()
    """Labels that were fitted on the pooled cases."""


def read_scored(plugin: Plugin, predictions: Path, manifest: Path, pseudonyms: Pseudonyms | None = None) -> ScoredCases:
    """Read the plugin's predictions of the manifest's cases; ``pseudonyms``: those under which they were predicted.

    Raises:
        UsageError, ProblemsError: tables that cannot be used, or predictions of another plugin.
    """
    rows = _own_rows(plugin, read_table(predictions))
    if rows and all(row.get("status") == "error" for row in rows):
        raise CalibrationError(f"{predictions}: every case of plugin {plugin.card.name!r} failed: there are no logits")
    _check_maker(plugin, predictions)
    return scored_cases(plugin.card.labels, rows, read_labels(manifest, pseudonyms), plugin=plugin.card.name)


def read_pooled(labels: LabelSettings, predictions: Path, manifest: Path, *, repeat: str | None = None) -> ScoredCases:
    """Read out-of-fold predictions, such as ``RUN/oof.csv`` of ``train --folds``: each case by a plugin that never
    trained on it. Rows of the manifest's ``test`` split are left out.

    Args:
        labels: of the plugins.
        predictions: the table; with several repeats its ``plugin`` column names them.
        manifest: with the labels of these cases.
        repeat: which repeat; without it the first.

    Raises:
        UsageError, ProblemsError: tables that cannot be used, or no case with a label and a prediction.
    """
    rows = read_table(predictions)
    if rows and "plugin" in rows[0]:
        wanted = repeat or rows[0]["plugin"]
        rows = [
            {name: cell for name, cell in row.items() if name != "plugin"} for row in rows if row["plugin"] == wanted
        ]
    cases = scored_cases(labels, rows, read_labels(manifest)).without_split("test")
    if not len(cases.splits):
        raise CalibrationError(f"{predictions}: no case outside the test split has both a prediction and a label")
    return cases


def scored_cases(
    labels: LabelSettings, rows: Sequence[Mapping[str, str]], listed: Sequence[Mapping[str, str]], *, plugin: str = ""
) -> ScoredCases:
    """Rows of ``predictions.csv`` and of the manifest (``evaluate.command.read_labels``) -> cases with both.

    Raises:
        UsageError, ProblemsError: tables that do not fit the labels or each other.
    """
    _check_columns(labels, rows)
    (scored,), _ = read_predictions(rows, [row["case"] for row in listed], known=[labels], plugin=plugin)
    targets = encode_targets(listed, labels)
    raw = scored.logits
    usable = np.isfinite(raw).all(axis=1) & (~np.isnan(targets)).any(axis=1)
    used_rows = [row for row, use in zip(listed, usable, strict=True) if use]
    return ScoredCases(
        targets[usable],
        raw[usable],
        tuple(row.get("split", "") for row in used_rows),
        tuple(row.get("patient") or row["case"] for row in used_rows),
    )


def choose_cases(cases: ScoredCases, split: str | None) -> tuple[ScoredCases, str, list[str]]:
    """The cases to fit on, what they are called, and warnings.

    A manifest without splits is used whole; otherwise ``val``, or the split that is asked for.

    Raises:
        UsageError: there is no such case; rows of ``test`` are never taken unasked.
    """
    split_names = sorted(set(cases.splits) - {""})
    if not split_names:
        if split is not None:
            raise CalibrationError(
                f"--split {split}: the manifest has no split column; without --split all rows are used"
            )
        chosen, name = cases, "all"
    else:
        name = split or "val"
        chosen = cases.of_split(name)
    if not len(chosen.splits):
        others = f"; there are some in {', '.join(split_names)}" if split_names else ""
        hint = " (--split test takes them, but then they are not a test any more)" if "test" in split_names else ""
        which = "" if name == "all" else f"{name} "
        raise CalibrationError(f"no {which}case has both a prediction and a label{others}{hint}")
    optimistic = {
        "test": "fitted on test rows: results of these rows are not a fair test of this plugin any more",
        "train": "fitted on train rows, which the weights were fitted on too: probabilities will be overconfident",
    }
    return chosen, name, [optimistic[name]] if name in optimistic else []


def recalibrate(
    plugin: Plugin,
    cases: ScoredCases,
    *,
    split: str,
    method: str | None = None,
    criterion: str | None = None,
    pooled: ScoredCases | None = None,
) -> Recalibration:
    """Fit a new calibration; see :func:`choose_cases` for the cases.

    Args:
        plugin: its tensors and everything else of its card stay as they are.
        cases: to fit on.
        split: what they are, for the record.
        method: platt, temperature or isotonic; default: the usual one of the kind of task.
        criterion: f1, crg, f1_crg, youden, none; default: the plugin's own. Multi-class takes none.
        pooled: out-of-fold cases of sister plugins (:func:`read_pooled`), for labels with too few cases of their own.

    Raises:
        UsageError: unknown or unfitting method or criterion, or cases of one outcome only.
    """
    card = plugin.card
    kind = card.labels.kind
    method = method or METHODS[kind][0]
    check_method(method, kind)
    more = None if pooled is None else (pooled.targets, pooled.raw)
    if more is None:
        _check_outcomes(card.labels, cases.targets, split)
    points = _points(card, cases, criterion, split, more)
    calibration = fit_task(
        cases.targets,
        cases.raw,
        card.labels,
        points,
        method=method,
        split=split,
        earlier=card.calibration,
        fitted_on=plugin.hash,
        pooled=more,
    )
    new = _calibrated(card, calibration, points)
    counts, stood_in = _counts(card.labels, cases.targets), _on_pooled(card.labels, cases.targets, more)
    warnings = calibration.notes() + _unchosen(card.labels, cases.targets, stood_in) + _few(method, counts)
    return Recalibration(new, split, len(cases.splits), counts, list(dict.fromkeys(warnings)), stood_in)


def _calibrated(card: PluginCard, calibration: TaskCalibration, points: Sequence[OperatingPoint]) -> PluginCard:
    """The card with another calibration, without the results that were of the earlier one's probabilities."""
    of_logits = tuple(row for row in card.metrics if row["metric"] in RANKING_METRICS)
    stored_points = tuple(point.to_dict() for point in points)
    return replace(card, calibration=calibration, operating_points=stored_points, metrics=of_logits)


def with_sets(plugin: Plugin, cases: ScoredCases, *, split: str, coverage: float) -> Recalibration:
    """Fit prediction sets with a promised coverage; calibration and operating points stay as they are.

    Args:
        plugin: everything else of its card stays.
        cases: to fit on, see :func:`choose_cases`.
        split: what they are, for the record.
        coverage: share of cases of each answer whose set holds that answer.

    Raises:
        UsageError: a coverage out of range, or cases of one outcome only.
    """
    labels = plugin.card.labels
    _check_outcomes(labels, cases.targets, split)
    sets = fit_sets(cases.targets, cases.raw, labels, cases.patients, coverage=coverage, split=split)
    card = replace(plugin.card, prediction_sets=sets)
    return Recalibration(card, split, len(cases.splits), _counts(labels, cases.targets), too_few(sets, labels))


def _counts(labels: LabelSettings, targets: np.ndarray) -> dict[str, tuple[int, int]]:
    """Positive and known cases by label."""
    return {
        name: (int(np.nansum(column)), int((~np.isnan(column)).sum()))
        for name, column in zip(labels.output_names, targets.T, strict=True)
    }


def _own_rows(plugin: Plugin, rows: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    if not rows or "plugin" not in rows[0]:
        return list(rows)
    own_rows = [row for row in rows if row["plugin"] == plugin.card.name]
    if not own_rows:
        names = list(dict.fromkeys(row["plugin"] for row in rows))
        raise CalibrationError(f"predictions: no row of plugin {plugin.card.name!r}, only of {shown_few(names)}")
    filled = {column for column in own_rows[0] if any(row[column] for row in own_rows)}
    return [{c: cell for c, cell in row.items() if "." not in c or c in filled} for row in own_rows]


def _check_maker(plugin: Plugin, predictions: Path) -> None:
    """Where the predicting run left its record, the logits must be this plugin's."""
    path = predictions.parent / PREDICT_RECORD
    if not path.is_file():
        return
    try:
        makers = json.loads(path.read_text(encoding="utf-8"))["logits"]
        maker = makers.get(plugin.card.name)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise CalibrationError(f"{path}: expected the record of 'anymc3d predict', but it is damaged") from None
    if maker != plugin.card.logits_id:
        raise CalibrationError(
            f"{predictions}: was predicted by other weights ({', '.join(makers)}) than those of {plugin.card.name!r}; "
            "a calibration fits the logits of its own plugin only, so predict the cases with it"
        )


def _check_columns(labels: LabelSettings, rows: Sequence[Mapping[str, str]]) -> None:
    columns = list(rows[0]) if rows else []
    names = [column.removeprefix("logit.") for column in columns if column.startswith("logit.")]
    if set(names) != set(labels.output_names):
        raise CalibrationError(
            f"predictions: expected the labels of the plugin, {', '.join(labels.output_names)}, "
            f"got {', '.join(names) or 'no logit columns'}"
        )


def _check_outcomes(labels: LabelSettings, targets: Floats, split: str) -> None:
    which = "rows" if split == "all" else f"{split} rows"
    if any(len(np.unique(column[~np.isnan(column)])) == 2 for column in targets.T):
        return
    counts = [
        f"{name}: {int(np.nansum(column))} positive of {int((~np.isnan(column)).sum())}"
        for name, column in zip(labels.output_names, targets.T, strict=True)
    ]
    raise CalibrationError(f"nothing to fit: no label has both outcomes in the {which} ({shown_few(counts)})")


def _points(
    card: PluginCard, cases: ScoredCases, criterion: str | None, split: str, pooled: Pooled | None
) -> list[OperatingPoint]:
    if card.labels.one_of_classes:
        if criterion is not None:
            kind = card.labels.kind
            raise CalibrationError(f"--criterion: a {kind} task is decided by the largest probability and takes none")
        return [OperatingPoint.from_dict(point) for point in card.operating_points]
    if criterion is not None and criterion not in CRITERIA:
        raise CalibrationError(f"--criterion: unknown {criterion!r}{did_you_mean(criterion, CRITERIA)}")
    points = [OperatingPoint.from_dict(point) for point in card.operating_points] or None
    criterion = criterion or _usual_criterion(card)
    return choose_points(cases.targets, cases.raw, criterion, split=split, kept=points, pooled=pooled)


def _usual_criterion(card: PluginCard) -> str:
    """What the plugin's own operating points were chosen for, of an ensemble its members'."""
    points = card.operating_points or [point for member in card.members for point in member.card.operating_points]
    criteria = [point["criterion"] for point in points if point["criterion"] in CRITERIA]
    return max(dict.fromkeys(criteria), key=criteria.count) if criteria else USUAL_CRITERION


def _on_pooled(labels: LabelSettings, targets: Floats, pooled: Pooled | None) -> tuple[str, ...]:
    """The labels that have too few cases of their own, and more among the pooled ones."""
    if pooled is None or labels.one_of_classes:
        return ()
    pairs = zip(labels.output_names, targets.T, pooled[0].T, strict=True)
    return tuple(
        name for name, of_split, more in pairs if takes_pooled(of_split[~np.isnan(of_split)], more[~np.isnan(more)])
    )


def _unchosen(labels: LabelSettings, targets: Floats, stood_in: Sequence[str]) -> list[str]:
    if labels.one_of_classes:
        return []
    return [
        f"{name}: one outcome only, its operating point is kept"
        for name, column in zip(labels.output_names, targets.T, strict=True)
        if len(np.unique(column[~np.isnan(column)])) < 2 and name not in stood_in
    ]


def _few(method: str, counts: Mapping[str, tuple[int, int]]) -> list[str]:
    if method != "isotonic":
        return []
    rarer = {name: min(positive, total - positive) for name, (positive, total) in counts.items()}
    return [
        f"{name}: {number} cases of the rarer outcome are few for isotonic (about {FEW_FOR_ISOTONIC}); prefer platt"
        for name, number in rarer.items()
        if number < FEW_FOR_ISOTONIC
    ]
