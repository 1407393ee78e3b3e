"""From what the members of a plugin say of a case to its answer: logits, probabilities, decisions, warnings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from anymc3d.data.case_scans import PreparedCase
from anymc3d.data.ood_measures import measure_case
from anymc3d.errors import PluginError
from anymc3d.evaluate import conformal, outputs
from anymc3d.evaluate.task_calibration import answer
from anymc3d.models.classifier import ClassifierOutput
from anymc3d.plugins import Plugin
from anymc3d.plugins.card import PluginCard
from anymc3d.plugins.covariates import Joined
from anymc3d.predict.likeness import Distance, across_planes, distance_from_training, unlike_training
from anymc3d.predict.prediction import Prediction

Runs = Sequence[tuple[PluginCard, ClassifierOutput]]
"""What each member of a plugin says of one case."""


def answered(
    plugin: Plugin, case: str, prepared: PreparedCase, runs: Runs, cells: Mapping[str, str] | None = None
) -> Prediction:
    """The record of one case; ``cells``: those that hold its covariates.

    Raises:
        PluginError: a logit is not finite.
        ScanError: a covariate is no number where one is expected.
    """
    card = plugin.card
    logits, alone, notes = _task_logits(card, runs, cells or {})
    if not np.isfinite(logits).all():
        raise PluginError(f"plugin {card.name!r} gave a logit that is not finite for case {case!r}")
    names = card.labels.output_names
    distance = distance_from_training(card, measure_case(prepared)) if card.knows_its_scans else Distance(None, None)
    said = _said(card, logits)
    sets, in_doubt = _prediction_sets(card, logits, said.get("decisions", {}))
    unlike = (*unlike_training(card, prepared.scans), *([distance.alarm] if distance.alarm else []))
    missing = [*_missing_views(prepared), *notes]
    warnings = [*prepared.warnings, *missing, *across_planes(card, prepared.scans), *unlike]
    return Prediction(
        case=case,
        plugin=card.name,
        status="warn" if warnings else "ok",
        message="; ".join(" ".join(text.split()) for text in warnings),
        labels=names,
        **said,
        slice_weights=_slice_weights(card, prepared, runs),
        view_weights=_view_weights(card, runs),
        image_logits={} if alone is None else dict(zip(names, alone[0].tolist(), strict=True)),
        covariate_logits={} if alone is None else dict(zip(names, alone[1].tolist(), strict=True)),
        unlike_training=unlike,
        intensities={column: facts.intensities for column, facts in prepared.scans.items()},
        ood_score=distance.score,
        sets=sets,
        in_doubt=tuple(names) if unlike else in_doubt,
    )


def _said(card: PluginCard, logits: np.ndarray) -> dict[str, Any]:
    """What a record says of the labels: a number, or logit, probability and decision; ``logits`` (1, labels)."""
    names = card.labels.output_names
    if card.labels.is_number:
        return {"values": dict(zip(names, logits[0].tolist(), strict=True))}
    found = answer(logits, card.labels.kind, card.thresholds, card.calibration)
    return {
        "logits": dict(zip(names, logits[0].tolist(), strict=True)),
        "probabilities": dict(zip(names, found.probabilities[0].tolist(), strict=True)),
        "calibrated": card.is_calibrated,
        "calibration": card.calibration_states,
        "decisions": dict(zip(names, found.decisions[0].tolist(), strict=True)),
    }


def unanswered(plugin: Plugin, case: str, message: str) -> Prediction:
    """The record of a case that failed."""
    card = plugin.card
    return Prediction(case=case, plugin=card.name, status="error", message=message, labels=card.labels.output_names)


def _task_logits(
    card: PluginCard, runs: Runs, cells: Mapping[str, str]
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray] | None, list[str]]:
    """Logits (1, labels) of one case: raw, or the weighted mean of an ensemble's calibrated ones (supplement D); of
    plugins with covariates what the image and the covariates say alone, (labels,) each; and notes on the covariates."""
    raw = [outputs.raw_logits(run.logits.cpu().numpy(), card.labels.kind) for _, run in runs]
    joined = [
        None if member.covariates is None else member.covariates.joined(own[0], cells)
        for own, (member, _) in zip(raw, runs, strict=True)
    ]
    notes = list(dict.fromkeys(note for one in joined if one is not None for note in one.notes))
    told = [own if one is None else one.both[None] for own, one in zip(raw, joined, strict=True)]
    told = [_in_units(member, own) for own, (member, _) in zip(told, runs, strict=True)]
    if card.kind != "ensemble":
        own = joined[0]
        return told[0], None if own is None else (_in_units(card, own.image), _in_units(card, own.alone)), notes
    weights = [member.weight for member in card.members]
    maps = [member.calibration for member, _ in runs]
    calibrated = [own if one is None else one.apply(own) for own, one in zip(told, maps, strict=True)]
    return np.average(calibrated, axis=0, weights=weights), _alone(runs, raw, joined, weights), notes


def _in_units(card: PluginCard, standard: np.ndarray) -> np.ndarray:
    """A number in the units of the manifest; logits as they are."""
    return standard if card.number is None else card.number.in_units(standard)


def _alone(
    runs: Runs, raw: Sequence[np.ndarray], joined: Sequence[Joined | None], weights: Sequence[float]
) -> tuple[np.ndarray, np.ndarray] | None:
    """Of an ensemble the weighted mean of what each part adds to its members' logits."""
    if all(one is None for one in joined):
        return None
    image, alone = [], []
    for (member, _), own, one in zip(runs, raw, joined, strict=True):
        record = member.covariates
        slopes = (1.0, 0.0) if record is None else (np.array(record.model.image), np.array(record.model.covariates))
        image.append(_in_units(member, slopes[0] * own[0]))
        alone.append(_in_units(member, slopes[1] * (np.zeros_like(own[0]) if one is None else one.alone)))
    return np.average(image, axis=0, weights=weights), np.average(alone, axis=0, weights=weights)


def _prediction_sets(
    card: PluginCard, logits: np.ndarray, decisions: Mapping[str, int]
) -> tuple[Mapping[str, str], tuple[str, ...]]:
    """Of one case: cells of the sets, and the labels whose decision is not all that its set holds."""
    if card.prediction_sets is None:
        return {}, ()
    names, of_classes = card.labels.output_names, card.labels.one_of_classes
    allowed = card.prediction_sets.answers(logits, card.labels)[0]
    decided = np.array([decisions[name] for name in names])
    cells = conformal.set_cells(allowed, names, one_of_classes=of_classes)
    return cells, conformal.unanswered(allowed, decided, names, one_of_classes=of_classes)


def _slice_weights(card: PluginCard, prepared: PreparedCase, runs: Runs) -> dict[str, tuple[float, ...]]:
    if card.is_mixed:
        return {}
    weighed = [run.slice_weights for _, run in runs]
    there = [n for n in card.views if prepared.views.get(n) is not None and all(n in weights for weights in weighed)]
    weights = {name: [run.slice_weights[name][0] for _, run in runs] for name in there}
    return {name: tuple(torch.stack(found).mean(dim=0).tolist()) for name, found in weights.items()}


def _view_weights(card: PluginCard, runs: Runs) -> dict[str, float]:
    if card.is_mixed or any(member.plain is not None for member, _ in runs):
        return {}
    by_name = [dict(zip(member.views, run.view_weights[0].tolist(), strict=True)) for member, run in runs]
    return {name: float(np.mean([weights[name] for weights in by_name])) for name in card.views}


def _missing_views(prepared: PreparedCase) -> list[str]:
    missing = [name for name, view in prepared.views.items() if view is None]
    there = [name for name, view in prepared.views.items() if view is not None]
    return [f"view {name} is missing: predicted from {', '.join(there)} alone" for name in missing]
