"""A plugin in words for people: ``anymc3d plugin show``, and the page that goes with a plugin that is shared."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from anymc3d.evaluate.task_calibration import states_in_words
from anymc3d.plugins.card import INTENDED_USE, PluginCard
from anymc3d.plugins.covariates import in_words as column_in_words
from anymc3d.plugins.evidence import chosen_on, doubts_of, evidence_of, in_words
from anymc3d.plugins.file import Plugin
from anymc3d.plugins.method_words import method_of
from anymc3d.plugins.needs import needs_of
from anymc3d.printable import quoted
from anymc3d.settings.decision_text import what_is_positive


def facts_of(plugin: Plugin, path: Path) -> dict[str, Any]:
    """Name, size and hash."""
    return {
        "name": plugin.card.name,
        "file_bytes": path.stat().st_size,
        "parameters": sum(tensor.numel() for tensor in plugin.tensors.values()),
        "hash": plugin.hash,
    }


def describe(plugin: Plugin, path: Path) -> list[str]:
    """A plugin in about twenty lines for people; what its maker says of use stands beside what this program says."""
    card, facts = plugin.card, facts_of(plugin, path)
    views = [
        f"  {name}: {view.plane}, {' x '.join(str(n) if n else 'all' for n in view.size)}, {view.normalise}"
        + ("" if view.statistics == "backbone" else ", without the backbone's mean and standard deviation")
        + (f" {', '.join(f'[{low:g}, {high:g}]' for low, high in view.windows)}" if view.windows else "")
        for name, view in card.preprocessing.items()
    ]
    wanted = ("auroc", "average_precision", "sensitivity", "specificity", "accuracy")
    wanted = ("mae", "r2", "pearson", "spearman") if card.labels.is_number else wanted
    metrics = [
        f"  {row['metric']} {row['label']}: {_number(row['value'])}"
        + (f" ({_number(row['ci_low'])} to {_number(row['ci_high'])})" if row["ci_low"] not in ("", None) else "")
        for row in card.metrics
        if row["metric"] in wanted and row["group"] == "all"
    ]
    return [
        f"{card.name} ({card.kind}, format {card.format_version}): {facts['parameters']:,} parameters, "
        f"{facts['file_bytes']:,} bytes",
        f"hash: {facts['hash']}",
        f"labels: {', '.join(card.labels.output_names)} ({card.labels.kind}); modality {card.modality}",
        what_is_positive(card.labels),
        "views (in-plane x, in-plane y, slices):",
        *views,
        *_backbone(card),
        *_needs(card),
        *_members(card),
        *_method(card),
        *_covariates(card),
        *_decisions(card),
        *([f"on {chosen_on(card)} (optimistic):", *metrics] if metrics else []),
        *_out_of_fold(card),
        *(f"warning: {doubt}" for doubt in doubts_of(card)),
        f"licence: {card.licence}" + (f" (backbone: {card.backbone.licence})" if card.backbone else ""),
        *([f"its maker says of use: {quoted(card.intended_use)}"] if card.intended_use != INTENDED_USE else []),
        INTENDED_USE,
    ]


def _out_of_fold(card: PluginCard) -> list[str]:
    found = [f"  {row['label']}: {in_words(row)}" for row in evidence_of(card)] if card.out_of_fold else []
    return ["on cases that were each answered without them:", *found] if found else []


def _needs(card: PluginCard) -> list[str]:
    found = [f"  {need.what}: {need.how}" for need in needs_of(card)]
    return ["needs on this machine:", *found] if found else ["needs on this machine: nothing beside this program"]


def _covariates(card: PluginCard) -> list[str]:
    if card.covariates is None:
        return []
    model = card.covariates.model
    lines = [f"  {column_in_words(covariate)}" for covariate in card.covariates.columns]
    fitted = f"fitted on {model.cases} training cases, joined with the image on {model.joined_on}"
    return [f"covariates, {fitted}:", *lines]


def _backbone(card: PluginCard) -> list[str]:
    if card.is_mixed:
        return []
    if card.kind == "plain":
        return ["backbone: none; no network at all"]
    if card.backbone is None:
        return ["backbone: none; the file holds all weights of the network"]
    return [f"backbone: {card.backbone.name}, {card.backbone.positions} positions, {card.backbone.fingerprint}"]


def _members(card: PluginCard) -> list[str]:
    if not card.members:
        return []
    total = sum(member.weight for member in card.members)
    equal = len({member.weight for member in card.members}) == 1
    lines = [
        f"  {i}: {member.card.name}, {member.hash[:12]}" + ("" if equal else f", weight {member.weight / total:.3f}")
        for i, member in enumerate(card.members)
    ]
    mean = "mean" if equal else "weighted mean"
    return [f"ensemble of {len(card.members)}; logit = {mean} of the members' calibrated logits:", *lines]


def _method(card: PluginCard) -> list[str]:
    cards = [member.card for member in card.members] or [card]
    methods = dict.fromkeys(method_of(part) for part in cards)
    lines = [f"method: {method}" for method in methods]
    lines += [f"training: {how}" for how in dict.fromkeys(_start(part) for part in cards) if how]
    if card.segmentation is not None:
        what = "kept" if card.decodes else "not kept"
        labels = ", ".join(map(str, card.segmentation.classes))
        lines.append(f"learned from masks: {card.segmentation.decoder}, structures {labels}, decoder {what}")
    lines.append(f"training scans: {_statistics(cards)}")
    if not card.split:
        return lines
    split = ", ".join(f"{name} {part['cases']}" for name, part in card.split.items() if isinstance(part, dict))
    return [*lines, f"cases: {split}; split by patient"]


def _statistics(cards: Sequence[PluginCard]) -> str:
    """Of what there are statistics, by which ``predict`` says that a scan is unlike them."""
    if not all(card.knows_its_scans for card in cards):
        return "no statistics of them, so predict gives no ood_score"
    names = sorted({name for card in cards if card.scan_statistics for name in card.scan_statistics.measures})
    return f"statistics of {', '.join(names)}; predict gives an ood_score and warns above 1"


def _start(card: PluginCard) -> str:
    """What training started from, and which epoch was kept."""
    training = card.training
    if "start" not in training or card.backbone is None:
        return ""
    if training["start"] == "random":
        return "from random values, as in the paper"
    best_epoch = training.get("best_epoch")
    which = "which no epoch beat by more than noise" if best_epoch == 0 else f"epoch {best_epoch} kept"
    return f"from the solution on frozen features, {which}"


def _decisions(card: PluginCard) -> list[str]:
    """Calibration and operating points, with what they were fitted on."""
    points = [
        f"  {name}: {point['name']} on {point['source_split']} (n = {point['n']}, {point['n_positive']} positive), "
        f"raw logit >= {point['threshold']:.4g}"
        for name, point in zip(card.labels.output_names, card.operating_points, strict=bool(card.operating_points))
    ]
    if card.labels.is_number:
        return [_number_line(card)]
    heading = "operating points (none is used: the largest probability decides):"
    if not card.labels.one_of_classes:
        heading = "operating points:" if points else "operating points: probability >= 0.5"
    return [*_calibration(card), heading, *points, *_sets(card)]


def _sets(card: PluginCard) -> list[str]:
    sets = card.prediction_sets
    if sets is None:
        return []
    return [f"prediction sets: coverage {sets.coverage:g} of every answer, fitted on {sets.cases} cases ({sets.split})"]


def _number_line(card: PluginCard) -> str:
    scale = card.number
    if scale is None:
        return "answers a number: the mean of its members'"
    trained = f"{scale.low:g} to {scale.high:g}, mean {scale.center:.4g}, standard deviation {scale.spread:.4g}"
    return f"answers a number; the training cases have {trained}"


def _calibration(card: PluginCard) -> list[str]:
    fitted = card.calibration
    if fitted is None:
        states = states_in_words(card.calibration_states)
        inner = "each member's own (see its plugin)" if card.holds_calibration else "none"
        return [f"calibration: {inner}; probabilities are {states}"]
    criterion = f" through the operating point ({fitted.criterion})" if fitted.method == "platt" else ""
    lines = [
        f"  {name}: slope {label_map.slope:.4g}, n = {label_map.n}"
        + (f", {label_map.n_positive} positive" if not card.labels.one_of_classes else "")
        + (f" ({label_map.note})" if label_map.note else "")
        for name, label_map in fitted.maps.items()
    ]
    states = states_in_words(card.calibration_states)
    cases = f"{fitted.cases} cases ({fitted.split})"
    return [f"calibration: {fitted.method}{criterion}, on {cases}; probabilities are {states}:", *lines]


def _number(text: object) -> str:
    return "undefined" if text in ("", None) else f"{float(str(text)):.3f}"
