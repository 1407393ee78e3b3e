"""The rule that chooses a series: a UID, the hash of one, or conditions on tags such as ``SeriesNumber=3``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from anymc3d.data.dicom.tags import RULE_TAGS, short_hash
from anymc3d.data.scan_file import scan_error
from anymc3d.errors import did_you_mean

_SERIES = re.compile(r"(?:(?P<uid>[0-9]+(?:\.[0-9]+)+)|(?P<hash>[0-9a-fA-F]{8}))\s*(?:;|$)")
_GAPS = "gaps"
_CONDITION = re.compile(r"\s*(\w+)\s*(!~=|~=|!=|=)\s*(/(?:[^/\\]|\\.)*/i?|[^;]*?)\s*(?:;|$)")
_REGEX = re.compile(r"/(.*)/(i?)", re.DOTALL)

EXPECTED = "a series' UID, the hash of it, or conditions such as 'SeriesNumber=3' or 'SeriesDescription~=/portal/i'"


@dataclass(frozen=True)
class Condition:
    """One tag's test; ``holds`` takes the tag's text."""

    keyword: str
    holds: Callable[[str], bool]


@dataclass(frozen=True)
class Rule:
    """Which series, and which of its slices; a slice is taken when every condition holds for it."""

    series_hash: str | None
    conditions: tuple[Condition, ...]
    allow_gaps: bool = False
    """Uneven or missing slices are a warning, and the rest is stacked as if even."""

    def takes_series(self, uid: str) -> bool:
        """Whether the series of this UID may be chosen."""
        return self.series_hash is None or short_hash(uid) == self.series_hash

    def takes(self, tags: Mapping[str, str]) -> bool:
        """Whether a slice with these tags is chosen."""
        return all(condition.holds(tags.get(condition.keyword, "")) for condition in self.conditions)


def parse_rule(text: str | None, reference: Path) -> Rule:
    """Parse the ``series`` cell: a UID, its hash of eight digits, or conditions, separated by ``;``; all must hold.

    Operators: ``=`` and ``!=`` (the whole text, one of its parts, or the same number), ``~=`` and ``!~=`` (a regular
    expression between slashes, ``i`` after them ignores case). ``gaps=allow`` is no condition: with it uneven or
    missing slices are a warning.

    Raises:
        ScanError: it is none of these, or asks for a tag that is not among those that can be asked for.
    """
    text = (text or "").strip()
    named = _SERIES.match(text)
    series_hash = None
    if named:
        series_hash = short_hash(named["uid"]) if named["uid"] else named["hash"].lower()
    conditions, allow_gaps, place = [], False, named.end() if named else 0
    while text[place:].strip():
        match = _CONDITION.match(text, place)
        if match is None:
            raise scan_error(reference, f"series: expected {EXPECTED}")
        if match[1] == _GAPS:
            if match.group(2, 3) != ("=", "allow"):
                raise scan_error(reference, "series: expected 'gaps=allow', or nothing about gaps, which refuses them")
            allow_gaps = True
        else:
            conditions.append(_condition(match[1], match[2], match[3], reference))
        place = match.end()
    return Rule(series_hash, tuple(conditions), allow_gaps)


def with_gaps(text: str | None) -> str:
    """The same rule, and gaps are allowed."""
    return "; ".join(part for part in ((text or "").strip().rstrip(";").strip(), f"{_GAPS}=allow") if part)


def _condition(keyword: str, operator: str, value: str, reference: Path) -> Condition:
    if keyword not in RULE_TAGS:
        hint = did_you_mean(keyword, [*RULE_TAGS, _GAPS])
        raise scan_error(reference, f"series: {keyword!r} cannot be asked for{hint}")
    test = _search(keyword, value, reference) if "~" in operator else _equal(value)
    return Condition(keyword, (lambda text: not test(text)) if operator.startswith("!") else test)


def _search(keyword: str, value: str, reference: Path) -> Callable[[str], bool]:
    match = _REGEX.fullmatch(value)
    if match is None:
        raise scan_error(reference, f"series: expected a regular expression between slashes after {keyword}~=")
    try:
        pattern = re.compile(match[1], re.IGNORECASE if match[2] else 0)
    except re.error as error:
        raise scan_error(reference, f"series: the regular expression of {keyword} is wrong ({error})") from error
    return lambda text: pattern.search(text) is not None


def _equal(value: str) -> Callable[[str], bool]:
    def test(text: str) -> bool:
        return value == text or value in text.split("\\") or _same_number(value, text)

    return test


def _same_number(one: str, other: str) -> bool:
    try:
        return float(one) == float(other)
    except ValueError:
        return False
