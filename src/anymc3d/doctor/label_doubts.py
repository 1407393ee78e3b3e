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

    doubts: tuple[Doubt, ...]
    findings: tuple[Finding, ...]


def doubted_labels(manifest: Manifest, labels: Labels, out_of_fold: Path) -> LabelDoubts:
    """Compare the labels of a manifest with ``oof.csv`` of a run.

    Raises:
        UsageError, ProblemsError: the labels mean nothing yet, or the table does not fit the manifest.
    """
    if labels.settings is None:
        raise UsageError("--out-of-fold: the labels cannot be read; correct what is found in them first")
    rows = read_table(out_of_fold)
    (predictions,), _ = read_predictions(
        _first_repeat(rows), [case.id for case in manifest.cases], known=[labels.settings]
    )
    if predictions.labels != labels.settings.output_names:
        expected = ", ".join(labels.settings.output_names)
        raise UsageError(f"{out_of_fold}: expected predictions of {expected}, got {', '.join(predictions.labels)}")
    doubted: list[Doubt] = []
    findings: list[Finding] = []
    for name, labels_given, probabilities, words in _questions(
        labels.settings, labels.targets, predictions.probabilities
    ):
        known = np.flatnonzero(np.isfinite(labels_given) & np.isfinite(probabilities).all(axis=1))
        answer = doubts(labels_given[known].astype(np.intp), probabilities[known])
        if isinstance(answer, str):
            findings.append(Finding(CHECK, f"{name}: {answer}", column=name))
            continue
        pairs = zip(known[answer.cases], answer.answers, strict=True)
        of_label = [_doubt(manifest.cases[i], name, int(labels_given[i]), probabilities[i], words, j) for i, j in pairs]
        doubted += of_label
        findings += _finding(name, of_label, answer, known.size)
    return LabelDoubts(tuple(doubted), tuple(findings))


def _first_repeat(rows: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """The first repeat of a table with several, which its ``plugin`` column names."""
    if not rows or "plugin" not in rows[0]:
        return list(rows)
    first_rows = [row for row in rows if row["plugin"] == rows[0]["plugin"]]
    return [{name: cell for name, cell in row.items() if name != "plugin"} for row in first_rows]


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


def _finding(name: str, doubted: Sequence[Doubt], answer: Doubts, num_labels: int) -> list[Finding]:
    if not doubted:
        return []
    first = ", ".join(doubt.case.id for doubt in doubted[:MOST_SHOWN])
    text = (
        f"{len(doubted)} of {num_labels} labels are contradicted by a confident out-of-fold answer; estimated share of "
        f"wrong labels {answer.noise:.1%}, too high where the classifier is weak; most doubted first: {first}"
    )
    ordered = sorted((doubt.case for doubt in doubted), key=lambda case: case.row)
    return [Finding(CHECK, text, tuple(c.id for c in ordered), tuple(c.row for c in ordered), name)]


def write_doubts(out: Path, table: str, picture: str, doubted: Sequence[Doubt]) -> None:
    """Write the ranked table, and the picture of the first cases whose scans can be read."""
    rows = [_row(rank, doubt) for rank, doubt in enumerate(doubted, start=1)]
    write_table(out / table, COLUMNS, rows)
    drawn = _tiles(doubted[:MOST_SHOWN])
    if drawn:
        tiles, scale = drawn
        lines = [tiles[i : i + _PER_ROW] for i in range(0, len(tiles), _PER_ROW)]
        caption = f"Middle axial plane; the label that is given, and the answer against it. {CONVENTION} {NOT_FOR_USE}"
        pixels = sheet(lines, mm_per_pixel=scale, title="Labels in doubt, most doubted first", caption=caption)
        write_png(out / picture, pixels)


def _row(rank: int, doubt: Doubt) -> Mapping[str, object]:
    numbers = {"probability_given": doubt.probability_given, "probability_answer": doubt.probability_answer}
    plain = {"rank": rank, "case": doubt.case.id, "row": doubt.case.row, "label": doubt.label, "given": doubt.given}
    return plain | {"answer": doubt.answer} | {name: format(value, ".4g") for name, value in numbers.items()}


def _tiles(doubted: Sequence[Doubt]) -> tuple[list[Tile], float] | None:
    """One tile per doubt, all of one scale; None where no scan can be read."""
    volumes: list[tuple[int, Doubt, Volume]] = []
    for rank, doubt in enumerate(doubted, start=1):
        volume = attempt(lambda doubt=doubt: CaseScans(doubt.case).volume(next(iter(doubt.case.images))), doubt.case)
        if not isinstance(volume, CaseFault):
            volumes.append((rank, doubt, to_ras(volume)))
    if not volumes:
        return None
    scale = scale_for([_AXIAL.size_mm(volume.extent_mm) for _, _, volume in volumes], _TILE_PIXELS)
    return [_tile(rank, doubt, volume, scale) for rank, doubt, volume in volumes], scale


def _tile(rank: int, doubt: Doubt, volume: Volume, scale: float) -> Tile:
    low, high = np.percentile(volume.voxels, [0.5, 99.5])
    grey = float(low), float(max(high, low + 1e-6))
    pixels = draw_plane(volume, _AXIAL, volume.shape[2] // 2, grey=grey, mm_per_pixel=scale)
    return Tile(pixels, _AXIAL, f"{rank}. {doubt.label}: {doubt.given}, not {doubt.answer}?"[:_TITLE_LETTERS])
