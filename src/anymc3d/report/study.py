"""What a study's report says, from a plugin and a scan or from a folder that ``anymc3d explain`` wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from anymc3d.data.case import Case
from anymc3d.data.case_scans import CaseScans
from anymc3d.data.preprocess import slice_plane
from anymc3d.data.readers import read_volume
from anymc3d.data.volume import Volume, to_ras
from anymc3d.errors import ScanError, UsageError
from anymc3d.evaluate import outputs
from anymc3d.evaluate.calibration import State
from anymc3d.evaluate.operating_points import OperatingPoint
from anymc3d.explain.heatmaps import FUSED, Heatmap, explain_case, unexplained_case
from anymc3d.files import regular
from anymc3d.files.containment import inside
from anymc3d.plugins import Plugin
from anymc3d.plugins.card import PluginCard
from anymc3d.plugins.evidence import doubts_of, unproven
from anymc3d.predict.predictor import Predictor
from anymc3d.report.explain_record import read_case_record
from anymc3d.settings.decision_text import what_is_positive

MAX_PICTURE_BYTES = 32 * 2**20
DIRECTIONS = {"axial": "from feet to head", "coronal": "from back to front", "sagittal": "from left to right"}
"""How slices are counted, after the scan was brought to RAS."""


@dataclass(frozen=True, kw_only=True)
class StudyFacts:
    """One case as its page shows it. ``card`` and ``scans`` may be absent in a report of an explain folder."""

    case: str
    status: str
    message: str
    plugin: str
    probabilities: Mapping[str, float]
    decisions: Mapping[str, int]
    calibration: Mapping[str, State]
    """Label -> what may be said of its probability."""
    slice_weights: Mapping[str, Sequence[float]]
    view_weights: Mapping[str, float]
    maps: tuple[Heatmap, ...]
    """One per label: over all views where there are several."""
    method: str
    scans: Mapping[str, Volume]
    card: PluginCard | None
    plugin_hash: str = ""
    pictures: tuple[tuple[str, bytes], ...] = ()
    """(what it shows, PNG) where the scan itself is not at hand."""
    unlike_training: tuple[str, ...] = ()
    """Why the answer is not to be used: in what the scan is unlike the training scans."""
    values: Mapping[str, float] = field(default_factory=dict)
    """Label -> number, of a plugin that answers one; it has no probabilities then."""
    recorded_meaning: str = ""
    """What the record of an explain folder says a decision of 1 stands for."""
    recorded_doubts: tuple[str, ...] = ()
    """What the record of an explain folder says against the plugin itself."""
    others: tuple[Heatmap, ...] = ()
    """In a study of several scans, the maps of the views on other scans than the one on which ``maps`` lie."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The plugin's labels, in its order."""
        return tuple(self.values or self.probabilities)

    @property
    def first_label(self) -> str:
        """The one shown first: a positive decision before others, then the largest probability."""
        if self.values:
            return self.labels[0]
        return max(self.labels, key=lambda name: (self.decisions[name], self.probabilities[name]))

    @property
    def meaning(self) -> str:
        """What a decision of 1 stands for, where that is known."""
        return self.recorded_meaning if self.card is None else what_is_positive(self.card.labels)

    @property
    def doubts(self) -> tuple[str, ...]:
        """What speaks against the plugin itself, whatever the scan."""
        return self.recorded_doubts if self.card is None else doubts_of(self.card)

    @property
    def unproven(self) -> frozenset[str]:
        """Labels whose answers were not shown to be better than chance."""
        return frozenset() if self.card is None else frozenset(unproven(self.card))

    @property
    def identity(self) -> str:
        """Equal for reports of one case by one plugin."""
        return f"study {self.case} {self.plugin}"

    def direction(self, view: str) -> str:
        """How the slices of a view are counted, where that is known."""
        if self.card is None or view not in self.card.preprocessing:
            return ""
        settings = self.card.preprocessing[view]
        plane: str = settings.plane
        if plane == "auto":
            if settings.image not in self.scans:
                return ""
            plane = slice_plane(to_ras(self.scans[settings.image]).spacing)
        return f"{plane}, {DIRECTIONS[plane]}"


def threshold_of(card: PluginCard, label: str) -> tuple[OperatingPoint | None, float | None]:
    """A label's operating point and the probability it stands at; None where the largest probability decides."""
    if card.labels.one_of_classes:
        return None, None
    names = list(card.labels.output_names)
    raw = np.array([card.thresholds], dtype=np.float64)
    logits = raw if card.calibration is None else card.calibration.apply(raw)
    probability = float(outputs.probabilities(logits, card.labels.kind)[0, names.index(label)])
    points = card.operating_points
    return (OperatingPoint.from_dict(points[names.index(label)]) if points else None), probability


def from_plugin(predictor: Predictor, case: Case, *, method: str) -> StudyFacts:
    """Predict and explain one case; of some plugins there is no heatmap.

    Raises:
        UsageError: an unknown method.
        ScanError: the scan cannot be read or used.
    """
    (plugin,) = predictor.plugins
    if plugin.card.why_no_heatmap:
        explained = unexplained_case(predictor, case)
    else:
        explained = explain_case(predictor, case, methods=[method])
    prediction = explained.prediction
    return StudyFacts(
        case=case.id,
        status=prediction.status,
        message=prediction.message,
        unlike_training=prediction.unlike_training,
        plugin=prediction.plugin,
        probabilities=prediction.probabilities,
        values=prediction.values,
        decisions=prediction.decisions,
        calibration=prediction.calibration,
        slice_weights=prediction.slice_weights,
        view_weights=prediction.view_weights,
        maps=_overall(explained.heats, plugin.card.views),
        others=_on_other_scans(explained.heats),
        method=method,
        scans=explained.scans,
        card=plugin.card,
        plugin_hash=plugin.hash,
    )


def from_folder(folder: Path, *, plugin: Plugin | None, case: Case | None, method: str | None) -> StudyFacts:
    """Read what ``anymc3d explain`` wrote of one case; nothing is computed anew.

    Args:
        folder: ``OUT/<case>``.
        plugin: for its card and operating points.
        case: its scan, to show what lies under the heatmap.
        method: which of the folder's maps; by default its first.

    Raises:
        UsageError: the folder is of something else, failed, or does not fit the plugin, scan or method.
    """
    record = read_case_record(folder)
    if record["status"] == "error":
        raise UsageError(f"{folder}: this case failed ({record['message']}); there is nothing to report")
    if plugin is not None and plugin.card.name != record["plugin"]:
        raise UsageError(
            f"-p: expected the plugin that explained this case, {record['plugin']!r}, got {plugin.card.name!r}"
        )
    chosen = _chosen_method(record, method)
    rows = [row for row in record["heatmaps"] if row["method"] == chosen]
    scans = {} if case is None else _scans(case, record)
    heats = tuple(_read_heat(folder, row, scans) for row in rows) if scans else ()
    return StudyFacts(
        case=record["case"],
        status=record["status"],
        message=record["message"],
        unlike_training=tuple(str(text) for text in record.get("unlike_training") or ()),
        plugin=record["plugin"],
        probabilities=record["probabilities"],
        values=record.get("values", {}),
        decisions=record["decisions"],
        recorded_doubts=tuple(str(text) for text in record.get("plugin_doubts") or ()),
        recorded_meaning=str(record.get("decision_means", "")),
        calibration=record.get("calibration", dict.fromkeys(record["probabilities"], "none")),
        slice_weights=record["slice_weights"],
        view_weights=record["view_weights"],
        maps=_overall(heats, list(record["slice_weights"])),
        others=_on_other_scans(heats),
        method=chosen,
        scans=scans,
        card=None if plugin is None else plugin.card,
        plugin_hash="" if plugin is None else plugin.hash,
        pictures=() if scans else tuple(_pictures(folder, rows)),
    )


def _chosen_method(record: Mapping[str, Any], method: str | None) -> str:
    """The method whose maps are shown: the one that was asked for, or the folder's first."""
    methods = list(dict.fromkeys(heat["method"] for heat in record["heatmaps"]))
    chosen = method or next(iter(methods), "")
    if chosen not in methods:
        raise UsageError(f"--method: this folder has {', '.join(methods) or 'no heatmaps'}, not {chosen!r}")
    return chosen


def _overall(heats: Sequence[Heatmap], views: Sequence[str]) -> tuple[Heatmap, ...]:
    return tuple(heat for heat in heats if heat.view == FUSED or len(views) == 1)


def _on_other_scans(heats: Sequence[Heatmap]) -> tuple[Heatmap, ...]:
    shown = {heat.column for heat in heats if heat.view == FUSED}
    return tuple(heat for heat in heats if shown and heat.column not in shown)


def _scans(case: Case, record: Mapping[str, Any]) -> dict[str, Volume]:
    """The scans, where their content is that of the explained case."""
    scans = CaseScans(case)
    hashes, wanted = scans.hashes(), record["inputs"]["hashes"]
    if set(hashes.values()) & set(wanted.values()) != set(hashes.values()):
        raise UsageError(f"-i: this is not the scan that was explained as case {record['case']!r}")
    columns = {content: column for column, content in wanted.items()}
    return {columns[content]: scans.volume(column) for column, content in hashes.items()}


def _read_heat(folder: Path, row: Mapping[str, Any], scans: Mapping[str, Volume]) -> Heatmap:
    name = next((name for name in row["files"] if name.endswith(".nii.gz")), None)
    if name is None:
        raise UsageError(f"{folder}: the map of {row['label']}, {row['view']}, {row['method']} has no .nii.gz")
    try:
        volume = read_volume(str(inside(folder, name)))
    except ScanError as error:
        raise UsageError(f"{name}: expected a heatmap, but it cannot be read ({error.what})") from None
    column = next((c for c, scan in scans.items() if scan.shape == volume.shape), None)
    if column is None:
        raise UsageError(f"{name}: lies on the grid of a scan that was not given; give every scan of the study")
    return Heatmap(
        label=row["label"],
        view=row["view"],
        method=row["method"],
        column=column,
        values=volume.voxels,
        affine=volume.affine,
        lowest=row["lowest"],
        highest=row["highest"],
    )


def _pictures(folder: Path, rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, bytes]]:
    pictures = []
    for row in rows:
        for name in row["files"]:
            path = inside(folder, name)
            if name.endswith(".png") and path.is_file():
                pictures.append((f"{row['label']}, view {row['view']}, {row['method']}", _png(path)))
    return pictures


def _png(path: Path) -> bytes:
    """Raises: UsageError: something else than a picture, which a page must not embed."""
    with regular.opened(path) as file:
        content = file.read(MAX_PICTURE_BYTES + 1)
    if not content.startswith(b"\x89PNG\r\n\x1a\n") or len(content) > MAX_PICTURE_BYTES:
        raise UsageError(f"{path}: expected a PNG of at most {MAX_PICTURE_BYTES} bytes")
    return content
