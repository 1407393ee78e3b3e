"""Many cases through one predictor, one row for every input, always; a killed run goes on where it stopped.

Every finished case is a line in ``OUT/journal.jsonl`` with the hashes of its scans. ``OUT/predictions.csv`` is made
from the journal when the run ends: the rows of this run in the order of the inputs, then those of earlier ones.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial, reduce
from pathlib import Path
from typing import Any, NamedTuple

import torch

from anymc3d.cost.energy import EnergyMeter, added, energy_facts, meter_of
from anymc3d.cost.memory import device_facts, forget_peak, peak_memory
from anymc3d.cost.progress import Progress
from anymc3d.data.case import Case
from anymc3d.data.case_faults import CaseFault, attempt
from anymc3d.data.file_marks import file_mark
from anymc3d.data.prefetch.cases import CaseAhead, cases_ahead
from anymc3d.data.preprocess import CODE_VERSION
from anymc3d.data.pseudonyms import Pseudonyms
from anymc3d.data.time_limit import within
from anymc3d.errors import RunFolderError, coded
from anymc3d.evaluate import outputs
from anymc3d.files import atomic, journal
from anymc3d.files.folders import check_there, claim, locked, recorded
from anymc3d.files.tables import parse_table, write_table
from anymc3d.plugins import Plugin
from anymc3d.predict.covariates import covariates_of
from anymc3d.predict.predictor import Predictor
from anymc3d.predict.resident import needs_of, seen_views
from anymc3d.predict.upload import uploads_to
from anymc3d.version import __version__

TABLE, JOURNAL, RECORD, COST = "predictions.csv", "journal.jsonl", "predict.json", "cost.json"
IN_DOUBT = "in_doubt"
"""Of a line of the journal: row by row the labels whose decision ``abstain`` leaves out."""
MARK = "files"
"""Of a line of the journal: :func:`anymc3d.data.file_marks.file_mark`, or null."""
FORMAT = "number_format"
"""The key of ``predict.json`` that says what ``--precision`` meant where the run began."""

logger = logging.getLogger(__name__)
_MOST_NAMED = 5

STRICT = "refused because of warnings (--strict)"
"""What the message of a refused answer begins with."""

Row = dict[str, str]
Entry = dict[str, Any]
"""A line of the journal: a case, what its answer depends on, its rows, what it cost."""


@dataclass(frozen=True)
class CohortResult:
    """What a run did: the rows in input order, and how many cases it computed and took from an earlier run.

    ``earlier``: rows of cases that were not among this run's inputs; they stand in the table after ``rows``.
    """

    rows: list[Row]
    computed: int
    reused: int
    refused: int = 0
    """Rows that have an answer, and an error of its warnings in its place."""
    earlier: int = 0
    unanswered: int = 0
    """Rows of this run in which a decision was left out (``abstain``)."""

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
    return {**named, "status": "error", "message": coded(f"{STRICT}: {row['message']}", "E-strict")}


def abstained_row(row: Row, in_doubt: Sequence[str]) -> Row:
    """With ``--abstain``: a row without the decisions that are in doubt."""
    if row["status"] == "error":
        return row
    columns = [f"decision.{name}" for name in in_doubt]
    return row | {column: outputs.NOT_ANSWERED for column in columns if column in row}


def predict_cohort(
    predictor: Predictor,
    cases: Sequence[Case],
    out: Path,
    *,
    precision: str = "fp32",
    pseudonyms: Pseudonyms | None = None,
    strict: bool = False,
    abstain: bool = False,
    timeout_s: float | None = None,
    workers: int = 0,
    quiet: bool = False,
) -> CohortResult:
    """Predict every case into ``out``; with ``pseudonyms`` nothing written there says which cases they were.

    The table has the rows of ``cases`` in their order, and after them, by case, those of earlier runs into ``out``.
    ``abstain``: the table has :data:`outputs.NOT_ANSWERED` in place of every decision that is in doubt.
    ``strict``: the table has an error in place of every answer that has a warning. The journal keeps the answers: the
    same run without it writes them. ``timeout_s``: seconds that a case may take with each plugin, reading included.
    ``workers``: processes that read ahead (:mod:`anymc3d.data.prefetch`); the table has the same bytes with any number.

    Raises:
        RunFolderError: ``out`` belongs to other plugins or settings, another process works in it, or answers would be
            lost.
        OutputError: something cannot be written; what is finished is kept.
    """
    if pseudonyms is not None:
        cases = pseudonyms.rename(cases)
    with locked(out):
        claim(out / RECORD, _identity(predictor, precision, pseudonyms), "a prediction run", later=[FORMAT])
        journalled = read_journal(out / JOURNAL)
        check_kept(out / TABLE, {case.id for case in cases} | journalled.keys())
        forget_peak(predictor.device)
        meter = meter_of(predictor.device)
        run = _Run(predictor, pseudonyms, timeout_s, workers, quiet)
        answers = _answers(run, cases, out, journalled, meter)
        check_there(out / RECORD)
        others = [journalled[name] for name in sorted(journalled.keys() - answers.entries.keys())]
        if answers.computed or not (out / COST).exists():
            _write_cost(out / COST, predictor.device, [*answers.entries.values(), *others], meter.note)
        rows, earlier = (_rows(entries, abstain=abstain) for entries in (answers.entries.values(), others))
        refused = sum(row["status"] == "warn" for row in rows) if strict else 0
        if strict:
            rows, earlier = ([refused_row(row) for row in part] for part in (rows, earlier))
        write_table(out / TABLE, _columns(predictor.plugins), _one_plugin([*rows, *earlier], predictor.plugins))
        unanswered = sum(outputs.NOT_ANSWERED in row.values() for row in rows)
    return CohortResult(rows, answers.computed, len(cases) - answers.computed, refused, len(earlier), unanswered)


class _Answers(NamedTuple):
    """``entries``: case id -> its line, in the order of the inputs; ``computed``: how many are of this run."""

    entries: dict[str, Entry]
    computed: int


@dataclass(frozen=True, eq=False)
class _Run:
    """Who is asked, and how cases are read."""

    predictor: Predictor
    pseudonyms: Pseudonyms | None
    timeout_s: float | None
    workers: int
    quiet: bool
    begun: float = field(default_factory=time.time)

    def mark(self, case: Case) -> str | None:
        """What shows, without reading a scan, that a case is that of an earlier run; None where it has to be read."""
        mark = file_mark(case, self.begun)
        if mark is None:
            return None
        covariates = covariates_of([plugin.card for plugin in self.predictor.plugins], case)
        mark = json.dumps([mark, covariates], sort_keys=True) if covariates else mark
        return mark if self.pseudonyms is None else self.pseudonyms.seal(mark)

    def ahead(self, cases: Sequence[Case], *, slices: bool) -> AbstractContextManager[Iterator[CaseAhead]]:
        """The scans of some cases; without ``slices`` only what shows whether they are the same."""
        needs = needs_of([plugin.card for plugin in self.predictor.plugins], slices=slices)
        uploads = uploads_to(self.predictor.device)
        return cases_ahead(
            cases,
            needs,
            self.predictor.scans_known,
            workers=min(self.workers, len(cases)),
            timeout_s=self.timeout_s,
            memory_bytes=self.predictor.case_memory,
            arrived=None if uploads is None else uploads.begin,
        )

    def key(self, case_ahead: CaseAhead) -> str | None:
        """What a case's answer depends on besides the plugins; None when a scan cannot be read (then it is tried
        again)."""
        case, cards = case_ahead.case, [plugin.card for plugin in self.predictor.plugins]
        hashed = partial(case_ahead.hashes, seen_views(cards))
        hashes = attempt(lambda: within(self.timeout_s, hashed, self.predictor.case_memory), case)
        if isinstance(hashes, CaseFault):
            return None
        known: dict[str, Any] = {"hashes": hashes, "spacing": case.spacing, "center": case.center}
        covariates = covariates_of(cards, case)
        key = json.dumps(known | ({"covariates": covariates} if covariates else {}), sort_keys=True)
        return key if self.pseudonyms is None else self.pseudonyms.seal(key)


def _answers(
    run: _Run, cases: Sequence[Case], out: Path, journalled: Mapping[str, Entry], meter: EnergyMeter
) -> _Answers:
    """Take from the journal what is done and unchanged, compute the rest and add it there."""
    unchanged = _unchanged(run, cases, journalled)
    wanted = [case for case in cases if case.id not in unchanged]
    computed: dict[str, Entry] = {}
    with (
        journal.opened(out / JOURNAL) as lines,
        run.ahead(wanted, slices=True) as ahead,
        Progress(total=len(cases), initial=len(unchanged), what="predicting", unit="case", quiet=run.quiet) as bar,
    ):
        for case_ahead in ahead:
            entry = _predicted(run, case_ahead, meter)
            lines.append(entry)
            computed[case_ahead.case.id] = entry
            bar.update(1)
    _say_replaced(out, journalled, computed)
    entries = unchanged | computed
    return _Answers({case.id: entries[case.id] for case in cases}, len(computed))


def _unchanged(run: _Run, cases: Sequence[Case], journalled: Mapping[str, Entry]) -> dict[str, Entry]:
    """The entries of cases that are answered already, and whose scans are still the same."""
    answered = [case for case in cases if case.id in journalled and not _has_failed(journalled[case.id])]
    marked = {case.id: journalled[case.id] for case in answered if _is_marked(journalled[case.id], run, case)}
    answered = [case for case in answered if case.id not in marked]
    with (
        run.ahead(answered, slices=False) as ahead,
        Progress(ahead, total=len(answered), what="looking what is done", unit="case", quiet=run.quiet) as bar,
    ):
        verified = {
            case_ahead.case.id: journalled[case_ahead.case.id]
            for case_ahead in bar
            if _is_of(journalled[case_ahead.case.id], run, case_ahead)
        }
    return marked | verified


def _is_marked(entry: Entry, run: _Run, case: Case) -> bool:
    return entry[MARK] is not None and entry[MARK] == run.mark(case)


def _is_of(entry: Entry, run: _Run, case_ahead: CaseAhead) -> bool:
    key = run.key(case_ahead)
    return key is not None and entry["inputs"] == key


def _say_replaced(out: Path, journalled: Mapping[str, Entry], computed: Mapping[str, Entry]) -> None:
    replaced = [
        name for name, new in computed.items() if name in journalled and _is_another(journalled[name], new["inputs"])
    ]
    if replaced:
        logger.warning(
            "%s: %d cases had answers of other (or changed) scans here, which are replaced: %s; %s keeps the old ones",
            *(out, len(replaced), ", ".join(replaced[:_MOST_NAMED]), JOURNAL),
        )


def _predicted(run: _Run, case_ahead: CaseAhead, meter: EnergyMeter) -> Entry:
    started = time.monotonic()
    meter.take()
    key = run.key(case_ahead)
    predictions = run.predictor.predict_case(case_ahead.case, timeout_s=run.timeout_s, scans=case_ahead.scans)
    rows = [prediction.row() for prediction in predictions]
    rows_in_doubt = [list(prediction.in_doubt) for prediction in predictions]
    # With the time of other processes: what a case costs does not depend on which one reads it.
    seconds = time.monotonic() - started + case_ahead.seconds
    spent = {"seconds": round(seconds, 4), "joules": meter.take()}
    mark = None if key is None else run.mark(case_ahead.case)
    return {"case": case_ahead.case.id, "inputs": key, MARK: mark, "rows": rows, IN_DOUBT: rows_in_doubt} | spent


def _rows(entries: Iterable[Entry], *, abstain: bool = False) -> list[Row]:
    if not abstain:
        return [row for entry in entries for row in entry["rows"]]
    pairs = [pair for entry in entries for pair in zip(entry["rows"], entry[IN_DOUBT], strict=True)]
    return [abstained_row(row, in_doubt) for row, in_doubt in pairs]


def _write_cost(path: Path, device: torch.device, entries: Sequence[Entry], note: str) -> None:
    """What a case cost, from its files to the answers of all plugins; the cases of earlier runs in ``OUT`` included."""
    spent = [entry for entry in entries if not _has_failed(entry) and entry["seconds"] is not None]
    seconds = sum(case["seconds"] for case in spent)
    joules = reduce(added, (case["joules"] for case in spent)) if spent else None
    cost = {
        "cases": len(spent),
        "predict_seconds": round(seconds, 4),
        "predict_seconds_per_volume": round(seconds / len(spent), 4) if spent else None,
        "peak_memory_bytes": peak_memory(device),
    }
    atomic.write_json(path, cost | device_facts(device) | energy_facts(joules, note))


def _is_another(entry: Entry, key: str | None) -> bool:
    """Whether an earlier answer was of another scan under the same id."""
    return key is not None and entry["inputs"] not in (None, key) and not _has_failed(entry)


def _has_failed(entry: Mapping[str, Any]) -> bool:
    """A failed case is tried again: what was missing, such as memory, may be available now."""
    return any(row["status"] == "error" for row in entry["rows"])


def check_kept(table: Path, known: Collection[str]) -> None:
    """Check that every case of the table of earlier runs is ``known``: in the journal, or to be predicted again.

    A table that a person has changed beyond reading says nothing.

    Raises:
        RunFolderError: a new table would lose rows, because the journal has lost their lines.
    """
    rows = parse_table(table)
    if "case" not in rows.columns:
        return
    place = rows.columns.index("case")
    lost = [name for name in dict.fromkeys(cells[place] for _, cells in rows.rows) if name not in known]
    if lost:
        raise RunFolderError(
            f"{table}: holds {len(lost)} cases that {JOURNAL} has lost: {', '.join(lost[:_MOST_NAMED])}; give their "
            "scans, too, or choose another output folder, so that no answer is lost"
        )


def read_journal(path: Path) -> dict[str, Entry]:
    """Case id -> its last whole line."""
    entries: dict[str, Entry] = {}
    for entry in journal.read(path):
        if {"case", "inputs", "rows"} <= entry.keys():
            nothing = [[] for _ in entry["rows"]]
            entries[entry["case"]] = {"seconds": None, "joules": None, IN_DOUBT: nothing, MARK: None} | entry
    return entries


def precision_in(out: Path, precision: str) -> str:
    """In a folder in which a run began, ``auto`` keeps the format that it stood for then, on any processor."""
    return recorded(out / RECORD, FORMAT) or precision if precision == "auto" else precision


def _identity(predictor: Predictor, precision: str, pseudonyms: Pseudonyms | None) -> dict[str, Any]:
    plugins = predictor.plugins
    return {
        "kind": "predict",
        "plugins": {plugin.card.name: plugin.hash for plugin in plugins},
        "logits": {plugin.card.name: plugin.card.logits_id for plugin in plugins},
        "calibrated": {plugin.card.name: plugin.card.is_calibrated for plugin in plugins},
        "probabilities": {plugin.card.name: plugin.card.calibration_states for plugin in plugins},
        "precision": precision,
        FORMAT: predictor.number_format,
        "preprocessing_version": CODE_VERSION,
        "version": __version__,
        **({} if pseudonyms is None else {"pseudonym_key": pseudonyms.check}),
    }


def _columns(plugins: Sequence[Plugin]) -> list[str]:
    names = dict.fromkeys(name for plugin in plugins for name in plugin.card.labels.output_names)
    numbers = {name for plugin in plugins if plugin.card.labels.is_number for name in plugin.card.labels.output_names}
    having = [plugin.card for plugin in plugins if plugin.card.covariate_names]
    parted = dict.fromkeys(name for card in having for name in card.labels.output_names)
    sets = dict.fromkeys(
        f"set.{name}" for plugin in plugins if plugin.card.prediction_sets for name in plugin.card.labels.output_names
    )
    columns = outputs.prediction_columns(
        list(names), with_plugin=len(plugins) > 1, with_covariates=list(parted), numbers=numbers
    )
    return [*columns, *sets, outputs.OOD_SCORE]


def _one_plugin(rows: Iterable[Row], plugins: Sequence[Plugin]) -> list[Mapping[str, str]]:
    if len(plugins) > 1:
        return list(rows)
    return [{name: cell for name, cell in row.items() if name != "plugin"} for row in rows]
