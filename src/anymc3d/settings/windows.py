"""Windows by name: ``lung`` in a task file or on the command line stands for (-1000, 400) Hounsfield units of CT,
``suv-10`` for 0 to 10 standardised uptake values (SUV) of PET.

Names are a convenience of reading only: settings, plugins and the record of a run hold the numbers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from anymc3d.errors import SettingError, UsageError, did_you_mean

Pair = tuple[float, float]


@dataclass(frozen=True)
class NamedWindow:
    """Hounsfield units (or SUV) from ``low``, shown black, to ``high``, shown white."""

    low: float
    high: float
    source: str
    modality: str = "CT"
    """Whose units these are: ``CT`` or ``PT``."""

    @property
    def pair(self) -> Pair:
        """As settings hold it."""
        return self.low, self.high


WINDOWS: dict[str, NamedWindow] = {
    "abdomen": NamedWindow(-150.0, 250.0, "the paper's Table 3, tasks T1 to T5 and T11"),
    "lung": NamedWindow(-1000.0, 400.0, "the paper's Table 3, tasks T6, T7 and T11"),
    "ct-rate-wide": NamedWindow(-1000.0, 1000.0, "the paper's Table 3, first channel of T11"),
    "bleeding": NamedWindow(-20.0, 180.0, "first channel of T12; the paper names it, these are usual subdural values"),
    "tissue": NamedWindow(0.0, 80.0, "second channel of T12; the paper names it, these are usual brain values"),
    "bone": NamedWindow(-800.0, 2000.0, "third channel of T12; the paper names it, width 2800, level 600 are usual"),
    "soft-tissue": NamedWindow(-150.0, 250.0, "usual: width 400, level 50"),
    "mediastinum": NamedWindow(-125.0, 225.0, "usual: width 350, level 50"),
    "liver": NamedWindow(-45.0, 105.0, "usual: width 150, level 30"),
    "brain": NamedWindow(0.0, 80.0, "usual: width 80, level 40"),
    "subdural": NamedWindow(-20.0, 180.0, "usual: width 200, level 80"),
    "stroke": NamedWindow(20.0, 60.0, "usual: width 40, level 40"),
    "suv-5": NamedWindow(0.0, 5.0, "usual for reading FDG in the body", "PT"),
    "suv-10": NamedWindow(0.0, 10.0, "usual for lesions, most of which lie below 10", "PT"),
    "suv-20": NamedWindow(0.0, 20.0, "usual where uptake is high: FDG in the brain, PSMA", "PT"),
}
"""In Hounsfield units, those of PET in SUV. Where two have the same numbers, the first names them in comments."""
_UNITS = {"CT": "Hounsfield units of CT", "PT": "SUV of PET"}

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)"
_RANGE = re.compile(rf"({_NUMBER}):({_NUMBER})")
_STAND_IN = [0.0, 1.0]
"""For a name whose fault has been reported, so that no second fault comes of it."""


def window(name: str) -> Pair:
    """The (low, high) of a named window.

    Raises:
        UsageError: no window has that name; the nearest one is suggested.
    """
    if name not in WINDOWS:
        raise SettingError(f"no window is called {name!r}{did_you_mean(name, WINDOWS)}")
    return WINDOWS[name].pair


def parse_windows(text: str) -> tuple[Pair, ...]:
    """Read ``NAME|LOW:HIGH[,...]``, such as ``lung`` or ``-1000:1000,abdomen,lung``.

    Raises:
        UsageError: a part is neither a known name nor LOW:HIGH, or there are not one or three.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    pairs = []
    for part in parts:
        match = _RANGE.fullmatch(part)
        if match is None and ":" in part:
            raise SettingError(
                f"windows: expected NAME or LOW:HIGH in HU (CT) or SUV (PET), such as -150:250, got {part!r}"
            )
        pairs.append((float(match[1]), float(match[2])) if match else window(part))
        low, high = pairs[-1]
        if not low < high:
            raise SettingError(f"windows: low must be below high, got {part!r}")
    if len(pairs) not in (1, 3):
        raise SettingError(f"windows: expected one window, or three for the three channels, got {len(pairs)}")
    return tuple(pairs)


def window_names(pairs: Sequence[Pair], modality: str = "CT") -> str:
    """The pairs in words: ``lung``, or ``ct-rate-wide, abdomen, [-1000, 300]``; empty where none has a name."""
    known = {name: entry for name, entry in WINDOWS.items() if entry.modality == modality}
    named = [next((name for name, entry in known.items() if entry.pair == tuple(pair)), None) for pair in pairs]
    if not any(named):
        return ""
    ranges = [f"[{low:g}, {high:g}]" for low, high in pairs]
    return ", ".join(name or numbers for name, numbers in zip(named, ranges, strict=True))


def with_numbers(plain: dict[str, Any], problems: list[str]) -> dict[str, Any]:
    """A task file's plain data with every window name replaced by its numbers; ``plain`` itself stays.

    Unknown names, and names whose units are not those of the task's scans, are added to ``problems``.
    """
    views, data = plain.get("views"), plain.get("data")
    if not isinstance(views, Mapping):
        return plain
    modality = data.get("modality") if isinstance(data, Mapping) else None
    numbered = {
        name: view | {"windows": _numbers(view["windows"], f"views.{name}.windows", modality, problems)}
        if isinstance(view, dict) and "windows" in view
        else view
        for name, view in views.items()
    }
    return plain | {"views": numbered}


def _numbers(windows: Any, place: str, modality: Any, problems: list[str]) -> Any:
    if isinstance(windows, str):
        windows = [windows]
    if not isinstance(windows, list | tuple) or not any(isinstance(item, str) for item in windows):
        return windows
    numbers = []
    for index, item in enumerate(windows):
        try:
            numbers.append(list(window(item)) if isinstance(item, str) else item)
            if isinstance(item, str) and modality in ("CT", "MR", "PT") and modality != WINDOWS[item].modality:
                units = _UNITS[WINDOWS[item].modality]
                problems.append(
                    f"{place}[{index}]: {item} is in {units}, and data.modality is {modality}; write numbers"
                )
        except UsageError as error:
            problems.append(f"{place}[{index}]: {error}")
            numbers.append(_STAND_IN)
    return numbers
