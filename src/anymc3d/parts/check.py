"""Before parts are joined: all there and finished, of one cohort, by the same plugins and settings, unchanged."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anymc3d.errors import ProblemsError, UsageError
from anymc3d.files import regular
from anymc3d.files.folders import differing
from anymc3d.files.parts import CASES, Part, part_record, parts_in, table_hashes
from anymc3d.files.tables import read_table

RUN_RECORDS = ("predict.json", "explain.json", "embed.json")
"""The record of a run that can be split; a part's folder has one of them."""
_MOST_NAMED = 12


@dataclass(frozen=True)
class FinishedPart:
    """A part that can be joined."""

    part: Part
    folder: Path
    facts: Mapping[str, Any]
    """The run's record and the settings that its tables depend on."""
    cohort: Mapping[str, Any]
    positions: Mapping[str, int]
    """Case -> its place in the cohort."""

    @property
    def record(self) -> str:
        """The name of the run's record."""
        return next(iter(self.facts))


def finished_parts(out: Path, of: int | None = None) -> list[FinishedPart]:
    """The parts below ``out``, in order, when they can be joined. ``of``: where splits into several numbers lie there.

    Raises:
        UsageError: there are no parts, or those of several splits.
        ProblemsError: what stands against joining them, every fault with its part.
    """
    parts = [part for part in parts_in(out) if of is None or part.of == of]
    numbers = sorted({part.of for part in parts})
    if not parts:
        what = "" if of is None else f" of {of}"
        raise UsageError(f"{out}: expected parts{what} (folders parts/K-of-N), which --part K/N writes; found none")
    if len(numbers) > 1:
        text = " and ".join(str(number) for number in numbers)
        raise UsageError(f"{out}: holds parts of {text}, which overlap; say which with --of N, or delete the others")
    problems: list[str] = []
    finished = [part for part in (_finished(part, part.folder(out), problems) for part in parts) if part is not None]
    absent = sorted(set(range(1, numbers[0] + 1)) - {part.number for part in parts})
    if absent:
        problems.insert(0, f"missing: {_listed(absent)} of {numbers[0]}; run each with --part K/{numbers[0]}")
    problems += _of_other_runs(finished)
    if problems:
        raise ProblemsError(str(out), problems)
    return finished


def _finished(part: Part, folder: Path, problems: list[str]) -> FinishedPart | None:
    record = part_record(folder)
    if record is None:
        problems.append(f"part {part} is not finished; run it again with --part {part}")
        return None
    changed = [name for name, digest in record["tables"].items() if table_hashes(folder).get(name) != digest]
    runs = [name for name in RUN_RECORDS if (folder / name).exists()]
    if changed or len(runs) != 1 or (record["part"], record["of"]) != (part.number, part.of):
        what = f"{changed[0]} was changed or lost" if changed else "its record was changed or lost"
        problems.append(f"part {part}: {what} after it was finished; run it again with --part {part}")
        return None
    run = json.loads(regular.read_text(folder / runs[0]))
    positions = {row["case"]: int(row["position"]) for row in read_table(folder / CASES)}
    return FinishedPart(part, folder, {runs[0]: run, "settings": record["settings"]}, record["cohort"], positions)


def _of_other_runs(parts: Sequence[FinishedPart]) -> list[str]:
    """One line for each part that is of another cohort, or of other plugins or settings, than most are."""
    problems = []
    for what, value in (("cases", lambda part: part.cohort), ("plugins or settings", lambda part: part.facts)):
        texts = [json.dumps(value(part), sort_keys=True) for part in parts]
        if len(set(texts)) < 2:
            continue
        usual = parts[texts.index(Counter(texts).most_common(1)[0][0])]
        for part, text in zip(parts, texts, strict=True):
            if text != json.dumps(value(usual), sort_keys=True):
                lines = list(differing(value(part), value(usual)))[:3]
                problems.append(
                    f"part {part.part} is of other {what} than part {usual.part}: "
                    f"{'; '.join(line.replace(', now', f', of part {usual.part}') for line in lines)}; run it again"
                )
    owner: dict[str, Part] = {}
    for part in parts:
        twice = [case for case in part.positions if owner.setdefault(case, part.part) != part.part]
        if twice:
            problems.append(f"parts {owner[twice[0]]} and {part.part} overlap: both have case {twice[0]!r}")
    return problems


def _listed(numbers: Sequence[int]) -> str:
    more = f" and {len(numbers) - _MOST_NAMED} more" if len(numbers) > _MOST_NAMED else ""
    return f"part{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers[:_MOST_NAMED]))}{more}"
