"""Numbers for Prometheus; no label holds anything of a patient or of a client."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily

from anymc3d.serve.jobs import Job

if TYPE_CHECKING:
    from anymc3d.serve.service import Service

SECONDS = (0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000)


class Metrics:
    """The counters of one service since it started, and what is measured when they are asked for."""

    def __init__(self, service: Service) -> None:
        self.registry = CollectorRegistry()
        self._answers = self._counter("answers", "Answers by plugin and status (ok, warn, error).", "plugin", "status")
        self._positive = self._counter("positive_decisions", "Positive decisions by label.", "plugin", "label")
        self._jobs = self._counter("jobs_ended", "Studies that ended, by way in and state.", "source", "state")
        self._refused = self._counter("refusals", "Requests refused or failed, by HTTP status.", "status")
        self._waited = self._histogram("wait_seconds", "From arrival to the last start.")
        self._worked = self._histogram("work_seconds", "From the last start to the answer.")
        self.registry.register(_Now(service))  # type: ignore[arg-type]

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"anymc3d_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str) -> Histogram:
        return Histogram(f"anymc3d_{name}", text, registry=self.registry, buckets=SECONDS)

    def refused(self, status: int) -> None:
        """Count an answer of 400 or more."""
        self._refused.labels(str(status)).inc()

    def ended(self, job: Job) -> None:
        """Count a job that has ended."""
        self._jobs.labels(job.source.partition(" ")[0], job.state).inc()  # without who sent it
        if job.started is not None and job.finished is not None:
            self._waited.observe(max(job.started - job.received, 0.0))
            self._worked.observe(max(job.finished - job.started, 0.0))
        for row in job.rows:
            self._answers.labels(row["plugin"], row["status"]).inc()
            for key, value in row.items():
                if key.startswith("decision.") and value:
                    self._positive.labels(row["plugin"], key.removeprefix("decision.")).inc()

    def text(self) -> bytes:
        """The whole page, in Prometheus' text format."""
        return generate_latest(self.registry)


class _Now:
    """What is read off the service at the moment of asking."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def describe(self) -> list[Any]:
        """Nothing is measured before it is asked for."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """All gauges."""
        service = self._service
        jobs = GaugeMetricFamily("anymc3d_jobs", "Studies by state.", labels=["state"])
        for state, number in service.jobs.counts().items():
            jobs.add_metric([state], number)
        yield jobs
        oldest = service.jobs.oldest_waiting()
        waits = 0.0 if oldest is None else max(time.time() - oldest, 0.0)
        values = {
            "oldest_waiting_seconds": ("Since the study that waits longest came; 0: none waits.", waits),
            "worker_restarts": ("Worker processes that had to be replaced.", service.supervisor.restarts),
            "ready": ("Whether studies are being answered.", int(service.supervisor.is_ready)),
            "uptime_seconds": ("Since the service started.", round(time.monotonic() - service.started, 3)),
            "resident_memory_bytes": ("Of the worker process.", resident(service.supervisor.worker_pid)),
            "service_resident_memory_bytes": ("Of the process that answers HTTP.", resident(os.getpid())),
            "disk_free_bytes": ("Of the disk of the store.", shutil.disk_usage(service.settings.store).free),
        }
        for name, (text, value) in values.items():
            yield GaugeMetricFamily(f"anymc3d_{name}", text, value=value)
        deliveries = GaugeMetricFamily("anymc3d_deliveries", "Files for peers, by state.", labels=["peer", "state"])
        for labels, number in service.jobs.deliveries.counts().items():
            deliveries.add_metric(labels, number)
        yield deliveries
        yield from _drift(service.drift.current())


def _drift(drift_record: dict[str, Any]) -> Iterator[GaugeMetricFamily]:
    labels = ["plugin", "measure", "name"]
    share = GaugeMetricFamily("anymc3d_drift_share", "Of the studies of the last four weeks.", labels=labels)
    reference = GaugeMetricFamily("anymc3d_drift_reference_share", "Of the cases of training.", labels=labels)
    alarm = GaugeMetricFamily("anymc3d_drift_alarm", "1: the two differ by more than chance.", labels=labels)
    for plugin in drift_record["plugins"]:
        for comparison in plugin["comparisons"]:
            names = [plugin["plugin"], comparison["measure"], comparison["name"]]
            if comparison["share"] is not None:
                share.add_metric(names, comparison["share"])
            if comparison["reference_share"] is not None:
                reference.add_metric(names, comparison["reference_share"])
            alarm.add_metric(names, int(comparison["is_alarm"]))
    yield from (share, reference, alarm)


def resident(pid: int | None) -> int:
    """Bytes of a process in memory; 0 where the system does not say."""
    try:
        with open(f"/proc/{pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0
