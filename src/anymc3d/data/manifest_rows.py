"""From the cells of one manifest row to a :class:`Case`, with the row's faults."""

from __future__ import annotations

import math
import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from anymc3d.data.case import SPLITS, Case, default_id, is_family, is_metadata, split_npz_reference
from anymc3d.data.remote import is_address, why_not, without_secrets
from anymc3d.files.names import is_of_windows, on_disk
from anymc3d.files.pointers import broken_link
from anymc3d.files.spelling import as_seen

_UNSAFE_ID = re.compile(r"[/\\\x00-\x1f\x7f]|^\.{1,2}$")
_MAX_ID_LENGTH = 200
_JOINERS = "\u200c\u200d"
"""Of no width, and letters of Persian and of Indian scripts."""
_FROM_THE_TABLE = "write paths relative to the folder of the table, with / between their parts"
_SPLIT_STARTS = {"tr": "train", "va": "val", "de": "val", "te": "test", "ts": "test"}
"""What other tools call the splits (``training``, ``valid``, ``dev``, ``imagesTs``), by their first two letters."""


@dataclass(frozen=True)
class _Folder:
    """The names in a folder, listed once: far fewer calls than one question per file, as a network disk likes it."""

    names: frozenset[str]
    links: frozenset[str]
    """Those that are symbolic links."""

    @cached_property
    def _by_stem(self) -> dict[str, str]:
        return {as_seen(default_id(name)): name for name in sorted(self.names)}

    def nearest(self, name: str) -> str | None:
        """A name that differs only in letter case or extension."""
        return self._by_stem.get(as_seen(default_id(name)))


@dataclass
class RowReader:
    """Turns rows into cases and remembers the faults and the folders it has listed."""

    base: str
    columns: tuple[str, ...]
    check_scans: bool = True
    """Whether a scan that is not there is a fault of the manifest; in prediction it is an error of that one case."""
    problems: list[str] = field(default_factory=list)
    _folders: dict[str, _Folder | None] = field(default_factory=dict)
    _split_rows: dict[bool, list[int]] = field(default_factory=lambda: {True: [], False: []})

    def read(self, number: int, cells: Sequence[str]) -> Case:
        """Return the case of one row; its faults go to ``problems``."""
        row = dict(zip(self.columns, cells, strict=True))
        images = self._references(number, row, "image")
        masks = self._references(number, row, "mask")
        if not images and (self.check_scans or not row.get("case")) and self._families["image"]:
            self._fault(number, "no scan: every image cell is empty")
        case_id = row.get("case") or default_id(next(iter(images.values()), ""))
        patient = row.get("patient") or case_id
        self._check_id(number, "case", case_id)
        if patient != case_id:
            self._check_id(number, "patient", patient)
        return Case(
            id=case_id,
            patient=patient,
            images=images,
            masks=masks,
            cells={column: row[column] for column in self._kept},
            split=self._split(number, row.get("split", "")),
            fold=row.get("fold") or None,
            spacing=self._spacing(number, row.get("spacing", "")),
            center=self._center(number, row),
            row=number,
            mask_classes=row.get("mask_classes", ""),
        )

    @cached_property
    def _kept(self) -> tuple[str, ...]:
        """Labels, metadata and rules for series; asked once, for a table may have a hundred thousand columns."""
        return tuple(column for column in self.columns if is_metadata(column) or is_family(column, "series"))

    @cached_property
    def _families(self) -> Mapping[str, tuple[str, ...]]:
        return {name: tuple(column for column in self.columns if is_family(column, name)) for name in ("image", "mask")}

    def missing_splits(self) -> list[str]:
        """One line per row without a split, where other rows have one."""
        some, none = self._split_rows[True], self._split_rows[False]
        return [f"row {number}: split is empty, other rows have one" for number in none] if some else []

    def _fault(self, number: int, message: str) -> None:
        self.problems.append(f"row {number}: {message}")

    def _check_id(self, number: int, kind: str, text: str) -> None:
        if not text:
            return
        if _UNSAFE_ID.search(text):
            self._fault(number, f"{kind} {text!r}: an id names files, so no / \\ or control characters; use - or _")
        elif not text.isascii() and any(unicodedata.category(sign) == "Cf" for sign in text if sign not in _JOINERS):
            self._fault(number, f"{kind} {text!a}: an id names files, so no signs that are not seen; type it again")
        elif len(text) > _MAX_ID_LENGTH:
            self._fault(number, f"{kind} {text[:20]!r}...: {len(text)} characters, the limit is {_MAX_ID_LENGTH}")

    def _references(self, number: int, row: Mapping[str, str], family: str) -> dict[str, str]:
        references = {}
        for column in self._families[family]:
            cell = row[column]
            if not cell:
                continue
            if is_address(cell):
                references[column] = cell
                if self.check_scans and (refused := why_not(cell)):
                    self._fault(number, f"{column} {without_secrets(cell)!r}: {refused}")
                continue
            references[column] = self._spelled(os.path.join(self.base, cell))
            if self.check_scans:
                self._check_exists(number, column, cell, references[column])
        return references

    @staticmethod
    def _spelled(reference: str) -> str:
        inside = split_npz_reference(reference)
        return f"{on_disk(inside[0])}#{inside[1]}/{inside[2]}" if inside else on_disk(reference)

    def _check_exists(self, number: int, column: str, cell: str, reference: str) -> None:
        inside = split_npz_reference(reference)
        path, name = os.path.split((inside[0] if inside else reference).rstrip("/"))
        if path not in self._folders:
            self._folders[path] = _list_folder(path)
        folder = self._folders[path]
        if is_of_windows(cell) and (folder is None or name not in folder.names):
            self._fault(number, f"{column} {cell!r}: a path of another computer; {_FROM_THE_TABLE}")
        elif folder is None:
            self._fault(number, f"{column} {cell!r}: there is no folder {path}")
        elif name not in (".", "..") and name not in folder.names:
            near = folder.nearest(name)
            missing = f"{column} {cell!r}: not found in {path}"
            self._fault(number, f"{missing}, did you mean {near!r}?" if near else missing)
        elif name in folder.links and (broken := broken_link(os.path.join(path, name))):
            self._fault(number, f"{column} {cell!r}: {broken}")

    def _split(self, number: int, cell: str) -> str | None:
        self._split_rows[bool(cell)].append(number)
        if cell in ("", *SPLITS):
            return cell or None
        near = _SPLIT_STARTS.get(cell.lower()[:2])
        expected = f"split {cell!r}: expected one of {', '.join(SPLITS)}"
        self._fault(number, f"{expected}, did you mean {near!r}?" if near else expected)
        return None

    def _spacing(self, number: int, cell: str) -> tuple[float, float, float] | None:
        if not cell:
            return None
        values = _numbers(re.split(r"[\s,;x]+", cell.strip("[]() ")))
        if values is None or min(values) <= 0:
            self._fault(number, f"spacing {cell!r}: expected three millimetre values above 0, such as '0.7 0.7 5'")
            return None
        return values

    def _center(self, number: int, row: Mapping[str, str]) -> tuple[float, float, float] | None:
        cells = [row.get(name, "") for name in ("center_x", "center_y", "center_z")]
        if not any(cells):
            return None
        values = _numbers(cells)
        if values is None:
            self._fault(number, f"center_x, center_y, center_z {cells}: expected three numbers (world mm, RAS) or none")
        return values


def _list_folder(path: str) -> _Folder | None:
    try:
        with os.scandir(path) as entries:
            links = {entry.name: entry.is_symlink() for entry in entries}
    except OSError:
        return None
    return _Folder(frozenset(links), frozenset(name for name, is_link in links.items() if is_link))


def _numbers(texts: Sequence[str]) -> tuple[float, float, float] | None:
    try:
        values = tuple(float(text) for text in texts)
    except ValueError:
        return None
    return values if len(values) == 3 and all(math.isfinite(value) for value in values) else None
