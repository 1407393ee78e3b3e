"""The rule that chooses a series and a part of it: a UID or its hash, conditions on tags, words such as ``thinnest
axial``, and options such as ``stack=1`` or ``gaps=allow``. The language is described in docs/dicom.md."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from anymc3d.data.dicom.tags import RULE_TAGS, short_hash
from anymc3d.errors import SeriesError, did_you_mean

PLANES = ("axial", "coronal", "sagittal")
BEST = ("thinnest", "thickest", "largest")
"""Of the series that all else takes: the one with the smallest or largest distance between slices, or most slices."""
OPTIONS: dict[str, tuple[str, ...]] = {
    "gaps": ("allow",),
    "tilt": ("allow",),
    "uids": ("ignore",),
    "units": ("raw", "suv"),
    "stack": (),
    "volume": (),
}
"""Option -> its values; none: a whole number from 1 on."""
_SERIES = re.compile(r"(?:(?P<uid>[0-9]+(?:\.[0-9]+)+)|(?P<hash>[0-9a-fA-F]{8}))\s*(?:;|$)")
_CONDITION = re.compile(r"\s*(\w+)\s*(!~=|~=|!=|=)\s*(/(?:[^/\\]|\\.)*/i?|[^;]*?)\s*(?:;|$)")
_WORDS = re.compile(r"\s*([A-Za-z]+(?:\s+[A-Za-z]+)*)\s*(?:;|$)")
_REGEX = re.compile(r"/(.*)/(i?)", re.DOTALL)
_NUMBER = re.compile(r"[0-9.]{1,12}")
_NUMBERED = (
    *("AcquisitionNumber", "DiffusionBValue", "EchoNumbers", "EchoTime", "FlipAngle", "InversionTime", "KVP"),
    *("RepetitionTime", "SeriesNumber", "SliceThickness", "TemporalPositionIdentifier", "TemporalPositionIndex"),
    *("TriggerTime", "StackID"),
)
"""Tags whose numbers identify no one: a message may repeat a condition on them, and on the codes of
:data:`CODES`, and no other."""
CODES = (
    *("M", "P", "R", "I", "MAGNITUDE", "PHASE", "REAL", "IMAGINARY", "WATER", "FAT", "W", "F", "IP", "OP", "OPP"),
    *("IN_PHASE", "OUT_PHASE", "ADC", "FA", "TRACEW", "DIFFUSION", "T1", "T2", "SUB", "MIP", "SECONDARY", "LOCALIZER"),
)
"""Parts of ImageType that say what kind of image it is."""
_MODALITIES = ("CT", "MR", "PT")
_FIRST = re.compile(r"[1-9][0-9]{0,4}")

EXPECTED = (
    "a series' UID, the hash of it, conditions such as 'SeriesNumber=3' or 'SeriesDescription~=/portal/i', or words "
    "such as 'thinnest axial'"
)


@dataclass(frozen=True)
class Condition:
    """One tag's test; ``holds`` takes the tag's text. ``shown``: as a message may repeat it, empty where it may not."""

    keyword: str
    holds: Callable[[str], bool]
    shown: str = ""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Which series, and which of its slices; a slice is taken when every condition holds for it."""

    series_hash: str | None = None
    conditions: tuple[Condition, ...] = ()
    plane: str | None = None
    best: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def allow_gaps(self) -> bool:
        """Uneven slices are resampled to an even stack, with a warning."""
        return "gaps" in self.options

    @property
    def allow_tilt(self) -> bool:
        """Slices of a tilted gantry are sheared to a straight stack, with a warning."""
        return "tilt" in self.options

    @property
    def ignore_uids(self) -> bool:
        """UIDs of series, study and frame of reference do not count: an anonymiser gave each slice its own."""
        return "uids" in self.options

    @property
    def units(self) -> str | None:
        """Of a PET: ``raw``, as stored; ``suv``, or the case fails; None: SUV where it can be computed."""
        return self.options.get("units")

    @property
    def stack(self) -> int | None:
        """Which of the stacks of a series, from 1."""
        return int(self.options["stack"]) if "stack" in self.options else None

    @property
    def volume(self) -> int | None:
        """Which of the volumes at the same places, from 1."""
        return int(self.options["volume"]) if "volume" in self.options else None

    def takes_series(self, uid: str) -> bool:
        """Whether the series of this UID may be chosen."""
        return self.series_hash is None or short_hash(uid) == self.series_hash

    def takes(self, tags: Mapping[str, str]) -> bool:
        """Whether a slice with these tags is chosen."""
        return all(condition.holds(tags.get(condition.keyword, "")) for condition in self.conditions)

    def spelled(self, addition: str) -> str | None:
        """This rule and ``addition`` as a ``series`` cell; None where a message must not repeat the rule."""
        if not all(condition.shown for condition in self.conditions):
            return None
        words = " ".join(word for word in (self.best, self.plane) if word)
        options = [f"{name}={value}" for name, value in self.options.items()]
        parts = [self.series_hash or "", *(c.shown for c in self.conditions), words, *options, addition]
        return "; ".join(part for part in parts if part)

    def advice(self, addition: str) -> str:
        """How to ask for ``addition`` beside this rule."""
        rule_text = self.spelled(addition)
        return f"'; {addition}' after the rule in --series" if rule_text is None else f"--series '{rule_text}'"

    def allowing(self, *options: str) -> str:
        """How to allow what has options of their own on the command line: ``gaps``, ``tilt``."""
        addition = "; ".join(f"{option}=allow" for option in options)
        rule_text = self.spelled(addition)
        cell = f"'; {addition}' after the rule in the series column" if rule_text is None else f"series '{rule_text}'"
        return f"{' '.join(f'--allow-{option}' for option in options)} (in a manifest: {cell})"


def parse_rule(text: str | None, reference: Path) -> Rule:
    """Parse the ``series`` cell: a UID or its hash of eight digits first, then conditions, words and options, separated
    by ``;``; all must hold.

    Operators: ``=`` and ``!=`` (the whole text, one of its parts, or the same number), ``~=`` and ``!~=`` (a regular
    expression between slashes, ``i`` after them ignores case). Words: a plane, and one of :data:`BEST`. Options are
    those of :data:`OPTIONS`.

    Raises:
        ScanError: it is none of these, or asks for a tag that is not among those that can be asked for.
    """
    text = (text or "").strip()
    named = _SERIES.match(text)
    series_hash = None
    if named:
        series_hash = short_hash(named["uid"]) if named["uid"] else named["hash"].lower()
    conditions: list[Condition] = []
    options: dict[str, str] = {}
    words: list[str] = []
    place = named.end() if named else 0
    while text[place:].strip():
        match = _CONDITION.match(text, place)
        spoken = None if match else _WORDS.match(text, place)
        if match and (match[1] in OPTIONS or match[1].islower()):
            _keep_option(options, match[1], match[2], match[3], reference)
        elif match:
            conditions.append(_condition(match[1], match[2], match[3], reference))
        elif spoken:
            words += spoken[1].lower().split()
        else:
            raise SeriesError.of(reference, f"series: expected {EXPECTED}")
        place = (match or spoken).end()  # type: ignore[union-attr]
    plane, best = _meant(words, reference)
    return Rule(series_hash=series_hash, conditions=tuple(conditions), plane=plane, best=best, options=options)


def with_options(text: str | None, *options: str) -> str | None:
    """The same rule with options such as ``gaps=allow`` behind it."""
    rule = (text or "").strip().rstrip(";").strip()
    return "; ".join(part for part in (rule, *options) if part) or None


def _meant(words: list[str], reference: Path) -> tuple[str | None, str | None]:
    unknown = [word for word in words if word not in (*PLANES, *BEST)]
    if unknown:
        hint = did_you_mean(unknown[0], [*PLANES, *BEST])
        raise SeriesError.of(reference, f"series: expected {EXPECTED}; no word of a rule is {unknown[0]!r}{hint}")
    planes, best = ([word for word in words if word in known] for known in (PLANES, BEST))
    if len(planes) > 1 or len(best) > 1:
        raise SeriesError.of(
            reference, f"series: expected one plane and one of {', '.join(BEST)}, got {' '.join(words)}"
        )
    return (planes or [None])[0], (best or [None])[0]


def _keep_option(options: dict[str, str], name: str, operator: str, value: str, reference: Path) -> None:
    if name not in OPTIONS:
        raise SeriesError.of(
            reference, f"series: {name!r} cannot be asked for{did_you_mean(name, [*RULE_TAGS, *OPTIONS])}"
        )
    allowed = OPTIONS[name]
    fits = value in allowed if allowed else _FIRST.fullmatch(value) is not None
    if operator != "=" or not fits:
        expected = " or ".join(f"'{name}={option}'" for option in allowed) or f"'{name}=1', '{name}=2' …"
        raise SeriesError.of(reference, f"series: expected {expected}, or nothing about {name}")
    if options.setdefault(name, value) != value:
        raise SeriesError.of(reference, f"series: {name} is there twice, with two values")


def _condition(keyword: str, operator: str, value: str, reference: Path) -> Condition:
    if keyword not in RULE_TAGS:
        hint = did_you_mean(keyword, [*RULE_TAGS, *OPTIONS])
        raise SeriesError.of(reference, f"series: {keyword!r} cannot be asked for{hint}")
    test = _search(keyword, value, reference) if "~" in operator else _equal(value)
    is_plain = is_shown(keyword, value) and "~" not in operator
    text = f"{keyword}{operator}{value}" if is_plain else ""
    return Condition(keyword, (lambda text: not test(text)) if operator.startswith("!") else test, text)


def is_shown(keyword: str, value: str) -> bool:
    """Whether a message may name this value of a tag: it identifies nobody."""
    is_code = (keyword == "ImageType" and value in CODES) or (keyword == "Modality" and value in _MODALITIES)
    return is_code or (keyword in _NUMBERED and _NUMBER.fullmatch(value) is not None)


def _search(keyword: str, value: str, reference: Path) -> Callable[[str], bool]:
    match = _REGEX.fullmatch(value)
    if match is None:
        raise SeriesError.of(reference, f"series: expected a regular expression between slashes after {keyword}~=")
    try:
        pattern = re.compile(match[1], re.IGNORECASE if match[2] else 0)
    except re.error as error:
        raise SeriesError.of(reference, f"series: the regular expression of {keyword} is wrong ({error})") from error
    return lambda text: pattern.search(text) is not None


def _equal(value: str) -> Callable[[str], bool]:
    def test(text: str) -> bool:
        return value == text or value in text.split("\\") or _same_number(value, text)

    return test


def _same_number(text: str, other: str) -> bool:
    try:
        return float(text) == float(other)
    except ValueError:
        return False
