"""Labels that out-of-fold answers contradict: a finding per column, a ranked table, and a picture of the first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from anymc3d.data.case import Case
from anymc3d.data.case_faults import CaseFault, attempt
from anymc3d.data.case_scans import CaseScans
from anymc3d.data.manifest import Manifest
from anymc3d.data.volume import Volume, to_ras
from anymc3d.doctor.checks import Finding
from anymc3d.doctor.label_faults import Labels
from anymc3d.errors import UsageError
from anymc3d.evaluate.label_noise import Doubts, doubts
from anymc3d.evaluate.predictions import read_predictions
from anymc3d.evaluate.weighted import Floats
from anymc3d.files.tables import read_table, write_table
from anymc3d.pictures.planes import CONVENTION, PLANES
from anymc3d.pictures.scan import write_png
from anymc3d.pictures.sheet import sheet
from anymc3d.pictures.tiles import Tile, draw_plane, scale_for
from anymc3d.settings.config import LabelSettings

CHECK = "label-doubtful"
NOT_FOR_USE = "Research use only."
COLUMNS = ("rank", "case", "row", "label", "given", "answer", "probability_given", "probability_answer")
MOST_SHOWN = 12
"""Cases of the picture, and ids in the finding's order of doubt."""
_TILE_PIXELS = 170
_TITLE_LETTERS = 30
_PER_ROW = 4
_AXIAL = PLANES["axial"]


@dataclass(frozen=True)
class Doubt:
    """One label of one case that a confident out-of-fold answer contradicts."""

    case: Case
    label: str
    given: str
    answer: str
    probability_given: float
    probability_answer: float


@dataclass(frozen=True)
class LabelDoubts:
    """All doubts, the largest first within each label, and a finding for each label."""

    found: tuple[Doubt, ...]
    findings: tuple[Finding, ...]


def doubted_labels(manifest: Manifest, labels: Labels, out_of_fold: Path) -> LabelDoubts:
    """Compare the labels of a manifest with ``oof.csv`` of a run.

    Raises:
        UsageError, ProblemsError: the labels mean nothing yet, or the table does not fit the manifest.
    """
    if labels.settings is None:
        raise UsageError("--out-of-fold: the labels cannot be read; correct what is found in them first")
    rows = read_table(out_of_fold)
    (read,), _ = read_predictions(_first_repeat(rows), [case.id for case in manifest.cases], known=[labels.settings])
    if read.labels != labels.settings.output_names:
        expected = ", ".join(labels.settings.output_names)
        raise UsageError(f"{out_of_fold}: expected predictions of {expected}, got {', '.join(read.labels)}")
    found: list[Doubt] = []
    findings: list[Finding] = []
    for name, given, probabilities, words in _questions(labels.settings, labels.targets, read.probabilities):
        known = np.flatnonzero(np.isfinite(given) & np.isfinite(probabilities).all(axis=1))
        answer = doubts(given[known].astype(np.intp), probabilities[known])
        if isinstance(answer, str):
            findings.append(Finding(CHECK, f"{name}: {answer}", column=name))
            continue
        pairs = zip(known[answer.cases], answer.answers, strict=True)
        own = [_doubt(manifest.cases[i], name, int(given[i]), probabilities[i], words, j) for i, j in pairs]
        found += own
        findings += _finding(name, own, answer, known.size)
    return LabelDoubts(tuple(found), tuple(findings))


def _first_repeat(rows: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """Of a table with several repeats, which its ``plugin`` column names, the first."""
    if not rows or "plugin" not in rows[0]:
        return list(rows)
    own = [row for row in rows if row["plugin"] == rows[0]["plugin"]]
    return [{name: cell for name, cell in row.items() if name != "plugin"} for row in own]


def _questions(
    settings: LabelSettings, targets: Floats, probabilities: Floats
) -> Iterator[tuple[str, Floats, Floats, tuple[str, ...]]]:
    """(column, given (n,), probabilities (n, K), words of the classes) of each column that is decided by itself."""
    if settings.one_of_classes:
        yield settings.columns[0], targets[:, 0], probabilities, settings.classes
        return
    for j, column in enumerate(settings.columns):
        positive = probabilities[:, j]
        yield column, targets[:, j], np.stack([1 - positive, positive], axis=1), settings.classes or ("0", "1")


def _doubt(case: Case, name: str, given: int, probabilities: Floats, words: Sequence[str], answer: int) -> Doubt:
    return Doubt(case, name, words[given], words[answer], float(probabilities[given]), float(probabilities[answer]))


def _finding(name: str, found: Sequence[Doubt], answer: Doubts, asked: int) -> list[Finding]:
    if not found:
        return []
    first = ", ".join(one.case.id for one in found[:MOST_SHOWN])
    text = (
        f"{len(found)} of {asked} labels are contradicted by a confident out-of-fold answer; estimated share of wrong "
        f"labels {answer.noise:.1%}, too high where the classifier is weak; most doubted first: {first}"
    )
    ordered = sorted((one.case for one in found), key=lambda case: case.row)
    return [Finding(CHECK, text, tuple(c.id for c in ordered), tuple(c.row for c in ordered), name)]


def write_doubts(out: Path, table: str, picture: str, found: Sequence[Doubt]) -> None:
    """Write the ranked table, and the picture of the first cases whose scans can be read."""
    rows = [_row(rank, one) for rank, one in enumerate(found, start=1)]
    write_table(out / table, COLUMNS, rows)
    drawn = _tiles(found[:MOST_SHOWN])
    if drawn:
        tiles, scale = drawn
        lines = [tiles[i : i + _PER_ROW] for i in range(0, len(tiles), _PER_ROW)]
        caption = f"Middle axial plane; the label that is given, and the answer against it. {CONVENTION} {NOT_FOR_USE}"
        pixels = sheet(lines, mm_per_pixel=scale, title="Labels in doubt, most doubted first", caption=caption)
        write_png(out / picture, pixels)


def _row(rank: int, one: Doubt) -> Mapping[str, object]:
    numbers = {"probability_given": one.probability_given, "probability_answer": one.probability_answer}
    plain = {"rank": rank, "case": one.case.id, "row": one.case.row, "label": one.label, "given": one.given}
    return plain | {"answer": one.answer} | {name: format(value, ".4g") for name, value in numbers.items()}


def _tiles(found: Sequence[Doubt]) -> tuple[list[Tile], float] | None:
    """One tile per doubt, all of one scale; None where no scan can be read."""
    volumes: list[tuple[int, Doubt, Volume]] = []
    for rank, one in enumerate(found, start=1):
        volume = attempt(lambda one=one: CaseScans(one.case).volume(next(iter(one.case.images))), one.case)
        if not isinstance(volume, CaseFault):
            volumes.append((rank, one, to_ras(volume)))
    if not volumes:
        return None
    scale = scale_for([_AXIAL.size_mm(volume.extent_mm) for _, _, volume in volumes], _TILE_PIXELS)
    return [_tile(rank, one, volume, scale) for rank, one, volume in volumes], scale


def _tile(rank: int, one: Doubt, volume: Volume, scale: float) -> Tile:
    low, high = np.percentile(volume.voxels, [0.5, 99.5])
    grey = float(low), float(max(high, low + 1e-6))
    pixels = draw_plane(volume, _AXIAL, volume.shape[2] // 2, grey=grey, mm_per_pixel=scale)
    return Tile(pixels, _AXIAL, f"{rank}. {one.label}: {one.given}, not {one.answer}?"[:_TITLE_LETTERS])
