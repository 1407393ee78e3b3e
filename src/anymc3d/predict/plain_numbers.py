"""What a plain plugin takes of a case: the voxels of its slices, or its measures."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from anymc3d.data.case_scans import CaseScans
from anymc3d.data.measures.case import MEASURES_VERSION, MeasureRequest, as_numbers, measure_case
from anymc3d.errors import PluginError
from anymc3d.models.plain import PLAIN, num_voxels
from anymc3d.plugins.card import PluginCard
from anymc3d.settings.views import ViewSettings
from anymc3d.types import Modality


def numbers_of(card: PluginCard, scans: CaseScans) -> NDArray[np.float32]:
    """The numbers (F,) of one case, NaN where they are not there.

    Raises:
        ScanError: a scan cannot be read, or a segmentation is needed and missing or unusable.
        PluginError: another version of the program measured the training cases.
    """
    if card.plain is None or not card.plain.measures:
        prepared = scans.slices(card.preprocessing)
        return voxels_of({name: view and view.slices for name, view in prepared.items()}, card.preprocessing)
    if card.plain.version != MEASURES_VERSION:
        raise PluginError(
            f"plugin {card.name!r} rests on measures of version {card.plain.version}, this program has version "
            f"{MEASURES_VERSION}; use the program it was trained with, or train it again"
        )
    wanted = wanted_measures(card.method.name, card.preprocessing, card.structures, card.modality)
    return np.array(as_numbers(measure_case(scans, wanted), card.plain.measures), dtype=np.float32)


def wanted_measures(
    method: str, views: Mapping[str, ViewSettings], structures: tuple[int, ...], modality: Modality
) -> MeasureRequest:
    """What a plain method measures of the scans that the views show."""
    columns = tuple(dict.fromkeys(view.image for view in views.values()))
    groups = PLAIN[method].groups
    return MeasureRequest(
        columns=columns,
        groups=groups,
        structures=structures if PLAIN[method].needs_mask else (),
        modality=modality,
    )


def voxels_of(slices: Mapping[str, NDArray | None], views: Mapping[str, ViewSettings]) -> NDArray[np.float32]:
    """All voxels of the slices (S, C, H, W) of all views, (F,); those of a missing view are NaN."""
    parts = []
    for name, view in views.items():
        voxels = slices[name]
        missing = np.full(num_voxels({name: view}), np.nan, dtype=np.float32)
        parts.append(missing if voxels is None else voxels.astype(np.float32).ravel())
    return np.concatenate(parts)
