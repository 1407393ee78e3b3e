"""Embeddings of many cases in one folder: ``OUT/cases/<two digits>/<case>.safetensors`` and ``OUT/embeddings.csv``.

A finished case is a line in ``OUT/journal.jsonl`` with the hashes of its scans; the same run again skips it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors.numpy import save

from anymc3d.cost.progress import Progress
from anymc3d.data.case import Case
from anymc3d.data.case_faults import CaseFault, attempt
from anymc3d.data.case_scans import CaseScans
from anymc3d.data.embeddings import EMBEDDING_VERSION, RECORD, TABLE
from anymc3d.data.preprocess import CODE_VERSION
from anymc3d.data.pseudonyms import Pseudonyms
from anymc3d.data.time_limit import within
from anymc3d.embed.source import Arrays, EmbedSettings, Source
from anymc3d.explain.folder import file_name
from anymc3d.files import atomic, journal, regular
from anymc3d.files.folders import check_there, claim, locked
from anymc3d.files.inside import inside
from anymc3d.files.tables import write_table
from anymc3d.predict.cohort import read_journal
from anymc3d.predict.faults import predict_fault
from anymc3d.version import __version__

JOURNAL, CASES = "journal.jsonl", "cases"
COLUMNS = ("case", "view", "status", "message", "file", "rows", "width", "backbone", "settings")
FACTS = ("position_mm", "affine", "labels")
"""Endings of arrays that say what the rows of a view's array are."""


@dataclass(frozen=True)
class EmbedResult:
    """Rows of the table, one for every case and view, and how many cases were computed now."""

    rows: list[dict[str, Any]]
    computed: int

    @property
    def exit_code(self) -> int:
        """0 all well, 3 some cases failed, 4 all failed."""
        failed = {row["case"] for row in self.rows if row["status"] == "error"}
        if not failed:
            return 0
        return 4 if failed == {row["case"] for row in self.rows} else 3


def identity_of(source: Source, settings: EmbedSettings, pseudonyms: Pseudonyms | None = None) -> dict[str, Any]:
    """What all embeddings of a folder have in common."""
    return {
        "kind": "embed",
        **source.identity,
        "settings": asdict(settings),
        "preprocessing_version": CODE_VERSION,
        "embedding_version": EMBEDDING_VERSION,
        "version": __version__,
        **({} if pseudonyms is None else {"pseudonym_key": pseudonyms.check}),
    }


def settings_hash(identity: Mapping[str, Any]) -> str:
    """Sixteen digits over :func:`identity_of`; embeddings of one hash may stand in one table."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


def embed_cohort(
    source: Source,
    cases: Sequence[Case],
    out: Path,
    settings: EmbedSettings,
    *,
    pseudonyms: Pseudonyms | None = None,
    timeout_s: float | None = None,
    case_memory: int | None = None,
    quiet: bool = False,
) -> EmbedResult:
    """Embed every case into ``out``; a case that fails has one row with status ``error`` and no file.

    Raises:
        RunFolderError: ``out`` belongs to another source or other settings, or another process works in it.
        OutputError: something cannot be written; what is finished is kept.
    """
    cases = cases if pseudonyms is None else pseudonyms.rename(cases)
    identity = identity_of(source, settings, pseudonyms)
    facts = {"backbone": source.identity["backbone"][:16], "settings": settings_hash(identity)}
    rows, computed = [], 0
    with locked(out):
        claim(out / RECORD, identity, "an embed run")
        done = read_journal(out / JOURNAL)
        seen = set()
        with journal.opened(out / JOURNAL) as lines:
            for case in Progress(cases, what="embedding", unit="case", quiet=quiet):
                key = _inputs_key(source, case, settings, pseudonyms, timeout_s)
                entry = done.get(case.id)
                if entry is None or key is None or entry["inputs"] != key or not _is_there(out, entry["rows"]):
                    check_there(out / RECORD)
                    made = _embedded(source, case, out, settings, timeout_s, case_memory)
                    entry = {"case": case.id, "inputs": key, "rows": [row | facts for row in made]}
                    lines.append(entry)
                    computed += 1
                rows += entry["rows"]
                seen.add(case.id)
        earlier = [row for name in sorted(done.keys() - seen) for row in done[name]["rows"]]
        check_there(out / RECORD)
        write_table(out / TABLE, COLUMNS, [*rows, *earlier])
    return EmbedResult(rows, computed)


def case_file(case: str) -> str:
    """Where a case's arrays lie below the folder: at most 256 folders, so that none has too many files."""
    shard = hashlib.sha256(case.encode("utf-8", "surrogateescape")).hexdigest()[:2]
    return f"{CASES}/{shard}/{file_name(case)}.safetensors"


def _embedded(
    source: Source,
    case: Case,
    out: Path,
    settings: EmbedSettings,
    timeout_s: float | None,
    case_memory: int | None,
) -> list[dict[str, Any]]:
    found = attempt(
        lambda: within(timeout_s, lambda: source.embed(case, settings), case_memory), case, told=predict_fault
    )
    empty = dict.fromkeys(COLUMNS, "")
    if isinstance(found, CaseFault):
        return [empty | {"case": case.id, "status": "error", "message": found.message}]
    name = case_file(case.id)
    atomic.write_bytes(inside(out, *name.split("/")), save(found, metadata={"case": case.id, "level": settings.level}))
    return [
        empty | {"case": case.id, "view": view, "status": "ok", "file": name} | _shape(found, view)
        for view in _views(found)
    ]


def _views(arrays: Arrays) -> list[str]:
    return [name for name in arrays if name.rpartition(".")[2] not in FACTS]


def _shape(arrays: Arrays, view: str) -> dict[str, int]:
    shape = arrays[view].shape
    return {"rows": 1 if len(shape) == 1 else shape[0], "width": shape[-1]}


def _is_there(out: Path, rows: Sequence[Mapping[str, Any]]) -> bool:
    return all(row["status"] != "error" and inside(out, *row["file"].split("/")).is_file() for row in rows)


def _inputs_key(
    source: Source, case: Case, settings: EmbedSettings, pseudonyms: Pseudonyms | None, timeout_s: float | None
) -> str | None:
    def hashed() -> dict[str, str]:
        scans = CaseScans(case, segmenters=source.segmenters)
        return within(timeout_s, lambda: scans.hashes(list(source.views.values())))

    hashes = attempt(hashed, case)
    if isinstance(hashes, CaseFault):
        return None
    masks = sorted((column, str(path)) for column, path in case.masks.items()) if settings.level == "mask" else []
    digests = {column: regular_hash(path) for column, path in masks}
    key = json.dumps({"hashes": hashes | digests, "spacing": case.spacing, "center": case.center}, sort_keys=True)
    return key if pseudonyms is None else pseudonyms.seal(key)


def regular_hash(path: str) -> str:
    """Of a mask's file; empty where it cannot be read, which the case's own row then says."""
    try:
        return hashlib.sha256(regular.read_bytes(Path(path))).hexdigest()
    except OSError:
        return ""
