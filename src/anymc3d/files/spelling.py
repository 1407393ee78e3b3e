"""When two texts are one to a person: letter case, signs that are not seen, other codes of one letter, and separators.

Ids and headers pass through spreadsheets, file systems and joins that exchange ``-`` and ``_``, drop leading zeros, add
``.0``, or write an umlaut as one sign or as two. Here is what counts as the same, in one place.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

_SPREADSHEET_FLOAT = re.compile(r"(.*\d)[.,]0+")
_EXPONENT = re.compile(r"\d(\.\d+)?e\+?\d{1,2}")
_NO_LETTER = re.compile(r"[^a-z0-9]+")
_PARTS = re.compile(r"\d+|[^\W\d_]+")
_PERSON_PREFIXES = frozenset(
    (
        "sub",
        "subj",
        "subject",
        "sbj",
        "patient",
        "patients",
        "pat",
        "pt",
        "p",
        "participant",
        "person",
        "proband",
        "id",
        "s",
        "pid",
        "ptid",
        "mrn",
        "vp",
        "pac",
        "nr",
        "no",
    )
)
"""What programs write before a patient's number: BIDS ``sub-``, a join ``P``."""


def as_seen(text: str) -> str:
    """The text as a person sees it: one code per letter (NFKC), no invisible signs, no letter case."""
    composed = unicodedata.normalize("NFKC", text)
    return "".join(sign for sign in composed if unicodedata.category(sign) != "Cf").casefold()


def bare(text: str) -> str:
    """Letters and digits alone, as seen: ``Patient-ID``, ``patient.id`` and ``PATIENT ID`` are one."""
    if text.isascii():
        return _NO_LETTER.sub("", text.lower())
    return "".join(sign for sign in as_seen(text) if sign.isalnum())


def id_key(text: str) -> tuple[str, ...]:
    """The same for ids that differ only in what programs add or exchange.

    That is letter case, ``.0``, leading zeros, ``-`` for ``_`` or a blank, and ``sub-`` or ``P`` before a number.
    ``101`` and ``102``, ``A-1`` and ``A-11``, ``1-11`` and ``11-1`` stay apart.
    """
    seen = as_seen(text).strip()
    if match := _SPREADSHEET_FLOAT.fullmatch(seen):
        seen = match[1]
    elif _EXPONENT.fullmatch(seen) and float(seen).is_integer():
        seen = str(int(float(seen)))
    parts = [part.lstrip("0") or "0" if part.isdecimal() else part for part in _PARTS.findall(seen)]
    while len(parts) > 1 and parts[0] in _PERSON_PREFIXES and any(part.isdecimal() for part in parts[1:]):
        parts.pop(0)
    return tuple(parts) or (seen,)


def spellings(texts: Iterable[str]) -> list[list[str]]:
    """Groups of different texts with one :func:`id_key`, in order of appearance."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for text in dict.fromkeys(texts):
        groups.setdefault(id_key(text), []).append(text)
    return [group for group in groups.values() if len(group) > 1]


def one_spelling(texts: Sequence[str]) -> list[str]:
    """The texts, each by the first spelling (in order of text) of its :func:`id_key`."""
    names = {text: group[0] for group in map(sorted, spellings(sorted(set(texts)))) for text in group}
    return [names.get(text, text) for text in texts]


def matches(wanted: Iterable[str], known: Iterable[str]) -> dict[str, str]:
    """Which of ``wanted`` is which of ``known`` under another spelling, where both sides have exactly one such text.

    What stands on both sides as it is is left out: it needs no guess.
    """
    wanted, known = set(wanted), set(known)
    by_key: dict[tuple[str, ...], tuple[list[str], list[str]]] = {}
    for side, texts in enumerate((sorted(wanted), sorted(known))):
        for text in texts:
            by_key.setdefault(id_key(text), ([], []))[side].append(text)
    pairs = ((mine[0], theirs[0]) for mine, theirs in by_key.values() if len(mine) == len(theirs) == 1)
    return {mine: theirs for mine, theirs in pairs if mine != theirs}
