"""``--part K/N``: which cases of a cohort a part takes, where it writes, and what it leaves for ``anymc3d merge``.

A case belongs to a part by a hash of its id, so that more cases move none of those that are there. Parts share one
``OUT`` and nothing in it: each writes below ``OUT/parts/K-of-N``, from any machine that sees the folder.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from anymc3d.errors import RunFolderError, UsageError
from anymc3d.files import atomic, regular
from anymc3d.files.private import make_private
from anymc3d.files.tables import write_table

PARTS, RECORD, CASES = "parts", "part.json", "part_cases.csv"
MOST = 100_000
_TEXT = re.compile(r"(\d{1,6})/(\d{1,6})")
_FOLDER = re.compile(r"([1-9]\d{0,5})-of-([1-9]\d{0,5})")


class HasId(Protocol):
    """A case, or anything else with an id."""

    @property
    def id(self) -> str: ...


OneCase = TypeVar("OneCase", bound=HasId)


@dataclass(frozen=True, order=True)
class Part:
    """Part ``number`` (from 1) of ``of``."""

    of: int
    number: int

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def takes(self, case: str) -> bool:
        """Whether a case of this id is the part's."""
        digest = hashlib.sha256(case.encode("utf-8", "surrogateescape")).digest()
        return int.from_bytes(digest[:8], "big") % self.of == self.number - 1

    def folder(self, out: Path) -> Path:
        """Where the part writes."""
        return out / PARTS / f"{self.number}-of-{self.of}"


def parse_part(text: str) -> Part:
    """``K/N`` -> the part.

    Raises:
        UsageError: it is not two whole numbers with 1 <= K <= N.
    """
    match = _TEXT.fullmatch(text.strip())
    number, of = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= number <= of <= MOST:
        raise UsageError(f"--part: expected K/N with K from 1 to N, as 3/16, got {text!r}")
    return Part(of, number)


def parts_in(out: Path) -> list[Part]:
    """The parts that have a folder below ``out``, in order."""
    folder = out / PARTS
    if not folder.is_dir():
        return []
    matches = (_FOLDER.fullmatch(path.name) for path in folder.iterdir() if path.is_dir())
    return sorted(Part(int(match[2]), int(match[1])) for match in matches if match)


@contextmanager
def part_of(
    out: Path,
    part: Part | None,
    cases: Sequence[OneCase],
    settings: Mapping[str, Any],
    *,
    names: Sequence[str] | None = None,
) -> Iterator[tuple[Path, list[OneCase]]]:
    """(folder, cases) of this command: all of ``cases`` into ``out``, or the part's into the part's folder.

    ``settings``: what the tables depend on besides the record of the run. ``names``: of the cases, where what is
    written shall not hold their ids (pseudonyms). When all is written, the part's own record says what it took, with a
    hash of each of its tables.

    Raises:
        OutputError: the folder cannot be written.
    """
    if part is None:
        yield out, list(cases)
        return
    names = [case.id for case in cases] if names is None else names
    positions = [position for position, name in enumerate(names) if part.takes(name)]
    folder = part.folder(out)
    make_private(folder)
    facts = {
        "part": part.number,
        "of": part.of,
        "cohort": {"cases": len(cases), "sha256": cohort_hash(names)},
        "settings": dict(settings),
    }
    yield folder, [cases[position] for position in positions]
    rows = [{"position": position, "case": names[position]} for position in positions]
    write_table(folder / CASES, ("position", "case"), rows)
    atomic.write_json(folder / RECORD, facts | {"tables": table_hashes(folder)})


def table_hashes(folder: Path) -> dict[str, str]:
    """Name -> sha256 of every table in a part's folder."""
    tables = (path for path in sorted(folder.glob("*.csv")) if path.is_file())
    return {path.name: hashlib.sha256(regular.read_bytes(path)).hexdigest() for path in tables}


def cohort_hash(cases: Sequence[str]) -> str:
    """Sha256 over the ids in their order."""
    return hashlib.sha256("\n".join(cases).encode("utf-8", "surrogateescape")).hexdigest()


def part_record(folder: Path) -> dict[str, Any] | None:
    """What a finished part took; None where it is not finished.

    Raises:
        RunFolderError: the record is damaged.
    """
    try:
        record = json.loads(regular.read_text(folder / RECORD))
        if isinstance(record, dict) and {"part", "of", "cohort", "settings", "tables"} <= record.keys():
            return record
    except FileNotFoundError:
        return None
    except (ValueError, OSError, RecursionError):
        pass
    raise RunFolderError(f"{folder / RECORD}: damaged; run this part again")
