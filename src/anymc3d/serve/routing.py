"""Which plugin is given which series of a study: rules applied to what was received, each decision with its reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from anymc3d.data.case import Case
from anymc3d.data.dicom.inventory import Inventory, opened_inventory
from anymc3d.data.dicom.rules import parse_rule, with_options
from anymc3d.data.dicom.series import fitting_series
from anymc3d.data.dicom.tags import foreign_errors
from anymc3d.errors import ScanError
from anymc3d.predict.study import study_case
from anymc3d.serve.rules import Rule, Rules

ANSWERED, SKIPPED, REFUSED = "answered", "skipped", "refused"
_HASH_LETTERS = 8


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What became of one rule; ``rule`` counts from 1 in the order of the file."""

    rule: int
    plugin: str
    decision: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Routes:
    """What is asked of which plugins, and why."""

    asked: list[tuple[Case, list[str]]] = field(default_factory=list)
    """Cases and the plugins that each is for; plugins that are given the same series are together."""
    refused: dict[str, str] = field(default_factory=dict)
    """Plugin -> why it has no answer, though it should have one."""
    decisions: list[Decision] = field(default_factory=list)

    def record(self) -> list[dict[str, Any]]:
        """The decisions as JSON."""
        return [asdict(decision) for decision in self.decisions]


def route(scan: Path, case: str, rules: Rules) -> Routes:
    """Apply rules to a study. Of several rules for one plugin the first that fits counts.

    Raises:
        ScanError: the study cannot be listed, or a file of it is damaged.
    """
    routes, settled = Routes(), {}
    with foreign_errors(scan, "the series cannot be listed"), opened_inventory(scan) as inventory:
        total = len(fitting_series(inventory, parse_rule(None, scan)))
        for number, rule in enumerate(rules.rules, start=1):
            if rule.plugin in settled:
                reason = f"rule {settled[rule.plugin]} is before it"
                routes.decisions.append(Decision(rule=number, plugin=rule.plugin, decision=SKIPPED, reason=reason))
                continue
            decision, reason, cells = _decided(inventory, rule, total)
            if decision != SKIPPED:
                settled[rule.plugin] = number
            if decision == ANSWERED:
                _ask(routes, _case(scan, case, cells), rule.plugin)
            if decision == REFUSED:
                routes.refused[rule.plugin] = f"rule {number}: {reason}"
            routes.decisions.append(Decision(rule=number, plugin=rule.plugin, decision=decision, reason=reason))
    return routes


def _decided(inventory: Inventory, rule: Rule, total: int) -> tuple[str, str, dict[str, str]]:
    """Decision, reason, and image column -> the condition that takes its one series."""
    if rule.study is not None and not fitting_series(inventory, parse_rule(rule.study, inventory.reference)):
        return SKIPPED, f"it is for other studies: none of {total} series fits its study condition", {}
    cells: dict[str, str] = {}
    reasons = []
    for column, condition in rule.conditions.items():
        where = "" if column == "image" else f"{column.partition('.')[2]}: "
        series = fitting_series(inventory, parse_rule(condition, inventory.reference))
        if len(series) > 1 and rule.several != "error":
            reasons.append(f"{where}{len(series)} of {total} series fit, of which the {rule.several} is taken")
            condition = with_options(condition, rule.several) or ""
            series = _narrowed(inventory, condition)
        if not series:
            return (SKIPPED if rule.none == "skip" else REFUSED), f"{where}none of {total} series fits", {}
        if len(series) > 1:
            return REFUSED, f"{where}{len(series)} of {total} series fit ({', '.join(series)}), and one is expected", {}
        cells[column] = condition
        reasons.append(f"{where}series {series[0][:_HASH_LETTERS]} of {total} fits")
    return ANSWERED, "; ".join(reasons), cells


def _narrowed(inventory: Inventory, condition: str) -> tuple[str, ...]:
    """What fits a condition with one more word; a condition that has such a word already fits several still."""
    try:
        return fitting_series(inventory, parse_rule(condition, inventory.reference))
    except ScanError:
        return ("", "")


def _case(scan: Path, case: str, cells: Mapping[str, str]) -> Case:
    if list(cells) == ["image"]:
        return study_case(scan, None, case=case, series=cells["image"])
    study = study_case(None, {column.partition(".")[2]: scan for column in cells}, case=case)
    return replace(study, cells={"series" + column.removeprefix("image"): text for column, text in cells.items()})


def _ask(routes: Routes, case: Case, plugin: str) -> None:
    for known, plugins in routes.asked:
        if known == case:
            plugins.append(plugin)
            return
    routes.asked.append((case, [plugin]))


def names_of(rules: Rules) -> Sequence[str]:
    """The plugins that rules name, each once."""
    return tuple(dict.fromkeys(rule.plugin for rule in rules.rules))
