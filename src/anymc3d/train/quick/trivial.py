"""What needs no network: the size of a scan, its raw intensities, how bright its slices are.

A classifier that is no better than these has learnt nothing from the backbone; where these alone are good, a look at
the data set is due (how the scans were cropped, which scanner has which label).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields

import numpy as np
import torch

from anymc3d.data.case_scans import PreparedCase
from anymc3d.data.intensity import IntensityProfile
from anymc3d.data.measures.case import as_numbers, scan_statistics
from anymc3d.settings.views import ViewSettings
from anymc3d.train.quick.features import CaseFeatures
from anymc3d.train.quick.heads import Tokens
from anymc3d.train.quick.settings import Candidate, QuickSettings

WHAT = "scan size, raw intensities and mean brightness"


def trivial_tokens(
    prepared: Sequence[PreparedCase], features: Sequence[CaseFeatures], views: Mapping[str, ViewSettings]
) -> Tokens | None:
    """One row of plain measurements per case, in the place of a single slice's token; None where all are equal."""
    columns = sorted({view.image for view in views.values()})
    table = np.array(
        [
            _measurements(case, case_features, columns, tuple(views))
            for case, case_features in zip(prepared, features, strict=True)
        ]
    )
    absent = np.isnan(table)
    known = np.where(absent, 0.0, table).sum(axis=0) / np.maximum(1, (~absent).sum(axis=0))
    filled = np.concatenate([np.where(absent, known, table), absent.astype(float)], axis=1)
    varying = np.unique(filled[:, np.ptp(filled, axis=0) > 0], axis=1)
    if not varying.shape[1]:
        return None
    # Percentiles in raw units may span many orders of magnitude; standardised here, in double precision.
    scaled = (varying - varying.mean(axis=0)) / varying.std(axis=0)
    rows = torch.from_numpy(scaled.astype(np.float32)).unsqueeze(1)
    return Tokens({"image": (rows, torch.ones(rows.shape[:2], dtype=torch.bool))})


def trivial_candidates(settings: QuickSettings) -> tuple[Candidate, ...]:
    """The grid of the measurements: nothing to pool."""
    return tuple(Candidate("mean", decay) for decay in settings.decays)


def _measurements(
    case: PreparedCase, features: CaseFeatures, columns: Sequence[str], views: Sequence[str]
) -> list[float]:
    row: list[float] = []
    for column in columns:
        facts = case.scans.get(column)
        if facts is None:
            row += [math.nan] * (6 + len(fields(IntensityProfile)))
            continue
        measures = scan_statistics(facts)
        row += as_numbers(measures, list(measures))
    for view in views:
        view_features = features[view]
        row += (
            [math.nan] * 2
            if view_features is None
            else [float(view_features.brightness.mean()), float(view_features.brightness.std())]
        )
    return row
