"""``--embeddings DIR`` of ``train --quick`` and ``auto``: what ``anymc3d embed`` made of the scans in their place.

The folder's record says which frozen backbone saw which slices, so the plugin that comes of it sees a new scan the same
way. What it must know of its training scans (intensities, what shows how unlike them another is) stands beside the
vectors; older folders lack it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anymc3d.data.case import Case
from anymc3d.data.case_scans import PreparedCase
from anymc3d.data.covariates import MEASURE
from anymc3d.data.embedding_facts import KEY, CaseFacts, decode_facts_of
from anymc3d.data.embeddings import EMBEDDING_VERSION, Embeddings, StoredCase, load_embeddings, settings_hash
from anymc3d.data.preprocess import CODE_VERSION
from anymc3d.errors import ManifestError, RunFolderError, UsageError
from anymc3d.evaluate.ood import VERSION
from anymc3d.models.features import num_patches, representation, width_of
from anymc3d.models.plain import is_plain
from anymc3d.models.store import LoadedBackbone
from anymc3d.settings.config import TaskSettings
from anymc3d.settings.plain import from_plain
from anymc3d.settings.views import ViewSettings
from anymc3d.train.quick.features import PRECISION, CaseFeatures, ViewFeatures

NOTE = (
    "learnt from embeddings of a folder without statistics of the scans: predict gives the plugin no ood_score and no "
    "warning of other intensities; embed into a new folder for them"
)


@dataclass(frozen=True, eq=False)
class EmbeddedFolder:
    """A folder that can stand for scans. ``features``: what its rows are, an entry of ``FEATURES``; ``level``: one of
    ``slice``, ``scan`` and ``mask``."""

    embeddings: Embeddings
    views: Mapping[str, ViewSettings]
    features: str
    level: str = "slice"

    @property
    def identity(self) -> dict[str, Any]:
        """What makes a run of these embeddings another than a run of others."""
        return {"embeddings": {name: value for name, value in self.embeddings.record.items() if name != "version"}}


@dataclass(frozen=True, eq=False)
class EmbeddedCases:
    """``features`` and ``prepared`` of each case in order, the second without slices, and without facts of the scans
    where the folder has none; ``structures``: labels of the masks, at that level; ``content``: a hash of all of it."""

    features: list[CaseFeatures]
    prepared: list[PreparedCase]
    structures: tuple[int, ...]
    content: str

    @property
    def know_their_scans(self) -> bool:
        """Whether every case has the facts of its scans."""
        return all(case.scans for case in self.prepared)


def read_embedded(folder: Path, levels: Sequence[str] = ("slice",)) -> EmbeddedFolder:
    """Open a folder of ``anymc3d embed``; ``levels``: those that can be used.

    Raises:
        RunFolderError: it is none, or damaged.
        UsageError: it holds something that cannot stand for scans, with what to do.
    """
    embeddings = load_embeddings(folder)
    record = embeddings.record
    for reason in _reasons(embeddings, levels):
        raise UsageError(f"--embeddings: {folder}: {reason}")
    problems: list[str] = []
    views = from_plain(Mapping[str, ViewSettings], record.get("views"), problems)  # type: ignore[arg-type]
    if problems or not views:
        raise RunFolderError(f"{folder}: its record is damaged ({'; '.join(problems[:3]) or 'no views'}); embed again")
    level = record["settings"]["level"]
    return EmbeddedFolder(embeddings, views, "mask" if level == "mask" else record["settings"]["features"], level)


def _reasons(embeddings: Embeddings, levels: Sequence[str]) -> list[str]:
    """Why these embeddings cannot be learnt from, what matters most first."""
    record = embeddings.record
    level, expected_settings = record["settings"].get("level"), settings_hash(record)
    wanted = " or ".join(levels)
    checks = (
        ("plugin" in record, "made as a plugin sees scans; what is learnt here is frozen: embed again without -p"),
        ("pseudonym_key" in record, "made with --pseudonymize, so its cases are not those of the manifest"),
        (level not in levels, f"of level {level}; embed again with --level {wanted}"),
        (
            record.get("number_format") != PRECISION,
            f"made in {record.get('number_format')}; embed again with --precision {PRECISION}",
        ),
        (
            (record.get("preprocessing_version"), record.get("embedding_version")) != (CODE_VERSION, EMBEDDING_VERSION),
            "made by another version of the preprocessing, which new scans would not go through; embed again",
        ),
        (
            any(row.get("settings") != expected_settings for row in embeddings.rows),
            "its table has rows of other settings than its record says; embed again into a new folder",
        ),
    )
    return [reason for holds, reason in checks if holds]


def as_embedded(task: TaskSettings, embedded: EmbeddedFolder) -> TaskSettings:
    """The task with the views and the representation of the folder.

    Raises:
        UsageError: the task wants what only scans have.
    """
    if is_plain(task.method):
        raise UsageError(f"--embeddings: method {task.method.name} measures scans; leave one of them out")
    check_no_measures(task.covariates)
    return replace(task, views=dict(embedded.views), features=embedded.features)


def check_no_measures(covariates: Sequence[str]) -> None:
    """Refuse covariates that only scans have.

    Raises:
        UsageError: one is measured on scans.
    """
    measured = [name for name in covariates if name.startswith(MEASURE)]
    if measured:
        raise UsageError(f"--embeddings: the covariate {measured[0]} is measured on scans; leave one of them out")


def check_network(embedded: EmbeddedFolder, backbone: LoadedBackbone, positions: str) -> None:
    """Check that the plugin's backbone is the one that made the embeddings.

    Raises:
        UsageError: it is another one.
    """
    record = embedded.embeddings.record
    if record["backbone"] != backbone.fingerprint or record.get("positions") != positions:
        raise UsageError(
            f"--embeddings: made by the backbone {record['backbone'][:20]}… with {record.get('positions')} positions, "
            f"and {backbone.card.name} is another ({backbone.fingerprint[:20]}…, {positions}); give the same one with "
            "--backbone"
        )


def cases_of(
    embedded: EmbeddedFolder,
    cases: Sequence[Case],
    backbone: LoadedBackbone,
    *,
    structures: tuple[int, ...] | None = None,
) -> EmbeddedCases:
    """The rows of every case; those of other cases are not opened. ``structures``: of masks, those that count; None =
    all that a case has.

    Raises:
        ManifestError: cases whose scans were not embedded, or that have other rows than the backbone gives; all are
            listed.
    """
    wanted, problems = {case.id for case in cases}, []
    stored = {case.case: case for case in embedded.embeddings.stored(wanted)}
    widths = {name: _width(embedded, view, backbone) for name, view in embedded.views.items()}
    for case in cases:
        by_view = {} if case.id not in stored else stored[case.id].views
        lacking = [v for v, settings in embedded.views.items() if settings.image in case.images and v not in by_view]
        if lacking or not by_view:
            problems.append(f"case {case.id!r}: not embedded ({', '.join(lacking) or 'no view'})")
        elif not all(v in widths and _is_whole(rows, widths[v], embedded.level) for v, rows in by_view.items()):
            expected = " or ".join(map(str, sorted(set(widths.values()))))
            problems.append(
                f"case {case.id!r}: its rows are not {expected} finite numbers each: damaged; embed it again"
            )
    if problems:
        problems.append("embed the manifest into the same folder again, or take these cases out of it")
        raise ManifestError(f"--embeddings: {embedded.embeddings.folder}", problems)
    order = [stored[case.id] for case in cases]
    content = hashlib.sha256("".join(case.sha256 for case in order).encode()).hexdigest()
    if structures is None:
        structures = _structures(order) if embedded.level == "mask" else ()
    facts = [_facts(embedded, case) for case in order]
    features = [_case(embedded, case, structures, known) for case, known in zip(order, facts, strict=True)]
    prepared = [_prepared(embedded, known) for known in facts]
    return EmbeddedCases(features, prepared, structures, content)


def _width(embedded: EmbeddedFolder, view: ViewSettings, backbone: LoadedBackbone) -> int:
    """How many numbers a row has; of masks those of one structure."""
    places = num_patches(view.size, backbone.module.patch_size)
    structures = int(embedded.level == "mask")
    return width_of(
        embedded.features, embed_dim=backbone.module.embed_dim, num_patches=places, num_structures=structures
    )


def _is_whole(arrays: Mapping[str, NDArray[Any]], width: int, level: str) -> bool:
    rows = arrays["values"]
    has_labels = level != "mask" or arrays.get("labels", np.empty(0)).shape == rows.shape[:1]
    is_table = rows.ndim == (1 if level == "scan" else 2) and rows.shape[-1] == width
    return has_labels and is_table and len(rows) > 0 and bool(np.isfinite(rows).all())


def _structures(cases: Sequence[StoredCase]) -> tuple[int, ...]:
    """The labels that any case has."""
    return tuple(sorted({int(label) for case in cases for view in case.views.values() for label in view["labels"]}))


def _facts(embedded: EmbeddedFolder, case: StoredCase) -> CaseFacts | None:
    """What the folder knows of the scans of a case; None of an older folder, or of one with other measures.

    Raises:
        RunFolderError: it is damaged.
    """
    if KEY not in case.header or embedded.embeddings.record.get("statistics_version") != VERSION:
        return None
    try:
        return decode_facts_of(case.header[KEY])
    except ValueError as error:
        raise RunFolderError(
            f"{embedded.embeddings.folder}: case {case.case!r}: damaged facts of the scan ({error}); embed again"
        ) from error


def _case(
    embedded: EmbeddedFolder, case: StoredCase, structures: tuple[int, ...], facts: CaseFacts | None
) -> CaseFeatures:
    light = {} if facts is None else facts.brightness
    return {
        view: _features(embedded, case.views[view], structures, light.get(view)) if view in case.views else None
        for view in embedded.views
    }


def _features(
    embedded: EmbeddedFolder,
    arrays: Mapping[str, NDArray[Any]],
    structures: tuple[int, ...],
    brightness: NDArray[np.float32] | None,
) -> ViewFeatures:
    """As a pass of the backbone would give them; 0 where it is not known how bright the slices are."""
    rows = np.atleast_2d(np.ascontiguousarray(arrays["values"], dtype=np.float32))
    if embedded.level == "mask":
        whole = np.zeros((len(structures), rows.shape[1]), dtype=np.float32)
        for label, row in zip(arrays["labels"].tolist(), rows, strict=True):
            if label in structures:
                whole[structures.index(label)] = row
        rows = whole.reshape(1, -1)
    names = representation(embedded.features).parts
    pieces = np.split(rows, len(names), axis=1)
    light = np.zeros(len(rows), dtype=np.float32) if brightness is None else brightness
    return ViewFeatures(dict(zip(names, pieces, strict=True)), light)


def _prepared(embedded: EmbeddedFolder, facts: CaseFacts | None) -> PreparedCase:
    """What is known of a case's scans, without slices."""
    views = dict.fromkeys(embedded.views)
    return PreparedCase(views, {}, {}) if facts is None else PreparedCase(views, facts.scans, {}, (), facts.measures)
