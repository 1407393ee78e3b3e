"""A picture of where the query looks: prepared slices of a few test cases under the weight each of them got."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from anymc3d.data.case import Case
from anymc3d.data.case_scans import CaseScans
from anymc3d.data.preprocess import PreparedView
from anymc3d.data.volume import Volume, to_ras
from anymc3d.demo.dataset import LABEL
from anymc3d.pictures.planes import CONVENTION, PLANES
from anymc3d.pictures.scan import write_png
from anymc3d.pictures.sheet import sheet
from anymc3d.pictures.tiles import Tile, draw_plane, scale_for
from anymc3d.predict.prediction import Prediction
from anymc3d.predict.predictor import Predictor

CASES_PER_KIND = 2
LONGEST_PIXELS = 150


def draw_slice_weights(predictor: Predictor, cases: Sequence[Case], path: Path) -> Path:
    """Draw the first test cases of each kind, one row a case, slices from bottom to top, and return ``path``."""
    test = [case for case in cases if case.split == "test"]
    chosen = [case for kind in ("1", "0") for case in [c for c in test if c.cells[LABEL] == kind][:CASES_PER_KIND]]
    (plugin,) = predictor.plugins
    (view, settings), *_ = plugin.card.preprocessing.items()
    rows, names, scale = [], [], 1.0
    for case in chosen:
        (prediction,) = predictor.predict_case(case)
        prepared = CaseScans(case).prepare({view: settings}).views[view]
        tiles, scale = _tiles(prepared, prediction.slice_weights[view])
        rows.append(tiles)
        names.append(_caption(case, prediction))
    title = f"Weight of each slice in the answer, view {view}"
    what = "The number above a slice is the weight that the learned query gives it; the strongest are framed."
    caption = f"{what} {CONVENTION}"
    write_png(path, sheet(rows, mm_per_pixel=scale, title=title, caption=caption, row_names=names))
    return path


def _tiles(prepared: PreparedView, weights: Sequence[float]) -> tuple[list[Tile], float]:
    """The slices of one view as the plugin sees them, in the scan's own order, and their millimetres per pixel."""
    stored = prepared.slices[:, 0].astype(np.float32).transpose(1, 2, 0)
    ras, plane = to_ras(Volume(voxels=stored, affine=prepared.affine)), PLANES[prepared.plane]
    scale = scale_for([plane.size_mm(ras.extent_mm)], LONGEST_PIXELS)
    tiles = []
    for index, weight in enumerate(weights):
        pixels = draw_plane(ras, plane, index, grey=(0.0, 1.0), mm_per_pixel=scale)
        tiles.append(Tile(pixels, plane, f"{weight:.2f}", framed=weight >= 0.9 * max(weights)))
    return tiles, scale


def _caption(case: Case, prediction: Prediction) -> str:
    truth = "ring" if case.cells[LABEL] == "1" else "solid"
    return f"{case.id}\ntruth: {truth}\np(ring) {prediction.probabilities[LABEL]:.2f}"
