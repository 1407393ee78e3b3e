"""``auto --embeddings``: candidates of what ``anymc3d embed`` made of the scans, none of which is read.

A folder holds one sight. Its candidates are the representations whose parts it has, with the poolings that its level
leaves open: at level ``slice`` all, of whole scans and structures those that put views side by side.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from anymc3d.automl.candidates import Candidate, Fusions, frozen_candidates, fusions_of, plain_candidate
from anymc3d.automl.data import AutoData
from anymc3d.automl.sights import Look, Sight, planes_of
from anymc3d.data.case_scans import PreparedCase
from anymc3d.data.intensity import IntensityProfile
from anymc3d.data.measures.case import scan_statistics
from anymc3d.errors import MissingWeightsError, UsageError
from anymc3d.models.features import FEATURES, representation
from anymc3d.models.fusion import CONCAT
from anymc3d.models.store import LoadedBackbone, find_backbone, find_by_fingerprint
from anymc3d.plan.intensity import guess_majority
from anymc3d.settings.config import DataSettings, TaskSettings
from anymc3d.settings.training import BackboneSettings
from anymc3d.settings.views import ViewSettings
from anymc3d.train.plain.numbers import choose_measures
from anymc3d.train.quick.embedded import (
    EmbeddedCases,
    EmbeddedFolder,
    cases_of,
    check_network,
    check_no_measures,
    read_embedded,
)

LEVELS = ("slice", "scan", "mask")
STATISTICS = "scan-statistics"
"""The plain method that needs no more of a scan than the folder has."""
SINGLE = "image"
"""The name of the view of a task with one view."""
OF_SCANS = ("geometry", "histogram")
"""Measures of a scan; the others are of a view."""
DEFAULT_BACKBONE = "dinov2-small"


class _Seen(NamedTuple):
    """One scan, by which its modality is known."""

    profile: IntensityProfile
    modality: str | None


@dataclass(frozen=True, eq=False)
class Source:
    """One folder: the cases of the pool in it, and the backbone that made it, by the name it was found under."""

    embedded: EmbeddedFolder
    backbone: LoadedBackbone
    name: str
    cases: EmbeddedCases

    @property
    def identity(self) -> dict[str, Any]:
        """What makes a run of it another than a run of others."""
        return {**self.embedded.identity["embeddings"], "content": self.cases.content}

    def task(self, data: AutoData) -> TaskSettings:
        """What ``anymc3d plan`` would say, with the folder's views and backbone."""
        columns = data.labels.columns
        positions = self.embedded.embeddings.record["positions"]
        return TaskSettings(
            name=columns[0] if len(columns) == 1 else data.manifest.path.stem,
            labels=data.labels,
            data=DataSettings(manifest=str(data.manifest.path), modality=self._modality()),
            views=dict(self.embedded.views),
            backbone=BackboneSettings(name=self.name, positions=positions),
        )

    def _modality(self) -> Any:
        """By the headers of the scans, or else by their values, as ``plan`` takes it."""
        column = next(iter(self.embedded.views.values())).image
        facts = [case.scans[column] for case in self.cases.prepared if column in case.scans]
        return guess_majority([_Seen(scan.intensities, scan.modality) for scan in facts])[0] if facts else "other"


def read_folders(folders: Sequence[Path], covariates: Sequence[str] = ()) -> list[EmbeddedFolder]:
    """Open the folders; no vector is read.

    Raises:
        RunFolderError, UsageError: one is none, or holds what cannot stand for scans; a covariate is measured on them.
    """
    if folders:
        check_no_measures(covariates)
    return [read_embedded(folder, LEVELS) for folder in folders]


def open_sources(folders: Sequence[EmbeddedFolder], backbone: str | None, data: AutoData) -> list[Source]:
    """Read the vectors of the pool; ``backbone``: as it was given, None = whatever made each folder.

    Raises:
        UsageError: another backbone made them, or it is not at hand.
        ManifestError: cases that were not embedded.
    """
    sources = []
    for folder in folders:
        loaded = _backbone(folder, backbone)
        name = backbone or loaded.card.name
        sources.append(Source(folder, loaded, name, cases_of(folder, data.cases, loaded)))
    return sources


def _backbone(folder: EmbeddedFolder, given: str | None) -> LoadedBackbone:
    record = folder.embeddings.record
    positions = record.get("positions", "official")
    if given is not None:
        loaded = find_backbone(given, position_rule=positions)
        check_network(folder, loaded, positions)
        return loaded
    try:
        return find_by_fingerprint(record["backbone"], DEFAULT_BACKBONE, position_rule=positions)
    except MissingWeightsError:
        raise UsageError(
            f"--embeddings: {folder.embeddings.folder}: made by the backbone {record['backbone'][:20]}…, which is not "
            "on this machine; give it with --backbone"
        ) from None


def statistics_candidate(source: Source, data: AutoData) -> Candidate:
    """The plain method on size, spacing and raw intensities; ``source``: one that knows its scans.

    Raises:
        ManifestError: nothing differs between the cases.
    """
    started, task = time.monotonic(), source.task(data)
    columns = dict.fromkeys(view.image for view in task.views.values())
    measures = [measured_scan(case, columns) for case in source.cases.prepared]
    numbers = choose_measures(measures, data.cases, STATISTICS)
    return plain_candidate(STATISTICS, task, numbers, data.pool, source.cases.prepared, time.monotonic() - started)


def measured_scan(case: PreparedCase, columns: Iterable[str]) -> dict[str, float]:
    """The measures of that method, as they are made of the scans themselves."""
    return {
        f"{column}/scan/{name}": value
        for column in columns
        if column in case.scans
        for name, value in scan_statistics(case.scans[column]).items()
    }


@dataclass(frozen=True, eq=False)
class Shown:
    """A sight of a folder, and the view of it that is shown by itself, None = all."""

    source: Source
    sight: Sight
    alone: str | None = None

    @property
    def views(self) -> dict[str, str]:
        """The folder's view -> its name in the sight: a single one is called ``image``."""
        return {name: name for name in self.source.embedded.views} if self.alone is None else {self.alone: SINGLE}


def sights_of(sources: Sequence[Source], data: AutoData) -> Iterator[Shown]:
    """The sight of every folder, and of several views each by itself where every case has it."""
    named: dict[str, tuple[Mapping[str, ViewSettings], str]] = {}
    for number, source in enumerate(sources, start=1):
        task, shows = source.task(data), (source.embedded.views, source.backbone.fingerprint)
        name = _name(source.embedded.views)
        if named.setdefault(name, shows) != shows:
            name += f", folder {number}"
            named[name] = shows
        yield Shown(source, _sight(name, task, source))
        if len(task.views) > 1:
            for view in task.views:
                if all(case[view] is not None for case in source.cases.features):
                    sight_task = replace(task, views={SINGLE: task.views[view]})
                    yield Shown(source, _sight(f"{name}, {view} alone", sight_task, source), view)


def candidates_of(shown: Shown, data: AutoData) -> Iterator[Candidate]:
    """Every representation of a sight that the folder has, with every pooling."""
    started, source, names = time.monotonic(), shown.source, shown.views
    features = [{names[name]: case[name] for name in names} for case in source.cases.features]
    prepared = [_of_views(case, shown) for case in source.cases.prepared]
    yield from frozen_candidates(
        *(shown.sight, features, _representations(source.embedded.features), source.cases.structures),
        *(data.pool, prepared, source.backbone, time.monotonic() - started),
        fusions=_fusions(source.embedded.level),
    )


def _of_views(case: PreparedCase, shown: Shown) -> PreparedCase:
    """What is known of a case by the views that are shown, under their names there."""
    views = shown.sight.views
    columns = {view.image for view in views.values()}
    scans = {column: facts for column, facts in case.scans.items() if column in columns}
    measures = {}
    for name, values in case.measures.items():
        what, _, of = name.partition(".")
        if what in OF_SCANS and of in columns:
            measures[name] = values
        elif what not in OF_SCANS and of in shown.views:
            measures[f"{what}.{shown.views[of]}"] = values
    return PreparedCase(dict.fromkeys(views), scans, {}, measures=measures)


def _representations(held: str) -> tuple[str, ...]:
    """Those whose parts are among those of the one that was embedded."""
    parts = set(representation(held).parts)
    return tuple(name for name, feature in FEATURES.items() if parts.issuperset(feature.parts))


def _fusions(level: str) -> Fusions:
    if level != "scan":
        return fusions_of
    return lambda features, views: (CONCAT,) if views > 1 or representation(features).of_scan else ("mean",)


def _sight(name: str, task: TaskSettings, source: Source) -> Sight:
    longest = max(max(view.size[:2]) for view in task.views.values())
    planes = "three" if len({view.plane for view in task.views.values()}) == 3 else "own"
    slices = max(view.size[2] or 0 for view in task.views.values())
    return Sight(name, task, Look(planes=planes, patches=longest // source.backbone.module.patch_size, slices=slices))


def _name(views: Mapping[str, ViewSettings]) -> str:
    side = max(max(view.size[:2]) for view in views.values())
    slices = {view.size[2] for view in views.values()}
    slices_text = "all" if None in slices else str(max(slices, key=lambda length: length or 0))
    region = ["region"] if any(view.roi is not None for view in views.values()) else []
    return ", ".join([planes_of(views), f"{side} px", f"{slices_text} slices", *region])
