"""``train --quick --embeddings DIR``: what ``anymc3d embed`` made of the scans in place of the scans.

The folder's record says which frozen backbone saw which slices, so the plugin that comes of it sees a new scan the same
way. What only the scans could say (their intensities, how unlike others one is) the plugin does not have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anymc3d.data.case import Case
from anymc3d.data.covariates import MEASURE
from anymc3d.data.embeddings import EMBEDDING_VERSION, Embeddings, load_embeddings
from anymc3d.data.preprocess import CODE_VERSION
from anymc3d.errors import ManifestError, RunFolderError, UsageError
from anymc3d.models.features import representation, width_of
from anymc3d.models.plain import is_plain
from anymc3d.models.store import LoadedBackbone
from anymc3d.settings.config import TaskSettings, ViewSettings
from anymc3d.settings.plain import from_plain
from anymc3d.train.quick.features import PRECISION, CaseFeatures, Features, ViewFeatures

NOTE = (
    "learnt from embeddings: the plugin has no statistics of the training scans, so predict gives it no ood_score and "
    "no warning of other intensities"
)


@dataclass(frozen=True, eq=False)
class Embedded:
    """A folder that can stand for scans. ``features``: what its rows are, an entry of ``FEATURES``."""

    embeddings: Embeddings
    views: Mapping[str, ViewSettings]
    features: str

    @property
    def identity(self) -> dict[str, Any]:
        """What makes a run of these embeddings another than a run of others."""
        return {"embeddings": {name: value for name, value in self.embeddings.record.items() if name != "version"}}


def read_embedded(folder: Path) -> Embedded:
    """Open a folder of ``anymc3d embed``.

    Raises:
        RunFolderError: it is none, or damaged.
        UsageError: it holds something that cannot stand for scans, with what to do.
    """
    embeddings = load_embeddings(folder)
    record = embeddings.record
    for reason in _reasons(record):
        raise UsageError(f"--embeddings: {folder}: {reason}")
    problems: list[str] = []
    views = from_plain(Mapping[str, ViewSettings], record.get("views"), problems)  # type: ignore[arg-type]
    if problems or not views:
        raise RunFolderError(f"{folder}: its record is damaged ({'; '.join(problems[:3]) or 'no views'}); embed again")
    return Embedded(embeddings, views, record["settings"]["features"])


def _reasons(record: Mapping[str, Any]) -> list[str]:
    """Why these embeddings cannot be learnt from, what matters most first."""
    level = record["settings"].get("level")
    checks = (
        ("plugin" in record, "made as a plugin sees scans; --quick learns on frozen ones: embed again without -p"),
        ("pseudonym_key" in record, "made with --pseudonymize, so its cases are not those of the manifest"),
        (level != "slice", f"of level {level}; embed again with --level slice"),
        (
            record.get("number_format") != PRECISION,
            f"made in {record.get('number_format')}; embed again with --precision {PRECISION}",
        ),
        (
            (record.get("preprocessing_version"), record.get("embedding_version")) != (CODE_VERSION, EMBEDDING_VERSION),
            "made by another version of the preprocessing, which new scans would not go through; embed again",
        ),
    )
    return [reason for holds, reason in checks if holds]


def as_embedded(task: TaskSettings, embedded: Embedded) -> TaskSettings:
    """The task with the views and the representation of the folder.

    Raises:
        UsageError: the task wants what only scans have.
    """
    if is_plain(task.method):
        raise UsageError(f"--embeddings: method {task.method.name} measures scans; leave one of them out")
    measured = [name for name in task.covariates if name.startswith(MEASURE)]
    if measured:
        raise UsageError(f"--embeddings: the covariate {measured[0]} is measured on scans; leave one of them out")
    return replace(task, views=dict(embedded.views), features=embedded.features)


def check_network(embedded: Embedded, backbone: LoadedBackbone, positions: str) -> None:
    """Check that the plugin's backbone is the one that made the embeddings.

    Raises:
        UsageError: it is another one.
    """
    record = embedded.embeddings.record
    if record["backbone"] != backbone.fingerprint or record.get("positions") != positions:
        raise UsageError(
            f"--embeddings: made by the backbone {record['backbone'][:20]}… with {record.get('positions')} positions, "
            f"and the task names {backbone.card.name} ({backbone.fingerprint[:20]}…, {positions}); give the same one "
            "with --backbone"
        )


def features_of(embedded: Embedded, cases: Sequence[Case], backbone: LoadedBackbone) -> Features:
    """The rows of every case; those of other cases are not opened.

    Raises:
        ManifestError: cases whose scans were not embedded, or that have other rows than the backbone gives; all are
            listed.
    """
    width = width_of(embedded.features, embed_dim=backbone.module.embed_dim, num_patches=0)
    wanted, problems = {case.id for case in cases}, []
    rows: dict[str, dict[str, NDArray[Any]]] = {case.id: {} for case in cases}
    for view in embedded.views:
        if view in embedded.embeddings.views:
            for name, arrays in embedded.embeddings.arrays(view, wanted):
                rows[name][view] = arrays["values"]
    features: list[CaseFeatures] = []
    for case in cases:
        by_view = rows[case.id]
        lacking = [v for v, settings in embedded.views.items() if settings.image in case.images and v not in by_view]
        if lacking or not by_view:
            problems.append(f"case {case.id!r}: not embedded ({', '.join(lacking) or 'no view'})")
        elif not all(_is_whole(arrays, width) for arrays in by_view.values()):
            problems.append(f"case {case.id!r}: its rows are not {width} finite numbers each: damaged; embed it again")
        else:
            features.append({v: _features(embedded.features, by_view.get(v)) for v in embedded.views})
    if problems:
        problems.append("embed the manifest into the same folder again, or take these cases out of it")
        raise ManifestError(f"--embeddings: {embedded.embeddings.folder}", problems)
    return Features(features, 0, len(features))


def _is_whole(rows: NDArray[Any], width: int) -> bool:
    return rows.ndim == 2 and rows.shape[0] > 0 and rows.shape[1] == width and bool(np.isfinite(rows).all())


def _features(features: str, rows: NDArray[Any] | None) -> ViewFeatures | None:
    """As a pass of the backbone would give them; how bright the slices are is not known."""
    if rows is None:
        return None
    names = representation(features).parts
    pieces = np.split(np.ascontiguousarray(rows, dtype=np.float32), len(names), axis=1)
    return ViewFeatures(dict(zip(names, pieces, strict=True)), np.zeros(len(rows), dtype=np.float32))
