"""What a folder of ``anymc3d explain`` says of one case, read as a stranger's file: typed, bounded, inside itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from anymc3d.errors import UsageError
from anymc3d.explain.folder import CASE_RECORD
from anymc3d.files import regular
from anymc3d.settings.limits import Entry, Fact, Form, Label, Length, Share
from anymc3d.settings.plain import from_plain

MAX_RECORD_BYTES = 64 * 2**20
Note = Annotated[str, Length(20_000)]
FileName = Annotated[str, Form(r"[^/\\\x00]{1,240}", "the name of a file beside it")]


@dataclass(frozen=True, kw_only=True)
class MapRecord:
    """One heatmap."""

    label: Label
    view: Label
    method: Entry
    files: Annotated[tuple[FileName, ...], Length(10)]
    lowest: float
    highest: float


@dataclass(frozen=True, kw_only=True)
class CaseRecord:
    """One case; of a failed one the first four alone."""

    case: Label
    status: Literal["ok", "warn", "error"]
    message: Note
    heatmaps: tuple[MapRecord, ...]
    plugin: Label = ""
    probabilities: Mapping[Label, Share] = field(default_factory=dict)
    decisions: Mapping[Label, int] = field(default_factory=dict)
    values: Mapping[Label, float] = field(default_factory=dict)
    calibrated: bool = False
    slice_weights: Mapping[Label, tuple[Share, ...]] = field(default_factory=dict)
    view_weights: Mapping[Label, Share] = field(default_factory=dict)
    inputs: Fact | None = None


def read_case_record(folder: Path) -> dict[str, Any]:
    """The record of an explained case, as it stands in the file; keys that are not known are left to the reader.

    Raises:
        UsageError: it is not there, damaged, or holds what no run of this program writes.
    """
    path = folder / CASE_RECORD
    try:
        if path.stat().st_size > MAX_RECORD_BYTES:
            raise ValueError(f"more than {MAX_RECORD_BYTES} bytes")
        record = json.loads(regular.read_text(path), parse_constant=_refuse)
        needed = {"case", "status", "message", "heatmaps"}
        if record.get("status") != "error":
            needed |= {"plugin", "probabilities", "decisions", "calibrated", "slice_weights", "view_weights", "inputs"}
        missing = sorted(needed - set(record))
    except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
        raise UsageError(f"{path}: expected the record of an explained case, but it is damaged ({error})") from None
    if missing:
        raise UsageError(f"{path}: expected the record of an explained case, but it has no {', '.join(missing)}")
    problems: list[str] = []
    from_plain(CaseRecord, _known(CaseRecord, record), problems)
    if problems:
        raise UsageError(f"{path}: expected the record of an explained case: {'; '.join(problems[:4])}")
    return record


def _known(kind: type, record: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that are checked; maps are of one class and one level deeper."""
    names = {field.name for field in fields(kind)}
    known_keys = {key: value for key, value in record.items() if key in names}
    if isinstance(known_keys.get("heatmaps"), list):
        known_keys["heatmaps"] = [
            _known(MapRecord, entry) if isinstance(entry, dict) else entry for entry in known_keys["heatmaps"]
        ]
    return known_keys


def _refuse(text: str) -> float:
    raise ValueError(f"{text} is not a JSON number")
