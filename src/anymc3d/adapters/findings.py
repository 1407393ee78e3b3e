"""What an adapter found: every fault of a data set in one report, none of them in silence."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from anymc3d.types import Status


@dataclass(frozen=True)
class Finding:
    """One kind of fault or fact. ``items``: the scans, rows or files it is about; empty for a fact of the whole set."""

    level: Status
    text: str
    items: tuple[str, ...] = ()

    def lines(self, most: int | None = None) -> list[str]:
        """The headline, then one line per item; of more than ``most`` the rest is only counted."""
        count = f" ({len(self.items)})" if len(self.items) > 1 else ""
        listed = self.items if most is None else self.items[:most]
        more = len(self.items) - len(listed)
        rest = [f"         and {more} more (all of them with --json)"] if more else []
        return [f"{self.level:<5}  {self.text}{count}", *(f"         {item}" for item in listed), *rest]


@dataclass
class Findings:
    """Collects the findings of one data set in the order in which they are met; equal texts become one finding."""

    _items: dict[tuple[Status, str], list[str]] = field(default_factory=dict)

    def ok(self, text: str) -> None:
        """A fact: what was found, and what was decided."""
        self._add("ok", text, ())

    def warn(self, text: str, items: str | Iterable[str] = ()) -> None:
        """Something a person should know; the manifest is still right."""
        self._add("warn", text, items)

    def error(self, text: str, items: str | Iterable[str] = ()) -> None:
        """A fault for which no right row can be written."""
        self._add("error", text, items)

    def warn_if(self, items: Iterable[str], text: str) -> None:
        """A warning about ``items``, if there are any."""
        listed = list(items)
        if listed:
            self.warn(text, listed)

    def error_if(self, items: Iterable[str], text: str) -> None:
        """An error about ``items``, if there are any."""
        listed = list(items)
        if listed:
            self.error(text, listed)

    @property
    def has_errors(self) -> bool:
        """Whether no manifest may be written."""
        return any(level == "error" for level, _ in self._items)

    def listed(self) -> tuple[Finding, ...]:
        """All findings: facts, then warnings, then errors."""
        order = ("ok", "warn", "error")
        findings = [Finding(level, text, tuple(items)) for (level, text), items in self._items.items()]
        return tuple(sorted(findings, key=lambda finding: order.index(finding.level)))

    def problems(self) -> list[str]:
        """The errors, one line per item."""
        return [
            f"{finding.text}: {item}" if item else finding.text
            for finding in self.listed()
            if finding.level == "error"
            for item in (finding.items or ("",))
        ]

    def _add(self, level: Status, text: str, items: str | Iterable[str]) -> None:
        self._items.setdefault((level, text), []).extend([items] if isinstance(items, str) else items)
