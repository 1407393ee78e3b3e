"""Rules of a service: which series of a study goes to which plugin, and what happens where none or several fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from anymc3d.data.dicom.rules import parse_rule
from anymc3d.errors import ScanError, ServiceError, did_you_mean
from anymc3d.report.finding_codes import Codes
from anymc3d.settings.limits import Label, Length
from anymc3d.settings.small_files import read_settings

_Text = Annotated[str, Length(500)]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One plugin and the series it is for. Either ``series`` or ``views``; conditions are those of ``--series``."""

    plugin: Label
    study: _Text | None = None
    """A condition that some series of the study must fit, so that the rule is for this study at all."""
    series: _Text | None = None
    views: Annotated[Mapping[str, _Text], Length(16)] = field(default_factory=dict)
    """View of the plugin -> condition, for plugins that take several scans of one study."""
    none: Literal["skip", "error"] = "skip"
    """Where no series fits: the plugin is left out, or its answer is an error."""
    several: Literal["error", "thinnest", "thickest", "largest"] = "error"
    """Where several fit: an error, or the one with the thinnest or thickest slices, or the most."""

    def __post_init__(self) -> None:
        if (self.series is None) == (not self.views):
            raise ServiceError(f"rule of {self.plugin!r}: expected either series or views")
        for text in (self.study, *self.conditions.values()):
            try:
                parse_rule(text, Path("rule"))
            except ScanError as error:
                raise ServiceError(f"rule of {self.plugin!r}: {error.what}") from None

    @property
    def conditions(self) -> Mapping[str, str]:
        """Image column -> condition."""
        if self.series is not None:
            return {"image": self.series}
        return {f"image.{view}": text for view, text in self.views.items()}


@dataclass(frozen=True, kw_only=True)
class Rules:
    """A file of rules: ``format: 1``, then ``rules`` in the order in which they are tried."""

    format: Literal[1]
    rules: Annotated[tuple[Rule, ...], Length(500)]
    findings: Codes = field(default_factory=dict)
    """Label -> code of its finding, as in a file of ``--sr-codes``."""


def read_rules(path: Path) -> Rules:
    """Read a file of rules.

    Raises:
        UsageError: with every fault of the file.
    """
    rules: Rules = read_settings(Rules, path, "--rules")
    if not rules.rules:
        raise ServiceError(f"--rules {path}: expected at least one rule, got none")
    return rules


def check_names(rules: Rules, plugins: Sequence[str]) -> None:
    """Raise where a rule names a plugin that is not resident.

    Raises:
        UsageError: with the nearest name.
    """
    for rule in rules.rules:
        if rule.plugin not in plugins:
            raise ServiceError(f"--rules: no plugin is called {rule.plugin!r}{did_you_mean(rule.plugin, plugins)}")
