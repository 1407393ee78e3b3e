"""What the report of a training run or of an evaluation says, read from its folder."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from anymc3d.data.case import Case
from anymc3d.data.manifest import inspect_manifest
from anymc3d.data.pseudonyms import Pseudonyms
from anymc3d.errors import UsageError
from anymc3d.evaluate.command import CURVES, METRICS, RECORD, draw, read_labels
from anymc3d.evaluate.measures import Sampling
from anymc3d.evaluate.pictures import Drawn
from anymc3d.evaluate.predictions import read_predictions
from anymc3d.evaluate.study import evaluate_study
from anymc3d.evaluate.study_cases import StudySettings
from anymc3d.evaluate.study_rows import ALL, COLUMNS
from anymc3d.evaluate.targets import encode_targets, settings_of
from anymc3d.files import regular
from anymc3d.files.tables import read_table
from anymc3d.plugins import Plugin, load_plugin
from anymc3d.plugins.card import PluginCard
from anymc3d.plugins.evidence import OUT_OF_FOLD
from anymc3d.report.case_heatmap import CaseHeatmaps
from anymc3d.report.folders import read_record
from anymc3d.report.hardest_cases import HardCase, Picture, hardest, pictures_of
from anymc3d.settings.config import LabelSettings
from anymc3d.settings.decision_text import what_is_positive
from anymc3d.settings.task_file import read_task
from anymc3d.train.quick.folder import QuickFolder
from anymc3d.train.quick.summary import NOTICE, lines
from anymc3d.train.run_folder import RunFolder

Row = Mapping[str, object]


@dataclass(frozen=True, kw_only=True)
class CurveFacts:
    """One curve with its band: (x, low, high); ``sizes``: cases per point of a reliability curve."""

    kind: str
    label: str
    plugin: str
    points: tuple[tuple[float, float], ...]
    band: tuple[tuple[float, float, float], ...]
    sizes: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class HardFacts:
    """The hardest cases and their pictures; ``missing``: why there are none."""

    cases: tuple[HardCase, ...] = ()
    num_wrong: int = 0
    pictures: Mapping[tuple[str, str, str], Picture]
    missing: str = ""


@dataclass(frozen=True, kw_only=True)
class FiguresFacts:
    """What the page of a run (``card`` and ``log``) or of an evaluation (neither) shows."""

    kind: str
    name: str
    split: str
    rows: tuple[Row, ...]
    """As in ``metrics.csv``; groups may be among them."""
    curves: tuple[CurveFacts, ...]
    hard: HardFacts
    identity: str
    card: PluginCard | None = None
    plugin_hash: str = ""
    log: tuple[Mapping[str, str], ...] = ()
    warnings: tuple[str, ...] = ()
    meanings: tuple[str, ...] = ()
    """What a decision of 1 stands for."""
    found: tuple[str, ...] = ()
    """What a ``--quick`` run printed, line by line."""
    picture: bytes = b""
    """The learning curve of a ``--quick`` run, PNG."""


def of_run(
    folder: Path,
    *,
    groups: Sequence[str],
    worst: int,
    pseudonyms: Pseudonyms | None,
    heater: CaseHeatmaps | None = None,
    quick: bool = False,
) -> FiguresFacts:
    """Read a finished training run; its curves are those of the validation split, of a ``quick`` one out of fold.

    ``heater``: draws heatmaps over the hardest cases.

    Raises:
        UsageError: the run has not finished, or its tables do not fit each other.
        PluginError: its plugin is damaged.
    """
    files, plugin = RunFolder(folder), plugin_of_run(folder)
    card = plugin.card
    of_quick, split = (QuickFolder(folder), OUT_OF_FOLD) if quick else (None, "val")
    table = files.predictions if of_quick is None else of_quick.out_of_fold
    predictions = [{**row, "plugin": card.name} for row in _without(read_table(table), "fold")]
    predicted = {row["case"] for row in predictions}
    all_labels = read_labels(files.manifest)
    labels = [{k: v for k, v in row.items() if k != "split"} for row in all_labels if row["case"] in predicted]
    study = evaluate_study(predictions, labels, known=[card.labels], settings=StudySettings(groups=tuple(groups)))
    run_metrics = _read_metrics(files.metrics if of_quick is None else of_quick.out_of_fold_metrics)
    run_metrics = [{**row, "split": split} for row in run_metrics if row["plugin"] == card.name]
    return FiguresFacts(
        kind="run" if of_quick is None else "quick",
        name=card.name,
        split=split,
        rows=(*run_metrics, *({**row, "split": split} for row in study.rows if row["group"] != ALL)),
        curves=tuple(_curve_facts(drawn) for drawn in draw(study, Sampling())),
        hard=_hard(predictions, labels, files.manifest, [card.labels], worst, pseudonyms, heater),
        identity=f"run {_sha256(files.record)}",
        card=card,
        plugin_hash=plugin.hash,
        log=tuple(read_table(files.log_csv)) if of_quick is None else (),
        warnings=tuple(study.warnings),
        meanings=(what_is_positive(card.labels),),
        found=() if of_quick is None else _found(of_quick),
        picture=b"" if of_quick is None else regular.read_bytes(of_quick.picture),
    )


def _curve_facts(drawn: Drawn) -> CurveFacts:
    curve = drawn.curve
    return CurveFacts(
        kind=curve.kind,
        label=drawn.label,
        plugin=drawn.plugin,
        points=tuple(zip(curve.x.tolist(), curve.y.tolist(), strict=True)),
        band=tuple(np.stack([curve.band.x, curve.band.low, curve.band.high], 1).tolist()),
        sizes=() if curve.sizes is None else tuple(curve.sizes.tolist()),
    )


def _without(rows: Sequence[dict[str, str]], column: str) -> list[dict[str, str]]:
    return [{name: cell for name, cell in row.items() if name != column} for row in rows]


def _found(folder: QuickFolder) -> tuple[str, ...]:
    """What ``train --quick`` printed, from its record.

    Raises:
        UsageError: the record is damaged.
    """
    try:
        return tuple(line for line in lines(read_record(folder.report)) if line != NOTICE)
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{folder.report}: expected what 'anymc3d train --quick' found, but it is damaged ({error!r})"
        ) from None


def plugin_of_run(folder: Path) -> Plugin:
    """The plugin of a finished training run.

    Raises:
        UsageError: the run has not finished.
        PluginError: its plugin is damaged.
    """
    path = RunFolder(folder).plugin
    if not path.is_file():
        raise UsageError(
            f"{folder}: this training run has not finished; 'anymc3d train' with the same words resumes it"
        )
    return load_plugin(path)


def of_evaluation(
    folder: Path,
    *,
    predictions: Path | None,
    manifest: Path | None,
    task: Path | None,
    worst: int,
    pseudonyms: Pseudonyms | None,
    heater: CaseHeatmaps | None = None,
) -> FiguresFacts:
    """Read what ``anymc3d evaluate`` wrote; with its predictions and manifest also the hardest cases.

    Raises:
        UsageError: the folder is not whole, or the tables are not those it was made from.
    """
    record = read_record(folder / RECORD)
    for name in (METRICS, CURVES):
        if not (folder / name).is_file():
            raise UsageError(f"{folder}: has no {name}; this evaluation has not finished, run it again")
    rows = _read_metrics(folder / METRICS)
    plugins = list(dict.fromkeys(str(row["plugin"]) for row in rows if row["plugin"]))
    splits = [str(row["split"]) for row in rows if row["metric"] == "failed_cases"]
    identity = f"evaluation {hashlib.sha256(repr(sorted(record.items())).encode()).hexdigest()}"
    return FiguresFacts(
        kind="evaluation",
        name=", ".join(plugins),
        split=splits[0] if splits else "",
        rows=tuple(rows),
        curves=tuple(_read_curves(folder / CURVES)),
        hard=_hard_of_tables(record, predictions, manifest, task, worst, pseudonyms, heater),
        identity=identity,
        meanings=tuple(_meanings(record, rows)),
    )


def _meanings(record: Mapping[str, Any], rows: Sequence[Row]) -> Iterator[str]:
    """From the task files that the evaluation was given, else from the form of its labels."""
    known = [
        LabelSettings(
            columns=tuple(label_record["columns"]), kind=label_record["kind"], classes=tuple(label_record["classes"])
        )
        for label_record in record.get("labels", [])
    ]
    names: dict[str, dict[str, None]] = {}
    for row in rows:
        if row["metric"] == "auroc" and row["group"] == ALL and row["label"] != "macro":
            names.setdefault(str(row["plugin"]), {})[str(row["label"])] = None
    yield from dict.fromkeys(what_is_positive(settings_of(list(labels), known)) for labels in names.values())
    of_numbers = dict.fromkeys(str(row["label"]) for row in rows if row["metric"] == "mae")
    yield from (what_is_positive(LabelSettings(columns=(label,), kind="regression")) for label in of_numbers)


def _hard_of_tables(
    record: Mapping[str, object],
    predictions: Path | None,
    manifest: Path | None,
    task: Path | None,
    worst: int,
    pseudonyms: Pseudonyms | None,
    heater: CaseHeatmaps | None,
) -> HardFacts:
    if predictions is None or manifest is None:
        if predictions is not None or manifest is not None:
            raise UsageError("expected --predictions and --manifest together, got one of them")
        return HardFacts(
            pictures={}, missing="An evaluation holds results, no cases: give --predictions and --manifest to see them."
        )
    for option, path in (("predictions", predictions), ("manifest", manifest)):
        if not path.is_file():
            raise UsageError(f"--{option}: {path}: no such file")
        if _sha256(path) != record.get(option):
            raise UsageError(f"--{option}: {path} is not the table that this evaluation was made from")
    known = [] if task is None else [read_task(task).labels]
    return _hard(read_table(predictions), _evaluated(read_labels(manifest)), manifest, known, worst, pseudonyms, heater)


def _evaluated(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """The rows that 'anymc3d evaluate' takes: those of the test split where there is one."""
    test = [row for row in rows if row.get("split") == "test"]
    return test or rows


def _hard(
    predictions: Sequence[Mapping[str, str]],
    labels: Sequence[Mapping[str, str]],
    manifest: Path,
    known: Sequence[LabelSettings],
    worst: int,
    pseudonyms: Pseudonyms | None,
    heater: CaseHeatmaps | None,
) -> HardFacts:
    if worst == 0:
        return HardFacts(pictures={}, missing="Not asked for (--worst 0).")
    if predictions and not any(column.startswith("logit.") for column in predictions[0]):
        return HardFacts(pictures={}, missing="A number is not right or wrong; see how far answers lie from the line.")
    ids = [row["case"] for row in labels]
    candidates: list[HardCase] = []
    num_wrong = 0
    for predicted in read_predictions(predictions, ids, known=known)[0]:
        if predicted.settings is not None:
            of_plugin, count = hardest(predicted, encode_targets(labels, predicted.settings), ids, worst)
            candidates, num_wrong = [*candidates, *of_plugin], num_wrong + count
    chosen = [hard for hard in candidates if hard.is_wrong] or candidates
    chosen = sorted(chosen, key=lambda hard: (hard.of_truth, hard.case, hard.label))[:worst]
    cases = {case.id: case for case in _cases(manifest)}
    pictures = pictures_of(chosen, cases, heater)
    if pseudonyms is not None:
        hidden = {hard_case: replace(hard_case, case=pseudonyms.case(hard_case.case)) for hard_case in chosen}
        pictures = {hidden[hard_case].key: pictures[hard_case.key] for hard_case in chosen}
        chosen = list(hidden.values())
    return HardFacts(cases=tuple(chosen), num_wrong=num_wrong, pictures=pictures)


def _cases(manifest: Path) -> tuple[Case, ...]:
    """Cases with the places of their scans; what else is wrong with the manifest does not matter here."""
    return inspect_manifest(manifest, check_scans=False)[0].cases


def _read_metrics(path: Path) -> list[Row]:
    rows = read_table(path)
    missing = [name for name in COLUMNS if rows and name not in rows[0]]
    if missing or not rows:
        raise UsageError(f"{path.name}: expected a metrics.csv, but it has no {', '.join(missing) or 'rows'}")
    return list(rows)


def _read_curves(path: Path) -> Iterator[CurveFacts]:
    parts: dict[tuple[str, str, str], list[dict[str, str]]] = {}
    for row in read_table(path):
        parts.setdefault((row["curve"], row["label"], row["plugin"]), []).append(row)
    for (kind, label, plugin), rows in parts.items():
        curve = [row for row in rows if row["part"] == "curve"]
        band = [row for row in rows if row["part"] == "band"]
        yield CurveFacts(
            kind=kind,
            label=label,
            plugin=plugin,
            points=tuple((_float(row["x"]), _float(row["y"])) for row in curve),
            band=tuple((_float(row["x"]), _float(row["low"]), _float(row["high"])) for row in band),
            sizes=tuple(_float(row["n"]) for row in curve) if kind == "reliability" else (),
        )


def _float(cell: str) -> float:
    return float(cell) if cell else math.nan


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
