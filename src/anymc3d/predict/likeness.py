"""Whether a scan is of the kind that a plugin was trained on: what its header says, and what its intensities show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anymc3d.data.intensity import mismatch
from anymc3d.data.scan import ScanFacts
from anymc3d.data.thick_planes import across
from anymc3d.plugins.card import PluginCard

COMPARED = ("CT", "MR", "PT")
"""The modalities that a header is believed in; a plugin of any other is free of the comparison."""


def unlike_training(card: PluginCard, scans: Mapping[str, ScanFacts]) -> tuple[str, ...]:
    """One line for each way in which the scans, by image column, are unlike the training scans; none where they fit."""
    found: list[str | None] = []
    for column, facts in scans.items():
        found.append(_other_modality(facts.modality, card.modality))
        summary: Any = card.intensities.get(column)
        if summary is not None:
            found.append(mismatch(facts.intensities, summary, card.modality))
    return tuple(text for text in found if text is not None)


def across_planes(card: PluginCard, scans: Mapping[str, ScanFacts]) -> tuple[str, ...]:
    """One line for each scan of thick slices, by image column, that no view of the plugin shows in their own plane."""
    planes: dict[str, set[str]] = {}
    for view in card.preprocessing.values():
        planes.setdefault(view.image, set()).add(view.plane)
    told = (across(facts.spacing, planes[column]) for column, facts in scans.items() if column in planes)
    return tuple(text for text in told if text is not None)


def _other_modality(told: str | None, trained: str) -> str | None:
    """Intensities cannot show every exchange: MR and PET have no absolute scale."""
    if told not in COMPARED or trained not in COMPARED or told == trained:
        return None
    return f"the header says {told}, the plugin was trained on {trained} scans"
