"""All series of a tree of DICOM files, as an archive exports them: one scan each, without a manifest."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from anymc3d.data.dicom.anonymised import series_of
from anymc3d.data.dicom.header import DicomFile
from anymc3d.data.dicom.inventory import opened_inventory
from anymc3d.data.dicom.listing import SeriesFacts, facts_of
from anymc3d.data.dicom.places import OnDisk
from anymc3d.data.dicom.rules import parse_rule
from anymc3d.data.dicom.series import best_of
from anymc3d.data.dicom.tags import foreign_errors


@dataclass(frozen=True)
class FoundSeries:
    """One series of a tree."""

    reference: Path
    """The smallest folder that holds all of its files, or the archive."""
    rule: str
    """The ``series`` cell that chooses it there."""
    name: str
    """The id of its case: unique among those found."""


@dataclass(frozen=True)
class SeriesSearch:
    """What a tree holds."""

    series: tuple[FoundSeries, ...]
    left_out: int
    """Series that are no scans: pictures, localizers, single slices; and those that the rule does not take."""


def find_series(reference: Path, rule_text: str | None = None) -> SeriesSearch:
    """Every series below a folder, or in an archive, that is a scan and that a rule takes.

    ``thinnest``, ``thickest`` and ``largest`` choose within each study.

    Raises:
        ScanError: the tree cannot be listed, or the rule is none.
    """
    rule = parse_rule(rule_text, reference)
    with foreign_errors(reference, "the series cannot be listed"), opened_inventory(reference) as inventory:
        all_series = series_of(inventory, rule)
        studies: dict[tuple[str, str], dict[str, SeriesFacts]] = defaultdict(dict)
        for uid, files in all_series.items():
            if rule.takes_series(uid) and any(rule.takes(frame.tags) for file in files for frame in file.frames):
                studies[(files[0].patient, files[0].study)][uid] = facts_of(uid, files)
        fitting = (facts[uid] for facts in studies.values() for uid in best_of(facts, rule))
        files_of = {facts.hash: facts.files for facts in fitting}
        places = {code: _folder_of(files, reference) for code, files in files_of.items()}
    names = _names(places, reference)
    rest = "; ".join(part for part in (rule_text or "").split(";") if part.strip() and rule.series_hash is None)
    rules = {code: "; ".join(filter(None, (code, rest.strip()))) for code in files_of}
    series = tuple(FoundSeries(places[code], rules[code], names[code]) for code in files_of)
    return SeriesSearch(series, len(all_series) - len(series))


def _folder_of(files: Sequence[DicomFile], reference: Path) -> Path:
    folders = {str(file.place.path.parent) for file in files if isinstance(file.place, OnDisk)}
    return Path(os.path.commonpath(folders)) if folders and reference.is_dir() else reference


def _names(places: dict[str, Path], reference: Path) -> dict[str, str]:
    """The folder's own name where no other has it, else its path in the tree; with the hash where it holds several."""
    num_of_name = Counter(place.name for place in set(places.values()))
    num_series = Counter(places.values())
    names = {}
    for code, place in places.items():
        inside = place.relative_to(reference).parts if place.is_relative_to(reference) else ()
        name = place.name if num_of_name[place.name] == 1 else "_".join((reference.name, *inside))
        names[code] = name.removesuffix(reference.suffix) if place == reference and reference.is_file() else name
        if num_series[place] > 1:
            names[code] += f"_{code}"
    return names
