"""Proof that a heatmap means something: does it point at the mask, and does the answer hang on what it points at.

Deletion: the hottest voxels are replaced by a blurred scan, more and more of them; where the map is right, the
probability falls fast and the area under the curve is small. Insertion: the other way, from the blurred scan to the
whole one; the area is large. Randomised weights (Adebayo and others, 2018): a map that stays the same when what was
learned is replaced by noise does not show what was learned.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from anymc3d.data.case import Case
from anymc3d.data.case_scans import CaseScans
from anymc3d.data.mask_grid import read_on_grid
from anymc3d.data.volume import Volume, Voxels, to_ras
from anymc3d.evaluate.localisation import Localisation, area_under, localise, rank_correlation
from anymc3d.explain.heatmaps import FUSED, Explanation, Heatmap, explain_case
from anymc3d.predict.encode import Alone
from anymc3d.predict.predictor import Predictor
from anymc3d.predict.resident import Resident

BLUR_MM = 10.0
STEPS = 10
"""Steps of a curve: shares 0, 1/10 … 1 of the voxels above 0."""


SCORES = (
    "peak_in_mask",
    "peak_distance_mm",
    "mass_in_mask",
    "mask_share",
    "deletion",
    "insertion",
    "shuffled_plugin",
    "shuffled_network",
)
"""What one map of one case can be scored by; see :func:`score_case`."""


def score_case(
    predictor: Predictor,
    case: Case,
    explanation: Explanation,
    methods: Sequence[str],
    *,
    faithfulness: bool,
    scans: CaseScans | None = None,
) -> list[dict[str, float]]:
    """Scores of every map of ``explanation``, in its order: those of ``SCORES`` that can be had.

    The first four need a mask of the scan and are of every label above 0 in it. ``faithfulness`` adds the areas under
    the deletion and insertion curves (of several views only for the map over all of them, because each takes some
    twenty predictions) and the rank correlation with the map of shuffled weights: the plugin's alone, and the
    backbone's too. ``scans``: of the case, where they have been opened already.

    Raises:
        ScanError: the mask cannot be read or lies on another grid.
    """
    rows: list[dict[str, float]] = [{} for _ in explanation.heats]
    (resident,) = predictor.residents
    prediction_views = {heat.view for heat in explanation.heats}
    truths = {column: truth_of(case, column, scan) for column, scan in explanation.scans.items()}
    for row, heat in zip(rows, explanation.heats, strict=True):
        truth = truths[heat.column]
        if truth is not None:
            row |= asdict(localisation_of(heat, truth))
        if faithfulness and (heat.view == FUSED or len(prediction_views) == 1):
            areas = deletion_and_insertion(predictor, resident, case, heat, explanation.scans)
            row["deletion"], row["insertion"] = areas
    if faithfulness:
        for name, backbone in (("shuffled_plugin", False), ("shuffled_network", True)):
            other = shuffled(predictor, backbone=backbone)
            for row, value in zip(rows, correlation_with(explanation, other, case, methods, scans), strict=True):
                row[name] = value
    return rows


def truth_of(case: Case, image_column: str, scan: Volume) -> NDArray[np.bool_] | None:
    """The mask of one scan of a case, in RAS order (every label above 0); None where it has none.

    Raises:
        ScanError: the mask cannot be read or lies on another grid.
    """
    column = "mask" + image_column.removeprefix("image")
    reference = case.masks.get(column)
    return None if reference is None else read_on_grid(reference, scan, spacing=case.spacing) > 0


def localisation_of(heat: Heatmap, truth: NDArray[np.bool_]) -> Localisation:
    """Score one map against the truth, both in RAS order."""
    ras = to_ras(Volume(voxels=heat.values, affine=heat.affine))
    return localise(ras.voxels, truth, ras.affine)


def deletion_and_insertion(
    predictor: Predictor, resident: Resident, case: Case, heat: Heatmap, scans: Mapping[str, Volume], steps: int = STEPS
) -> tuple[float, float]:
    """Areas under the label's probability as the hottest voxels go, and as they come back: both in [0, 1]."""
    scan = scans[heat.column]
    blurred = gaussian_filter(scan.voxels, [BLUR_MM / step for step in scan.spacing])
    # Ties are broken by position, the same in both curves. Voxels at 0 stay as they are.
    order = np.argsort(-heat.values, axis=None, kind="stable")[: int((heat.values > 0).sum())]
    counts = [round(order.size * step / steps) for step in range(steps + 1)]
    base = predictor.scans(case).changed(scans)

    def probability(start: Voxels, other: Voxels, count: int) -> float:
        voxels = start.copy()
        voxels.ravel()[order[:count]] = other.ravel()[order[:count]]
        what_if = base.changed({**scans, heat.column: replace(scan, voxels=voxels)})
        return predictor.predict_scans(resident, case, what_if).probabilities[heat.label]

    whole, soft = (np.ascontiguousarray(v) for v in (scan.voxels, blurred))
    without = whole.copy()
    without.ravel()[order] = soft.ravel()[order]
    deletion = [probability(whole, soft, count) for count in counts]
    insertion = [probability(without, whole, count) for count in counts]
    return area_under(deletion), area_under(insertion)


def shuffled(predictor: Predictor, *, backbone: bool, seed: int = 0) -> Predictor:
    """The same predictor with every tensor of its plugins, and if asked of their backbones, in random order."""
    generator = torch.Generator().manual_seed(seed)

    def shuffle(tensor: torch.Tensor) -> None:
        flat = tensor.flatten()
        tensor.copy_(flat[torch.randperm(flat.numel(), generator=generator)].view_as(tensor))

    other = copy.deepcopy(predictor)
    with torch.no_grad():
        for resident in other.residents:
            for classifier in (member.classifier for member in resident.members):
                for parameter in classifier.parameters():
                    shuffle(parameter)
            if backbone and resident.network is not None:
                for parameter in resident.network.parameters():
                    shuffle(parameter)
    other.alone = Alone(other.residents, other.device)
    return other


def correlation_with(
    explanation: Explanation, other: Predictor, case: Case, methods: Sequence[str], scans: CaseScans | None = None
) -> list[float]:
    """Rank correlation of every map with the one of another predictor, over the voxels above 0 in either."""
    labels = list(dict.fromkeys(heat.label for heat in explanation.heats))
    correlations = []
    again = explain_case(other, case, methods=methods, labels=labels, scans=scans)
    for first_map, two in zip(explanation.heats, again.heats, strict=True):
        either = (first_map.values > 0) | (two.values > 0)
        correlations.append(
            rank_correlation(first_map.values[either], two.values[either]) if either.any() else math.nan
        )
    return correlations
