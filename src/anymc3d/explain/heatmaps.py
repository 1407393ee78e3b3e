"""One case's heatmaps: patch maps of every view, enlarged, brought back to the scan's own grid and fused over views.

Order of the steps (supplement G, docs/heatmaps.md): slice weights times patch weights, bilinear to the pixels of the
slices, lowest to 0 and highest to 1 over the whole volume, then back through resize, pad, crop and orientation. What
the view did not see is 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import affine_transform
from torch import Tensor

from anymc3d.data.case import Case
from anymc3d.data.case_scans import CaseScans
from anymc3d.data.preprocess import PreparedView
from anymc3d.data.scan_grid import to_scan_grid
from anymc3d.data.volume import Affine, Volume, Voxels
from anymc3d.errors import UsageError, did_you_mean
from anymc3d.explain.methods import DEFAULTS, METHODS, check_backbone, check_method, has_attention, methods_of
from anymc3d.explain.patch_maps import MapKey, MapRequest, patch_maps
from anymc3d.models.classifier import PackedSlices
from anymc3d.plugins.card import PluginCard
from anymc3d.predict.prediction import Prediction
from anymc3d.predict.predictor import Predictor
from anymc3d.predict.resident import Resident, prepared_for

FUSED = "fused"
"""The view name of the map over all views."""


@dataclass(frozen=True, eq=False)
class Heatmap:
    """One heatmap on the grid of one scan."""

    label: str
    view: str
    """A view's name, or ``fused``."""
    method: str
    column: str
    """The manifest column of the scan on whose grid it lies."""
    values: Voxels
    """(I, J, K) float32 in [0, 1], in the scan's storage order."""
    affine: Affine
    lowest: float
    """What became 0 …"""
    highest: float
    """… and what became 1; where they are equal the map is flat and all 0."""


@dataclass(frozen=True, eq=False)
class Explanation:
    """What one plugin says of one case, and where it looked. ``scans``: manifest column -> the scan."""

    prediction: Prediction
    heats: tuple[Heatmap, ...]
    scans: Mapping[str, Volume]
    hashes: Mapping[str, str]


def explain_case(
    predictor: Predictor,
    case: Case,
    *,
    methods: Sequence[str],
    labels: Sequence[str] | None = None,
    discard: float = 0.0,
    plugin: int = 0,
    scans: CaseScans | None = None,
) -> Explanation:
    """Predict one case and draw every method's map of every label (by default all), per view and over the views.

    Args:
        methods: entries of ``anymc3d.explain.methods.METHODS``.
        labels: output names of the plugin, such as ``block`` or ``grade=2``.
        discard: see :func:`anymc3d.explain.methods.patch_weights`.
        plugin: which of the predictor's plugins.
        scans: of the case, where they have been opened already.

    Raises:
        UsageError: an unknown method or label, or a backbone without attention maps.
        ScanError: the scan cannot be read or used.
    """
    request = request_of(predictor, methods, labels, discard=discard, plugin=plugin)
    resident = predictor.residents[plugin]
    card = resident.plugin.card
    names = card.labels.output_names
    scans = predictor.scans(case) if scans is None else scans
    prediction = predictor.predict_scans(resident, case, scans)
    prepared = scans.prepare(card.preprocessing)
    maps = mean_maps(resident, predictor.batch(card, prepared), request)
    columns = {view: settings.image for view, settings in card.preprocessing.items()}
    volumes = {column: scans.volume(column) for column in prepared.scans}
    heats: list[Heatmap] = []
    for method in request.methods:
        for label in request.labels:
            key = label if METHODS[method].gradients else None
            grids = {v: _enlarged(maps[MapKey(method, key, v)], view) for v, view in prepared.views.items() if view}
            place = _Place(label=names[label], method=method, columns=columns, views=prepared.views, volumes=volumes)
            heats += place.heats(grids, prediction.view_weights)
    return Explanation(prediction, tuple(heats), volumes, prepared.hashes)


def request_of(
    predictor: Predictor,
    methods: Sequence[str],
    labels: Sequence[str] | None = None,
    *,
    discard: float = 0.0,
    plugin: int = 0,
) -> MapRequest:
    """What to draw of every case.

    Raises:
        UsageError: an unknown method or label, or a backbone without attention maps.
    """
    resident = predictor.residents[plugin]
    card = resident.plugin.card
    check_has_attention(card)
    names = card.labels.output_names
    request = MapRequest(
        methods=tuple(dict.fromkeys(methods)),
        labels=tuple(label_index(name, names) for name in (labels or names)),
        kind=card.labels.kind,
        discard=discard,
    )
    for name in request.methods:
        check_method(name)
    check_backbone(request.methods, resident.backbone.module)
    return request


def unexplained_case(predictor: Predictor, case: Case) -> Explanation:
    """Predict one case and draw nothing, for plugins without attention.

    Raises:
        ScanError: the scan cannot be read or used.
    """
    resident = predictor.residents[0]
    scans = predictor.scans(case)
    prediction = predictor.predict_scans(resident, case, scans)
    prepared = prepared_for(resident.plugin.card, scans)
    return Explanation(prediction, (), {column: scans.volume(column) for column in prepared.scans}, prepared.hashes)


def default_method(predictor: Predictor) -> str:
    """The method to draw where none was asked for."""
    resident = predictor.residents[0]
    return DEFAULTS[bool(resident.plugin.card.why_no_heatmap) or has_attention(resident.backbone.module)]


def chosen_methods(predictor: Predictor, wanted: Sequence[str]) -> tuple[str, ...]:
    """The entries of ``METHODS`` to draw; ``all`` stands for every one that the plugin's backbone has.

    Raises:
        UsageError: one is not for this backbone.
    """
    backbone = predictor.residents[0].backbone.module
    chosen = wanted or [default_method(predictor)]
    methods = methods_of(backbone) if "all" in chosen else tuple(dict.fromkeys(chosen))
    check_backbone(methods, backbone)
    return methods


def check_has_attention(card: PluginCard) -> None:
    """Refuse a plugin of which no heatmap is drawn.

    Raises:
        UsageError: it has no attention to show.
    """
    if card.why_no_heatmap:
        raise UsageError(
            f"there is no heatmap of {card.name!r}: {card.why_no_heatmap}; explain a plugin of method anymc3d or "
            "frozen that sees class tokens, of an ensemble one of its members"
        )


def label_index(name: str, names: Sequence[str]) -> int:
    """Where a label stands among the plugin's.

    Raises:
        UsageError: the plugin has no such label.
    """
    if name not in names:
        raise UsageError(f"--label: unknown {name!r}{did_you_mean(name, names)}; the plugin has {', '.join(names)}")
    return list(names).index(name)


def mean_maps(resident: Resident, batch: Mapping[str, PackedSlices], request: MapRequest) -> dict[MapKey, Tensor]:
    """The patch maps; of an ensemble the mean over its members, each with its highest value as 1."""
    if len(resident.members) == 1:
        (only,) = resident.members
        return patch_maps(only.classifier, only.network, batch, only.encoding, request)[1]
    total: dict[MapKey, Tensor] = {}
    for member in resident.members:
        maps = patch_maps(member.classifier, member.network, batch, member.encoding, request)[1]
        for key, grid in maps.items():
            share = grid / grid.max().clamp(min=torch.finfo(grid.dtype).tiny) / len(resident.members)
            total[key] = total[key] + share if key in total else share
    return total


def _enlarged(grid: Tensor, view: PreparedView) -> Voxels:
    """(S, rows, columns) -> (S, H, W): bilinear over the same extent, which the patches cover whole."""
    size = view.slices.shape[-2:]
    larger = torch.nn.functional.interpolate(grid.unsqueeze(1), size=size, mode="bilinear", align_corners=False)
    return larger[:, 0].numpy()


@dataclass(frozen=True, kw_only=True)
class _Place:
    """What one method says of one label, on its way to the scans' grids."""

    label: str
    method: str
    columns: Mapping[str, str]
    views: Mapping[str, PreparedView | None]
    volumes: Mapping[str, Volume]

    def heats(self, grids: Mapping[str, Voxels], view_weights: Mapping[str, float]) -> list[Heatmap]:
        """One map per view that is there and, of a task with several views, one over all of them."""
        heats = [
            self._heat(view, self.columns[view], self._restored(view, unit(grid)), grid) for view, grid in grids.items()
        ]
        if len(self.views) == 1:
            return heats
        column = self.columns[next(iter(grids))]
        weighted = METHODS[self.method].slice_weighted
        total = np.zeros(self.volumes[column].shape, dtype=np.float32)
        for view, grid in grids.items():
            share = np.float32(view_weights[view] if weighted else 1.0)
            total += share * self._moved(self._restored(view, grid), self.columns[view], column)
        return [*heats, self._heat(FUSED, column, unit(total), total)]

    def _restored(self, view: str, grid: Voxels) -> Voxels:
        volume, prepared = self.volumes[self.columns[view]], self.views[view]
        if prepared is None:
            raise ValueError(f"view {view}: expected a view that is there")
        return to_scan_grid(grid, prepared.affine, volume.shape, volume.affine)

    def _moved(self, values: Voxels, column: str, to: str) -> Voxels:
        """From the grid of one scan to that of another, by their positions in space."""
        if column == to:
            return values
        target = self.volumes[to]
        matrix = np.linalg.inv(self.volumes[column].affine) @ target.affine
        return affine_transform(values, matrix[:3, :3], matrix[:3, 3], output_shape=target.shape, order=1)

    def _heat(self, view: str, column: str, values: Voxels, raw: Voxels) -> Heatmap:
        return Heatmap(
            label=self.label,
            view=view,
            method=self.method,
            column=column,
            values=np.clip(values, 0.0, 1.0, dtype=np.float32),
            affine=self.volumes[column].affine,
            lowest=float(raw.min()),
            highest=float(raw.max()),
        )


def unit(values: Voxels) -> Voxels:
    """Lowest to 0, highest to 1; a flat map is 0 everywhere."""
    low, high = float(values.min()), float(values.max())
    if high <= low:
        return np.zeros_like(values)
    return ((values - np.float32(low)) / np.float32(high - low)).astype(np.float32)
