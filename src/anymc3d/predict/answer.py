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
from anymc3d.plugins.covariates import JoinedLogits
from anymc3d.plugins.evidence import doubts_of
from anymc3d.predict.ood_warnings import Distance, distance_from_training, thick_slice_warnings, unlike_training
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
    measures = (prepared.measures or measure_case(prepared)) if card.knows_its_scans else {}
    distance = distance_from_training(card, measures) if measures else Distance(None, None)
    fields = _label_fields(card, logits)
    sets, in_doubt = _prediction_sets(card, logits, fields.get("decisions", {}))
    unlike = (*unlike_training(card, prepared.scans), *([distance.alarm] if distance.alarm else []))
    missing = [*_missing_views(prepared), *notes]
    warnings = [*prepared.warnings, *missing, *thick_slice_warnings(card, prepared.scans), *unlike]
    return Prediction(
        case=case,
        plugin=card.name,
        status="warn" if warnings else "ok",
        message="; ".join(" ".join(text.split()) for text in warnings),
        labels=names,
        **fields,
        slice_weights=_slice_weights(card, prepared, runs),
        view_weights=_view_weights(card, runs),
        image_logits={} if alone is None else dict(zip(names, alone[0].tolist(), strict=True)),
        covariate_logits={} if alone is None else dict(zip(names, alone[1].tolist(), strict=True)),
        unlike_training=unlike,
        intensities={column: facts.intensities for column, facts in prepared.scans.items()},
        ood_score=distance.score,
        sets=sets,
        in_doubt=tuple(names) if unlike else in_doubt,
        plugin_doubts=doubts_of(card),
    )


def _label_fields(card: PluginCard, logits: np.ndarray) -> dict[str, Any]:
    """What a record says of the labels: a number, or logit, probability and decision; ``logits`` (1, labels)."""
    names = card.labels.output_names
    if card.labels.is_number:
        return {"values": dict(zip(names, logits[0].tolist(), strict=True))}
    result = answer(logits, card.labels.kind, card.thresholds, card.calibration)
    return {
        "logits": dict(zip(names, logits[0].tolist(), strict=True)),
        "probabilities": dict(zip(names, result.probabilities[0].tolist(), strict=True)),
        "calibrated": card.is_calibrated,
        "calibration": card.calibration_states,
        "decisions": dict(zip(names, result.decisions[0].tolist(), strict=True)),
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
        None if member.covariates is None else member.covariates.joined(logits[0], cells)
        for logits, (member, _) in zip(raw, runs, strict=True)
    ]
    notes = list(dict.fromkeys(note for joint in joined if joint is not None for note in joint.notes))
    member_logits = [logits if joint is None else joint.both[None] for logits, joint in zip(raw, joined, strict=True)]
    member_logits = [_in_units(member, logits) for logits, (member, _) in zip(member_logits, runs, strict=True)]
    if card.kind != "ensemble":
        joint = joined[0]
        return (
            member_logits[0],
            None if joint is None else (_in_units(card, joint.image), _in_units(card, joint.alone)),
            notes,
        )
    weights = [member.weight for member in card.members]
    maps = [member.calibration for member, _ in runs]
    calibrated = [
        logits if calibration is None else calibration.apply(logits)
        for logits, calibration in zip(member_logits, maps, strict=True)
    ]
    return np.average(calibrated, axis=0, weights=weights), _alone(runs, raw, joined, weights), notes


def _in_units(card: PluginCard, standard: np.ndarray) -> np.ndarray:
    """A number in the units of the manifest; logits as they are."""
    return standard if card.number is None else card.number.in_units(standard)


def _alone(
    runs: Runs, raw: Sequence[np.ndarray], joined: Sequence[JoinedLogits | None], weights: Sequence[float]
) -> tuple[np.ndarray, np.ndarray] | None:
    """Of an ensemble the weighted mean of what each part adds to its members' logits."""
    if all(joint is None for joint in joined):
        return None
    image, alone = [], []
    for (member, _), logits, joint in zip(runs, raw, joined, strict=True):
        record = member.covariates
        slopes = (1.0, 0.0) if record is None else (np.array(record.model.image), np.array(record.model.covariates))
        image.append(_in_units(member, slopes[0] * logits[0]))
        alone.append(_in_units(member, slopes[1] * (np.zeros_like(logits[0]) if joint is None else joint.alone)))
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
    view_names = [
        n for n in card.views if prepared.views.get(n) is not None and all(n in weights for weights in weighed)
    ]
    weights = {name: [run.slice_weights[name][0] for _, run in runs] for name in view_names}
    return {name: tuple(torch.stack(per_member).mean(dim=0).tolist()) for name, per_member in weights.items()}


def _view_weights(card: PluginCard, runs: Runs) -> dict[str, float]:
    if card.is_mixed or any(member.plain is not None for member, _ in runs):
        return {}
    by_name = [dict(zip(member.views, run.view_weights[0].tolist(), strict=True)) for member, run in runs]
    return {name: float(np.mean([weights[name] for weights in by_name])) for name in card.views}


def _missing_views(prepared: PreparedCase) -> list[str]:
    missing = [name for name, view in prepared.views.items() if view is None]
    there = [name for name, view in prepared.views.items() if view is not None]
    return [f"view {name} is missing: predicted from {', '.join(there)} alone" for name in missing]
