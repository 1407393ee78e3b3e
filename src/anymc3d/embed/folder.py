"""Embeddings of many cases in one folder: ``OUT/cases/<two digits>/<case>.safetensors`` and ``OUT/embeddings.csv``.

A finished case is a line in ``OUT/journal.jsonl`` with the hashes of its scans; the same run again skips it, and reads
none of its scans where the file system says that they are as they were (:mod:`anymc3d.data.file_marks`).
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from safetensors.numpy import save

from anymc3d.cost.progress import Progress
from anymc3d.data.case import Case
from anymc3d.data.case_faults import CaseFault, attempt
from anymc3d.data.embedding_facts import KEY, encode_facts_of
from anymc3d.data.embeddings import EMBEDDING_VERSION, RECORD, TABLE, settings_hash
from anymc3d.data.file_marks import file_mark
from anymc3d.data.prefetch.cases import CaseAhead, cases_ahead
from anymc3d.data.preprocess import CODE_VERSION
from anymc3d.data.pseudonyms import Pseudonyms
from anymc3d.data.time_limit import within
from anymc3d.embed.source import Arrays, EmbedSettings, Source
from anymc3d.evaluate.ood import VERSION
from anymc3d.explain.folder import file_name
from anymc3d.files import atomic, journal, regular
from anymc3d.files.containment import inside
from anymc3d.files.folders import check_there, claim, locked
from anymc3d.files.tables import write_table
from anymc3d.predict.cohort import MARK, read_journal
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
        **({"statistics_version": VERSION} if source.keeps_facts(settings) else {}),
        "version": __version__,
        **({} if pseudonyms is None else {"pseudonym_key": pseudonyms.check}),
    }


def embed_cohort(
    source: Source,
    cases: Sequence[Case],
    out: Path,
    settings: EmbedSettings,
    *,
    pseudonyms: Pseudonyms | None = None,
    timeout_s: float | None = None,
    case_memory: int | None = None,
    workers: int = 0,
    quiet: bool = False,
) -> EmbedResult:
    """Embed every case into ``out``; a case that fails has one row with status ``error`` and no file.

    ``workers``: processes that read ahead (:mod:`anymc3d.data.prefetch`); the embeddings are the same with any number.

    Raises:
        RunFolderError: ``out`` belongs to another source or other settings, or another process works in it.
        OutputError: something cannot be written; what is finished is kept.
    """
    cases = cases if pseudonyms is None else pseudonyms.rename(cases)
    identity = identity_of(source, settings, pseudonyms)
    facts = {"backbone": source.identity["backbone"][:16], "settings": settings_hash(identity)}
    reader = partial(_ahead, source, settings, workers=workers, timeout_s=timeout_s, case_memory=case_memory)
    key_of = partial(_inputs_key, source, settings, pseudonyms, timeout_s, case_memory)
    mark_of = partial(_mark, begun=time.time(), pseudonyms=pseudonyms)
    with locked(out):
        claim(out / RECORD, identity, "an embed run")
        journalled = read_journal(out / JOURNAL)
        there = [case for case in cases if case.id in journalled and _is_there(out, journalled[case.id]["rows"])]
        entries = _unchanged(there, journalled, mark_of, key_of, partial(reader, slices=False))
        wanted = [case for case in cases if case.id not in entries]
        with (
            journal.opened(out / JOURNAL) as lines,
            reader(wanted, slices=True) as ahead,
            Progress(total=len(cases), initial=len(entries), what="embedding", unit="case", quiet=quiet) as bar,
        ):
            for case_ahead in ahead:
                check_there(out / RECORD)
                key, made = key_of(case_ahead), _embedded(source, case_ahead, out, settings, timeout_s, case_memory)
                entry = {"case": case_ahead.case.id, "inputs": key, "rows": [row | facts for row in made]}
                entries[case_ahead.case.id] = entry | {MARK: None if key is None else mark_of(case_ahead.case)}
                lines.append(entries[case_ahead.case.id])
                bar.update(1)
        rows = [row for case in cases for row in entries[case.id]["rows"]]
        earlier = [row for name in sorted(journalled.keys() - entries.keys()) for row in journalled[name]["rows"]]
        check_there(out / RECORD)
        write_table(out / TABLE, COLUMNS, [*rows, *earlier])
    return EmbedResult(rows, len(wanted))


def _unchanged(
    cases: Sequence[Case],
    journalled: Mapping[str, dict[str, Any]],
    mark_of: Callable[[Case], str | None],
    key_of: Callable[[CaseAhead], str | None],
    reader: Callable[[Sequence[Case]], AbstractContextManager[Iterator[CaseAhead]]],
) -> dict[str, dict[str, Any]]:
    """The entries of an earlier run that are still those of their cases: by their mark, otherwise by their content."""
    entries = {case.id: journalled[case.id] for case in cases if _is_marked(journalled[case.id], mark_of, case)}
    with reader([case for case in cases if case.id not in entries]) as ahead:
        keys = {case_ahead.case.id: key_of(case_ahead) for case_ahead in ahead}
    same = [name for name, key in keys.items() if key is not None and key == journalled[name]["inputs"]]
    return entries | {name: journalled[name] for name in same}


def _ahead(
    source: Source,
    settings: EmbedSettings,
    cases: Sequence[Case],
    *,
    slices: bool,
    workers: int,
    timeout_s: float | None,
    case_memory: int | None,
) -> AbstractContextManager[Iterator[CaseAhead]]:
    needs, workers = source.needs(settings, slices=slices), min(workers, len(cases))
    return cases_ahead(*(cases, needs, source.scans), workers=workers, timeout_s=timeout_s, memory_bytes=case_memory)


def case_file(case: str) -> str:
    """Where a case's arrays lie below the folder: at most 256 folders, so that none has too many files."""
    shard = hashlib.sha256(case.encode("utf-8", "surrogateescape")).hexdigest()[:2]
    return f"{CASES}/{shard}/{file_name(case)}.safetensors"


def _embedded(
    source: Source,
    case_ahead: CaseAhead,
    out: Path,
    settings: EmbedSettings,
    timeout_s: float | None,
    case_memory: int | None,
) -> list[dict[str, Any]]:
    case, embedded = case_ahead.case, partial(source.embed_with_facts, case_ahead.scans, settings)
    outcome = attempt(lambda: within(timeout_s, embedded, case_memory), case, describe=predict_fault)
    empty = dict.fromkeys(COLUMNS, "")
    if isinstance(outcome, CaseFault):
        return [empty | {"case": case.id, "status": "error", "message": outcome.message}]
    (arrays, facts), name = outcome, case_file(case.id)
    header = {"case": case.id, "level": settings.level} | ({} if facts is None else {KEY: encode_facts_of(facts)})
    atomic.write_bytes(inside(out, *name.split("/")), save(arrays, metadata=header))
    return [
        empty | {"case": case.id, "view": view, "status": "ok", "file": name} | _shape(arrays, view)
        for view in _views(arrays)
    ]


def _views(arrays: Arrays) -> list[str]:
    return [name for name in arrays if name.rpartition(".")[2] not in FACTS]


def _shape(arrays: Arrays, view: str) -> dict[str, int]:
    shape = arrays[view].shape
    return {"rows": 1 if len(shape) == 1 else shape[0], "width": shape[-1]}


def _is_there(out: Path, rows: Sequence[Mapping[str, Any]]) -> bool:
    return all(row["status"] != "error" and inside(out, *row["file"].split("/")).is_file() for row in rows)


def _mark(case: Case, *, begun: float, pseudonyms: Pseudonyms | None) -> str | None:
    """What shows, without reading a scan, that a case is that of an earlier run; None where it has to be read."""
    mark = file_mark(case, begun)
    return mark if mark is None or pseudonyms is None else pseudonyms.seal(mark)


def _is_marked(entry: Mapping[str, Any], mark_of: Callable[[Case], str | None], case: Case) -> bool:
    return entry[MARK] is not None and entry[MARK] == mark_of(case)


def _inputs_key(
    source: Source,
    settings: EmbedSettings,
    pseudonyms: Pseudonyms | None,
    timeout_s: float | None,
    case_memory: int | None,
    case_ahead: CaseAhead,
) -> str | None:
    """What the embeddings of a case depend on besides source and settings; None where a scan cannot be read."""
    case, hashed = case_ahead.case, partial(case_ahead.hashes, list(source.views.values()))
    hashes = attempt(lambda: within(timeout_s, hashed, case_memory), case)
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
