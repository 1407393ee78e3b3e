"""Embeddings that ``anymc3d embed`` wrote, as arrays and tables, without torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load

from anymc3d.data.cache_entry import safetensors_facts
from anymc3d.errors import RunFolderError
from anymc3d.files import regular
from anymc3d.files.containment import inside
from anymc3d.files.parts import PARTS
from anymc3d.files.tables import read_table

if TYPE_CHECKING:
    import pandas

RECORD, TABLE = "embed.json", "embeddings.csv"
EMBEDDING_VERSION = 2
"""Part of every record. Raise it whenever the embeddings of the same slices can change. 2: z-scores go to the backbone
as they are, as everywhere else."""


def settings_hash(record: Mapping[str, Any]) -> str:
    """Sixteen digits over a record; embeddings of one hash may stand in one table."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, eq=False)
class StoredCase:
    """The file of one case. ``views``: view -> its arrays, ``values`` and what their rows are; ``header``: what stands
    beside them; ``sha256``: of the file."""

    case: str
    views: Mapping[str, Mapping[str, NDArray[Any]]]
    header: Mapping[str, str]
    sha256: str


@dataclass(frozen=True)
class Embeddings:
    """A folder of embeddings. ``rows``: of its table, those without an error; ``record``: what made them."""

    folder: Path
    rows: tuple[Mapping[str, str], ...]
    record: Mapping[str, Any]

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        cases = len({row["case"] for row in self.rows})
        return f"Embeddings({cases} cases, level {self.record['settings']['level']}, {self.folder})"

    @property
    def views(self) -> tuple[str, ...]:
        """The views that any case has."""
        return tuple(dict.fromkeys(row["view"] for row in self.rows))

    def arrays(
        self, view: str | None = None, cases: Collection[str] | None = None
    ) -> Iterator[tuple[str, dict[str, NDArray[Any]]]]:
        """(case, arrays) of one view: ``values``, and what its rows are (``position_mm``, ``affine``, ``labels``).

        ``cases``: those that are wanted; None: all.
        """
        wanted = self._view(view)
        for row in self.rows:
            if row["view"] == wanted and (cases is None or row["case"] in cases):
                yield row["case"], dict(self._stored(row["case"], row["file"], [wanted]).views[wanted])

    def stored(self, cases: Collection[str]) -> Iterator[StoredCase]:
        """The files of some cases, each read once, with all views that the table has of them.

        Raises:
            RunFolderError: one is damaged or lost.
        """
        by_case: dict[str, list[Mapping[str, str]]] = {}
        for row in self.rows:
            if row["case"] in cases:
                by_case.setdefault(row["case"], []).append(row)
        for case, rows in by_case.items():
            yield self._stored(case, rows[0]["file"], [row["view"] for row in rows])

    def _stored(self, case: str, file: str, views: Sequence[str]) -> StoredCase:
        try:
            content = regular.read_bytes(inside(self.folder, *file.split("/")))
            tensors, header = load(content), safetensors_facts(content)
            arrays = {view: {"values": tensors[view]} | _of_rows(tensors, view) for view in views}
        except (SafetensorError, KeyError, OSError, ValueError, AttributeError) as error:
            raise RunFolderError(f"{self.folder / file}: damaged or lost ({error}); embed this case again") from error
        return StoredCase(case, arrays, header, hashlib.sha256(content).hexdigest())

    def numpy(self, view: str | None = None) -> tuple[list[str], NDArray[np.float32]]:
        """(cases, (cases, D)): one row for every case; of slices, patches or structures their mean."""
        cases, vectors = [], []
        for case, arrays in self.arrays(view):
            values = arrays["values"].astype(np.float32)
            cases.append(case)
            vectors.append(values.reshape(-1, values.shape[-1]).mean(axis=0))
        return cases, np.stack(vectors) if vectors else np.zeros((0, 0), np.float32)

    def frame(self, view: str | None = None) -> pandas.DataFrame:
        """One row for every slice, structure or scan: case, view, what it is, and the numbers as columns ``0`` …

        Raises:
            ImportError: pandas is not installed.
            RunFolderError: patches, which are better read as arrays.
        """
        import pandas

        if self.record["settings"]["level"] == "patch":
            raise RunFolderError("embeddings of patches are grids; read them with arrays()")
        wanted, parts = self._view(view), []
        for case, arrays in self.arrays(wanted):
            values = np.atleast_2d(arrays["values"])
            part = pandas.DataFrame(values, columns=[str(i) for i in range(values.shape[1])])
            part.insert(0, "case", case)
            part.insert(1, "view", wanted)
            if "labels" in arrays:
                part.insert(2, "label", arrays["labels"])
            elif "position_mm" in arrays:
                part.insert(2, "slice", range(len(values)))
                for axis, name in enumerate(("x_mm", "y_mm", "z_mm")):
                    part.insert(3 + axis, name, arrays["position_mm"][:, axis])
            parts.append(part)
        return pandas.concat(parts, ignore_index=True) if parts else pandas.DataFrame(columns=["case", "view"])

    def _view(self, view: str | None) -> str:
        if view is None and len(self.views) == 1:
            return self.views[0]
        if view not in self.views:
            raise RunFolderError(f"{self.folder}: expected one of the views {', '.join(self.views)}, got {view}")
        return view


def _of_rows(tensors: Mapping[str, NDArray[Any]], view: str) -> dict[str, NDArray[Any]]:
    """What the rows of a view's array are."""
    return {name.removeprefix(f"{view}."): array for name, array in tensors.items() if name.startswith(f"{view}.")}


def _unfinished(folder: Path) -> str:
    """What to do with a folder that has no table yet; empty where it is none of ``anymc3d embed`` at all."""
    if (folder / RECORD).exists():
        return "got one that was stopped on its way; run the same command again, which goes on"
    if (folder / PARTS).is_dir():
        return f"got parts of one; run 'anymc3d merge {folder}' when all are done"
    return ""


def load_embeddings(folder: str | Path) -> Embeddings:
    """Open a folder of ``anymc3d embed``; arrays are read when they are asked for.

    Raises:
        RunFolderError: it is none.
    """
    folder = Path(folder)
    if not (folder / TABLE).exists() and (hint := _unfinished(folder)):
        raise RunFolderError(f"{folder}: expected a finished folder of 'anymc3d embed', {hint}")
    try:
        record = json.loads(regular.read_text(folder / RECORD))
        rows = tuple(row for row in read_table(folder / TABLE) if row["status"] != "error")
        return Embeddings(folder, rows, record)
    except (OSError, ValueError, KeyError) as error:
        raise RunFolderError(f"{folder}: expected a finished folder of 'anymc3d embed' ({error})") from error
