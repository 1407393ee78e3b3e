"""Several plugins of one task as one plugin file: the mean of their calibrated logits.

Members must answer the same labels; they may see other slices, stand on other backbones and be of other kinds. They
are sorted by hash, so the order in which they are given changes neither the file nor any prediction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any

from torch import Tensor

from anymc3d.errors import PluginError, ProblemsError, UsageError
from anymc3d.evaluate.calibration import MIN_OUTCOMES
from anymc3d.evaluate.task_calibration import HALF
from anymc3d.plugins import Plugin
from anymc3d.plugins.card import Member, PluginCard, member_differences
from anymc3d.plugins.file import MEMBER_PREFIX
from anymc3d.settings.views import ViewSettings

_SHOWN = 4
_NUM_SCANS = "num_scans"


def make_ensemble(
    plugins: Sequence[Plugin], *, name: str = "", sources: Sequence[str] = (), weights: Sequence[float] = ()
) -> tuple[PluginCard, dict[str, Tensor]]:
    """Make one ensemble of ``plugins``: its card and tensors, ready for :func:`anymc3d.plugins.save_plugin`.

    Args:
        plugins: one or more, each once.
        name: of the ensemble; default: what the members' names have in common (``task`` of ``task-fold_0`` …), and
            ``-ensemble``.
        sources: what to call the plugins in messages, one each; default: their names.
        weights: of their logits in the mean, one each, at least one above 0; default: equal.

    Raises:
        UsageError: no plugin, or one plugin twice.
        ProblemsError: plugins that do not belong together; every difference is named.
    """
    sources = list(sources) or [plugin.card.name for plugin in plugins]
    _check(plugins, sources)
    shares = _checked_weights(weights, len(plugins))
    ordered = sorted(zip(plugins, shares, strict=True), key=lambda pair: pair[0].hash)
    members = [plugin for plugin, _ in ordered]
    # What stands for all: a member that sees slices, through a backbone where there is one.
    first = max((member.card for member in members), key=lambda part: (part.backbone is not None, part.sees_slices))
    card = PluginCard(
        name=name or _default_name([member.card.name for member in members]),
        labels=first.labels,
        modality=first.modality,
        preprocessing=_joint_views([member.card for member in members], first),
        backbone=first.backbone,
        method=first.method,
        fusion=first.fusion,
        code_version=first.code_version,
        intensities=_joint_intensities([member.card.intensities for member in members]),
        licence=_one_licence(members),
        kind="ensemble",
        members=tuple(Member(card=member.card, hash=member.hash, weight=share) for member, share in ordered),
    )
    tensors = {
        f"{MEMBER_PREFIX}{index}.{key}": tensor
        for index, member in enumerate(members)
        for key, tensor in member.tensors.items()
    }
    return card, tensors


def warnings_of(card: PluginCard) -> list[str]:
    """What the maker of an ensemble should know of what it holds and how it decides."""
    return _same_weights(card) + _how_it_decides(card)


def _same_weights(card: PluginCard) -> list[str]:
    different = len({member.card.logits_id for member in card.members})
    if different == len(card.members):
        return []
    what = f"{len(card.members)} members with only {different} different sets of weights"
    return [f"{what}: the same plugin calibrated twice counts twice"]


def _how_it_decides(card: PluginCard) -> list[str]:
    if card.labels.is_number:
        return []
    if card.labels.one_of_classes:
        return [] if card.holds_calibration else ["no member holds a calibration: the mean of raw logits, uncalibrated"]
    if not card.holds_calibration:
        return [
            "no member holds a calibration: the ensemble takes the mean of raw logits, its probabilities are "
            "uncalibrated and it decides at 0.5, not at the members' operating points; calibrate the members, or it"
        ]
    methods = {member.card.calibration.method for member in card.members if member.card.calibration is not None}
    if methods != {"platt"}:
        others = ", ".join(sorted(methods - {"platt"}))
        return [f"{others} does not put a member's operating point on {HALF}, where the ensemble decides"]
    return _too_few(card)


def _too_few(card: PluginCard) -> list[str]:
    """One line if some members' slopes could not be fitted: such a label's mean logit leans on the others."""
    too_few: dict[str, int] = {}
    for member in card.members:
        maps = member.card.calibration.maps if member.card.calibration is not None else {}
        for name, label_map in maps.items():
            too_few[name] = too_few.get(name, 0) + (
                min(label_map.n_positive, label_map.n - label_map.n_positive) < MIN_OUTCOMES
            )
    few = [f"{name} in {count} of {len(card.members)} members" for name, count in too_few.items() if count]
    if not few:
        return []
    named = ", ".join(few[:_SHOWN]) + (f" and {len(few) - _SHOWN} more labels" if len(few) > _SHOWN else "")
    return [
        f"fitted on fewer than {MIN_OUTCOMES} cases of the rarer outcome: {named}; calibrate them with the pooled "
        "out-of-fold cases ('anymc3d calibrate --pooled')"
    ]


def _check(plugins: Sequence[Plugin], sources: Sequence[str]) -> None:
    if not plugins:
        raise UsageError("expected at least one plugin, got none")
    if len(sources) != len(plugins):
        raise ValueError(f"expected {len(plugins)} sources, one per plugin, got {len(sources)}")
    seen: dict[str, str] = {}
    for plugin, source in zip(plugins, sources, strict=True):
        if plugin.hash in seen:
            raise UsageError(f"{source} and {seen[plugin.hash]} are the same plugin; give each one once")
        seen[plugin.hash] = source
    problems = []
    for plugin, source in zip(plugins, sources, strict=True):
        unlike = member_differences(plugins[0].card, plugin.card)
        named = "; ".join(unlike[:_SHOWN]) + (f" and {len(unlike) - _SHOWN} more" if len(unlike) > _SHOWN else "")
        if unlike:
            problems.append(f"{source}: {named}")
    if problems:
        raise ProblemsError(f"cannot join {sources[0]} with the others", problems)
    without = [source for plugin, source in zip(plugins, sources, strict=True) if plugin.card.calibration is None]
    if without and len(without) < len(plugins):
        msg = f"expected a calibration in every plugin or in none, but {', '.join(without[:_SHOWN])} has none"
        raise PluginError(f"{msg}; see 'anymc3d calibrate'")


def _checked_weights(weights: Sequence[float], count: int) -> list[float]:
    checked = list(weights) or [1.0] * count
    if len(checked) != count or min(checked) < 0 or max(checked) <= 0:
        raise UsageError(f"weights: expected {count} numbers of 0 or more, not all 0, got {checked}")
    return checked


def _joint_views(cards: Sequence[PluginCard], first: PluginCard) -> dict[str, ViewSettings]:
    """The views of all members that see slices, each once; those of one name that differ are numbered."""
    seeing = [card for card in cards if card.sees_slices] or [first]
    joint: dict[str, ViewSettings] = {}
    for name, view in ((name, view) for card in [first, *seeing] for name, view in card.preprocessing.items()):
        if view in joint.values():
            continue
        joint_name, number = name, 2
        while joint_name in joint:
            joint_name, number = f"{name}-{number}", number + 1
        joint[joint_name] = view
    return joint


def _joint_intensities(summaries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Per image column the range that covers all members': lowest low, highest high, middle of the medians."""
    columns = dict.fromkeys(column for summary in summaries for column in summary)
    return {column: _cover([summary[column] for summary in summaries if column in summary]) for column in columns}


def _cover(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    joint: dict[str, Any] = {_NUM_SCANS: max(record[_NUM_SCANS] for record in records)}
    for key in records[0]:
        if key != _NUM_SCANS:
            medians = sorted(record[key]["median"] for record in records)
            joint[key] = {
                "low": min(record[key]["low"] for record in records),
                "median": medians[len(medians) // 2],
                "high": max(record[key]["high"] for record in records),
            }
    return joint


def _default_name(names: Sequence[str]) -> str:
    """The words that all names begin with; never the name of one member, which a run of both would confuse."""
    words = [name.split("-") for name in names]
    shared = [parts[0] for parts in takewhile(lambda parts: len(set(parts)) == 1, zip(*words, strict=False))]
    name = f"{'-'.join(shared) or min(names)}-ensemble"
    while name in names:
        name += "-ensemble"
    return name


def _one_licence(members: Sequence[Plugin]) -> str:
    return "; ".join(dict.fromkeys(member.card.licence for member in members))
