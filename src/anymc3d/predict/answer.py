"""From what the members of a plugin say of a case to its answer: logits, probabilities, decisions, warnings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from anymc3d.data.case_scans import PreparedCase
from anymc3d.errors import PluginError
from anymc3d.evaluate import outputs
from anymc3d.evaluate.task_calibration import answer
from anymc3d.models.classifier import ClassifierOutput
from anymc3d.plugins import Plugin
from anymc3d.plugins.card import PluginCard
from anymc3d.predict.likeness import across_planes, unlike_training
from anymc3d.predict.prediction import Prediction

Runs = Sequence[tuple[PluginCard, ClassifierOutput]]
"""What each member of a plugin says of one case."""


def answered(plugin: Plugin, case: str, prepared: PreparedCase, runs: Runs) -> Prediction:
    """The record of one case.

    Raises:
        PluginError: a logit is not finite.
    """
    card = plugin.card
    logits = _task_logits(card, runs)
    if not np.isfinite(logits).all():
        raise PluginError(f"plugin {card.name!r} gave a logit that is not finite for case {case!r}")
    found = answer(logits, card.labels.kind, card.thresholds, card.calibration)
    names = card.labels.output_names
    unlike = unlike_training(card, prepared.scans)
    warnings = [*prepared.warnings, *_missing_views(prepared), *across_planes(card, prepared.scans), *unlike]
    return Prediction(
        case=case,
        plugin=card.name,
        status="warn" if warnings else "ok",
        message="; ".join(" ".join(text.split()) for text in warnings),
        labels=names,
        logits=dict(zip(names, logits[0].tolist(), strict=True)),
        probabilities=dict(zip(names, found.probabilities[0].tolist(), strict=True)),
        calibrated=card.is_calibrated,
        calibration=card.calibration_states,
        decisions=dict(zip(names, found.decisions[0].tolist(), strict=True)),
        slice_weights=_slice_weights(card, prepared, runs),
        view_weights=_view_weights(card, runs),
        unlike_training=unlike,
    )


def unanswered(plugin: Plugin, case: str, message: str) -> Prediction:
    """The record of a case that failed."""
    card = plugin.card
    return Prediction(case=case, plugin=card.name, status="error", message=message, labels=card.labels.output_names)


def _task_logits(card: PluginCard, runs: Runs) -> np.ndarray:
    """Logits (1, labels) of one case: raw, or the weighted mean of an ensemble's calibrated ones (supplement D)."""
    raw = [outputs.raw_logits(run.logits.cpu().numpy(), card.labels.kind) for _, run in runs]
    if card.kind != "ensemble":
        return raw[0]
    maps = [member.calibration for member, _ in runs]
    told = [own if one is None else one.apply(own) for own, one in zip(raw, maps, strict=True)]
    return np.average(told, axis=0, weights=[member.weight for member in card.members])


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
