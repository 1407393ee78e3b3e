"""Many cases through one predictor, one row for every input, always; a killed run goes on where it stopped.

Every finished case is a line in ``OUT/journal.jsonl`` with the hashes of its scans. ``OUT/predictions.csv`` is made
from the journal, in the order of the inputs, when the run ends.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import torch

from anymc3d.cost.energy import added, energy_facts, meter_of
from anymc3d.cost.memory import device_facts, forget_peak, peak_memory
from anymc3d.cost.progress import Progress
from anymc3d.data.case import Case
from anymc3d.data.preprocess import CODE_VERSION
from anymc3d.data.pseudonyms import Pseudonyms
from anymc3d.errors import ScanError
from anymc3d.evaluate import outputs
from anymc3d.files import atomic
from anymc3d.files.folders import claim, locked
from anymc3d.files.tables import write_table
from anymc3d.plugins import Plugin
from anymc3d.predict.predictor import Predictor
from anymc3d.predict.resident import seen_views
from anymc3d.version import __version__

logger = logging.getLogger(__name__)

TABLE, JOURNAL, RECORD, COST = "predictions.csv", "journal.jsonl", "predict.json", "cost.json"

STRICT = "refused because of warnings (--strict)"
"""What the message of a refused answer begins with."""

Row = dict[str, str]


@dataclass(frozen=True)
class CohortResult:
    """What a run did: the rows in input order, and how many cases it computed and took from an earlier run."""

    rows: list[Row]
    computed: int
    reused: int
    refused: int = 0
    """Rows that have an answer, and an error of its warnings in its place."""

    @property
    def exit_code(self) -> int:
        """0 all well, 3 some cases failed (or had their answers refused), 4 all failed."""
        failed = {row["case"] for row in self.rows if row["status"] == "error"}
        cases = {row["case"] for row in self.rows}
        if not failed:
            return 0
        return 4 if failed == cases and not self.refused else 3


def refused_row(row: Row) -> Row:
    """With ``--strict``: a row with warnings as the row of a failed case, which has no answer."""
    if row["status"] != "warn":
        return row
    named = {name: row[name] for name in ("case", "plugin") if name in row}
    return {**named, "status": "error", "message": f"{STRICT}: {row['message']}"}


def predict_cohort(
    predictor: Predictor,
    cases: Sequence[Case],
    out: Path,
    *,
    precision: str = "fp32",
    pseudonyms: Pseudonyms | None = None,
    strict: bool = False,
    quiet: bool = False,
) -> CohortResult:
    """Predict every case into ``out``; with ``pseudonyms`` nothing written there tells which cases they were.

    ``strict``: the table has an error in place of every answer that has a warning. The journal keeps the answers: the
    same run without it writes them.

    Raises:
        RunFolderError: ``out`` belongs to other plugins or settings, or another process works in it.
    """
    if pseudonyms is not None:
        cases = pseudonyms.rename(cases)
    with locked(out):
        claim(out / RECORD, _identity(predictor.plugins, precision, pseudonyms), "a prediction run")
        done = read_journal(out / JOURNAL)
        rows: list[Row] = []
        spent: list[Mapping[str, float | None]] = []
        computed = 0
        forget_peak(predictor.device)
        meter = meter_of(predictor.device)
        with open(out / JOURNAL, "a", encoding="utf-8", opener=_private) as journal:
            for case in Progress(cases, what="predicting", unit="case", quiet=quiet):
                key = _inputs_key(predictor, case, pseudonyms)
                entry = done.get(case.id)
                if key is None or entry is None or entry["inputs"] != key or _has_failed(entry):
                    started = time.monotonic()
                    meter.take()
                    entry = {"case": case.id, "inputs": key, "rows": [p.row() for p in predictor.predict_case(case)]}
                    entry |= {"seconds": round(time.monotonic() - started, 4), "joules": meter.take()}
                    computed += 1
                    journal.write(json.dumps(entry) + "\n")
                    journal.flush()
                rows += entry["rows"]
                if not _has_failed(entry) and entry["seconds"] is not None:
                    spent.append(entry)
        if computed or not (out / COST).exists():
            _write_cost(out / COST, predictor.device, spent, meter.note)
        refused = sum(row["status"] == "warn" for row in rows) if strict else 0
        rows = [refused_row(row) for row in rows] if strict else rows
        write_table(out / TABLE, _columns(predictor.plugins), _one_plugin(rows, predictor.plugins))
    return CohortResult(rows, computed, len(cases) - computed, refused)


def _write_cost(path: Path, device: torch.device, spent: Sequence[Mapping[str, float | None]], note: str) -> None:
    """What a case cost, from its files to the answers of all plugins; the cases of earlier runs in ``OUT`` included."""
    seconds = sum(case["seconds"] for case in spent)
    joules = reduce(added, (case["joules"] for case in spent)) if spent else None
    found = {
        "cases": len(spent),
        "predict_seconds": round(seconds, 4),
        "predict_seconds_per_volume": round(seconds / len(spent), 4) if spent else None,
        "peak_memory_bytes": peak_memory(device),
    }
    atomic.write_json(path, found | device_facts(device) | energy_facts(joules, note))


def _private(path: str, flags: int) -> int:
    """Open for this user alone, whatever the umask."""
    return os.open(path, flags, 0o600)


def _has_failed(entry: Mapping[str, Any]) -> bool:
    """A failed case is tried again: what failed, memory for one, may be there now."""
    return any(row["status"] == "error" for row in entry["rows"])


def read_journal(path: Path) -> dict[str, dict[str, Any]]:
    """Case id -> its last whole line; a torn last line (a kill while writing) is cut off."""
    entries: dict[str, dict[str, Any]] = {}
    if not path.exists():
        return entries
    whole = 0
    content = path.read_bytes()
    for line in content.splitlines(keepends=True):
        try:
            entry = json.loads(line)
            known = {key: entry[key] for key in ("case", "inputs", "rows")}
            entries[entry["case"]] = known | {key: entry.get(key) for key in ("seconds", "joules")}
        except (ValueError, KeyError, TypeError):
            logger.warning("%s: a line that was not written whole is dropped", path)
            break
        if not line.endswith(b"\n"):
            break
        whole += len(line)
    if whole < len(content):
        with path.open("r+b") as file:
            file.truncate(whole)
    return entries


def _inputs_key(predictor: Predictor, case: Case, pseudonyms: Pseudonyms | None) -> str | None:
    """What a case's answer depends on besides the plugins; None when a scan cannot be read (then it is tried again)."""
    try:
        views = seen_views([plugin.card for plugin in predictor.plugins])
        hashes = predictor.scans(case).hashes(views)
    except ScanError:
        return None
    key = json.dumps({"hashes": hashes, "spacing": case.spacing, "center": case.center}, sort_keys=True)
    return key if pseudonyms is None else pseudonyms.seal(key)


def _identity(plugins: Sequence[Plugin], precision: str, pseudonyms: Pseudonyms | None) -> dict[str, Any]:
    return {
        "kind": "predict",
        "plugins": {plugin.card.name: plugin.hash for plugin in plugins},
        "logits": {plugin.card.name: plugin.card.logits_id for plugin in plugins},
        "calibrated": {plugin.card.name: plugin.card.is_calibrated for plugin in plugins},
        "probabilities": {plugin.card.name: plugin.card.calibration_states for plugin in plugins},
        "precision": precision,
        "preprocessing_version": CODE_VERSION,
        "version": __version__,
        **({} if pseudonyms is None else {"pseudonym_key": pseudonyms.check}),
    }


def _columns(plugins: Sequence[Plugin]) -> list[str]:
    names = dict.fromkeys(name for plugin in plugins for name in plugin.card.labels.output_names)
    return outputs.prediction_columns(list(names), with_plugin=len(plugins) > 1)


def _one_plugin(rows: Iterable[Row], plugins: Sequence[Plugin]) -> list[Mapping[str, str]]:
    if len(plugins) > 1:
        return list(rows)
    return [{name: cell for name, cell in row.items() if name != "plugin"} for row in rows]
