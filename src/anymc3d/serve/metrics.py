"""Numbers for Prometheus, in its text format; no label holds anything of a patient."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anymc3d.serve.service import Service


def exposition(service: Service) -> str:
    """The whole page."""
    counts = service.jobs.counts()
    lines = [
        "# HELP anymc3d_jobs Studies by state.",
        "# TYPE anymc3d_jobs gauge",
        *(f'anymc3d_jobs{{state="{state}"}} {number}' for state, number in counts.items()),
        *_one(
            "anymc3d_worker_restarts_total",
            "counter",
            "Worker processes that had to be replaced.",
            service.supervisor.restarts,
        ),
        *_one("anymc3d_ready", "gauge", "Whether studies are being answered.", int(service.supervisor.is_ready)),
        *_one("anymc3d_uptime_seconds", "gauge", "Since the service started.", round(time.time() - service.started, 3)),
        *_one("anymc3d_resident_memory_bytes", "gauge", "Of the worker process.", _resident(service)),
    ]
    return "\n".join(lines) + "\n"


def _one(name: str, kind: str, text: str, value: float) -> list[str]:
    return [f"# HELP {name} {text}", f"# TYPE {name} {kind}", f"{name} {value}"]


def _resident(service: Service) -> int:
    pid = service.supervisor.worker_pid
    try:
        with open(f"/proc/{pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0
