"""Energy by the device's own counters: a graphics card's (NVML), or those of the processor packages (RAPL, Linux).

The counters are the device's, not the process's: whatever else runs on it meanwhile is counted too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from anymc3d.errors import AnyMC3DError

POWERCAP = Path("/sys/class/powercap")
ABOUT = "by the counters of {}, of all that ran on it meanwhile"
NOT = "not measured"
ELSEWHERE = f"{NOT}: several processes shared the work"


class NoCounterError(AnyMC3DError):
    """The device does not report how much energy it used; the message says why."""

    code = "E-energy"


@dataclass(frozen=True)
class Counter:
    """A number of joules that only rises, until it starts again from 0 at ``wraps_at``."""

    read: Callable[[], float]
    wraps_at: float | None = None


class EnergyMeter:
    """What a device took between two readings.

    ``counters``: none where there is nothing to read; ``note`` then says why, otherwise what is counted.
    """

    def __init__(self, counters: Sequence[Counter], note: str) -> None:
        self.counters, self.note = tuple(counters), note
        self._joules = 0.0
        self._last = self._readings()

    def read(self) -> None:
        """Look at the counters; a processor's may start again after some minutes, so do it in every step of work."""
        before, self._last = self._last, self._readings()
        for counter, old, new in zip(self.counters, before, self._last, strict=True) if self._last else ():
            if new < old and counter.wraps_at is None:
                self.counters, self.note, self._last = (), f"{NOT}: the counter started again", ()
                return
            self._joules += new - old if new >= old else new - old + (counter.wraps_at or 0.0)

    def take(self) -> float | None:
        """Joules since the last call, or since the meter was made; None where there is nothing to read."""
        self.read()
        joules, self._joules = self._joules, 0.0
        return joules if self.counters else None

    def _readings(self) -> tuple[float, ...]:
        try:
            return tuple(counter.read() for counter in self.counters)
        except NoCounterError as error:
            self.counters, self.note = (), f"{NOT}: {error}"
            return ()


def meter_of(device: torch.device) -> EnergyMeter:
    """The meter of a device; one without counters where it reports nothing."""
    try:
        counters = _graphics_card(device) if device.type == "cuda" else _processor_packages()
    except NoCounterError as error:
        return EnergyMeter((), f"{NOT}: {error}")
    what = "the graphics card" if device.type == "cuda" else "the processor packages"
    return EnergyMeter(counters, ABOUT.format(what))


def energy_facts(joules: float | None, note: str) -> dict[str, Any]:
    """The two keys of a cost record; ``joules`` None although ``note`` says that it is counted: not from the start."""
    if joules is None:
        return {"energy_joules": None, "energy_note": note if note.startswith(NOT) else f"{NOT}: not from the start"}
    return {"energy_joules": round(joules, 3), "energy_note": note}


def added(total: float | None, joules: float | None) -> float | None:
    """The sum; None once a part of it is not known."""
    return None if total is None or joules is None else total + joules


def _processor_packages() -> list[Counter]:
    """RAPL's counters of whole packages; cores and memory are parts of them, and the platform's holds them again."""
    zones = sorted(path for path in POWERCAP.glob("intel-rapl:*") if path.name.count(":") == 1)
    packages = [zone for zone in zones if _text(zone / "name").startswith("package")]
    if not packages:
        raise NoCounterError("this processor shows no energy counter")
    counters = [Counter(_microjoules(zone / "energy_uj"), _range(zone)) for zone in packages]
    for counter in counters:
        counter.read()
    return counters


def _microjoules(path: Path) -> Callable[[], float]:
    def read() -> float:
        return _number(path) / 1e6

    return read


def _range(zone: Path) -> float:
    return _number(zone / "max_energy_range_uj") / 1e6


def _number(path: Path) -> int:
    text = _text(path)
    if not text.isdecimal():
        raise NoCounterError("the processor's energy counter shows no number")
    return int(text)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError as error:
        raise NoCounterError(
            f"the processor's energy counter cannot be read ({error.strerror}); an administrator can allow it"
        ) from None


def _graphics_card(device: torch.device) -> list[Counter]:
    try:
        import pynvml
    except ImportError:
        raise NoCounterError(
            "reading a graphics card's counter needs nvidia-ml-py: pip install 'anymc3d[energy]'"
        ) from None
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except (pynvml.NVMLError, AttributeError) as error:
        raise NoCounterError(f"the graphics card does not report its energy ({error})") from None

    def read() -> float:
        try:
            return pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3
        except pynvml.NVMLError as error:
            raise NoCounterError(f"the graphics card stopped reporting its energy ({error})") from None

    return [Counter(read)]
