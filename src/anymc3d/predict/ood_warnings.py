"""Whether a scan is of the kind that a plugin was trained on: what its header says, what its intensities show, and how
far its measures lie from those of the training scans."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from anymc3d.data.intensity import mismatch
from anymc3d.data.ood_measures import Measures
from anymc3d.data.scan import ScanFacts
from anymc3d.data.thick_planes import thick_slice_warning
from anymc3d.evaluate import ood
from anymc3d.plugins.card import PluginCard

NOT_TO_BE_USED = "Do not use: unlike the training scans"
COMPARED = ("CT", "MR", "PT")
"""The modalities that a header is believed in; a plugin of any other is free of the comparison."""


def unlike_training(card: PluginCard, scans: Mapping[str, ScanFacts]) -> tuple[str, ...]:
    """One line for each way in which the scans, by image column, are unlike the training scans; none where they fit."""
    lines: list[str | None] = []
    for column, facts in scans.items():
        lines.append(_other_modality(facts.modality, card.modality))
        summary: Any = card.intensities.get(column)
        if summary is not None:
            lines.append(mismatch(facts.intensities, summary, card.modality))
    return tuple(text for text in lines if text is not None)


_SAID = re.compile(
    r"(^|; )(the header says \w+, the plugin was trained on|intensities do not fit the|unlike the training scans:) "
)


def says_unlike(message: str) -> bool:
    """Whether a row's message holds a line of :func:`unlike_training` or the alarm of :func:`distance_from_training`;
    rows that were read from a file have nothing else that says it."""
    return _SAID.search(message) is not None


def thick_slice_warnings(card: PluginCard, scans: Mapping[str, ScanFacts]) -> tuple[str, ...]:
    """One line for each scan of thick slices, by image column, that no view of the plugin shows in their own plane."""
    planes: dict[str, set[str]] = {}
    for view in card.preprocessing.values():
        planes.setdefault(view.image, set()).add(view.plane)
    lines = (thick_slice_warning(facts.spacing, planes[column]) for column, facts in scans.items() if column in planes)
    return tuple(text for text in lines if text is not None)


def _other_modality(modality: str | None, trained: str) -> str | None:
    """Intensities cannot show every exchange: MR and PET have no absolute scale."""
    if modality not in COMPARED or trained not in COMPARED or modality == trained:
        return None
    return f"the header says {modality}, the plugin was trained on {trained} scans"


IN_WORDS: Mapping[str, str] = {
    "geometry": "spacing and extent of {}",
    "histogram": "distribution of values in {}",
    "texture": "texture of view {}",
    "layout": "what lies where in view {}",
    "turned": "view {} fits once it is turned over (upside down, or exchanged sides?)",
}
"""Measure -> what of the scan it is."""


@dataclass(frozen=True)
class Distance:
    """How far a case is from the training scans. ``score``: ``ood_score``, above 1 an alarm; None: not known."""

    score: float | None
    alarm: str | None
    """One line, where it is one."""


def distance_from_training(card: PluginCard, measured: Measures) -> Distance:
    """Compare the measures of a case with the plugin's training scans; of an ensemble the mean over its members, and
    nothing where a member has no statistics."""
    cards = [member.card for member in card.members] or [card]
    distances = [
        member_card.scan_statistics.distances(_seen_by(member_card, card, measured))
        for member_card in cards
        if member_card.scan_statistics
    ]
    scores = [score for by_measure in distances if (score := ood.score(by_measure)) is not None]
    if len(scores) < len(cards):
        return Distance(None, None)
    score = float(np.mean(scores))
    if score <= 1:
        return Distance(score, None)
    names = dict.fromkeys(name for by_measure in distances for name in by_measure)
    means = {name: float(np.mean([by_measure.get(name, 0.0) for by_measure in distances])) for name in names}
    worst = sorted(means, key=means.__getitem__, reverse=True)
    why = ", ".join(f"{_in_words(name)} {means[name]:.3g}" for name in worst if means[name] > 1 or name == worst[0])
    return Distance(score, f"unlike the training scans: ood_score {score:.3g}, an alarm above 1 ({why})")


def _seen_by(member: PluginCard, card: PluginCard, measured: Measures) -> Measures:
    """The measures that mean the same to a member: of scans, and of views that it sees as the whole plugin does."""
    shared_views = {name for name, view in member.preprocessing.items() if card.preprocessing.get(name) == view}
    of_views = ("texture", "layout")
    parts = {name: name.partition(".") for name in measured}
    return {
        name: measured[name]
        for name, (what, _, place) in parts.items()
        if what not in of_views or place in shared_views
    }


def _in_words(name: str) -> str:
    measure, _, place = name.partition(".")
    return IN_WORDS[measure].format(place) if measure in IN_WORDS else "a measure"
