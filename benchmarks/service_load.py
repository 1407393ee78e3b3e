"""Many clients, broken scans, killed processes: what becomes of every study; and whether memory stays as it is.

    python benchmarks/service_load.py --plugin plugin.safetensors --scans FOLDER -o OUT

FOLDER holds ``.nii.gz`` scans that the plugin can answer. The service runs as a program of its own. Clients send each
study under a key of its own and send again when the service is away, as a careful program would.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import queue
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx

ENDED = ("done", "error")
AWAY = (httpx.TransportError, ConnectionError)
LIMIT_S = 900.0


def broken(content: bytes, kind: int) -> bytes:
    """A scan that must not be answered: five kinds of damage."""
    half = len(content) // 2
    return (
        content[:half] + bytes([content[half] ^ 0xFF]) + content[half + 1 :],
        content[:half],
        gzip.compress(gzip.decompress(content)[:348]),
        b"no scan at all " * 50,
        b"PK\x03\x04" + bytes(500),
    )[kind % 5]


class Running:
    """A service as a program of its own, on one port and one store, however often it is started."""

    def __init__(self, plugin: Path, store: Path, options: Sequence[str] = ()) -> None:
        self._store, self.log = store, store.with_suffix(".log")
        self._command = [sys.executable, "-m", "anymc3d", "serve", "-p", str(plugin), "--store", str(store)]
        self._command += ["--device", "cpu", *options]
        self._port, self._process = 0, None
        self.url = ""

    def start(self) -> None:
        """Start it and wait until it answers."""
        before = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("a") as log:
            self._process = subprocess.Popen([*self._command, "--port", str(self._port)], stderr=log)
        for _ in range(6000):
            found = re.search(r"http://([\d.]+):(\d+)", self.log.read_text()[before:])
            if found:
                self.url, self._port = found[0], int(found[2])
                return
            if self._process.poll() is not None:
                raise RuntimeError(self.log.read_text()[before:])
            time.sleep(0.05)
        raise RuntimeError("the service did not start")

    def kill(self) -> None:
        """End it as a power cut would."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> float:
        """Ask it to end; the seconds that took."""
        begun = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        if self._process.wait(60) != 0:
            raise RuntimeError("the service did not end well")
        return time.monotonic() - begun

    def kill_worker(self) -> bool:
        """End the process that reads scans: the child that holds most memory."""
        pid = self._process.pid
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            memory = {int(child): int(Path(f"/proc/{child}/statm").read_text().split()[1]) for child in children}
            os.kill(max(memory, key=memory.__getitem__), signal.SIGKILL)
        except (OSError, ValueError):
            return False
        return True


def patiently(ask: Callable[[], httpx.Response]) -> httpx.Response:
    """Ask again while the service is away or full."""
    deadline = time.monotonic() + LIMIT_S
    while True:
        try:
            answer = ask()
            if answer.status_code != 503:
                return answer
        except AWAY:
            pass
        if time.monotonic() > deadline:
            raise TimeoutError("the service stayed away")
        time.sleep(0.1)


def one_study(service: Running, client: httpx.Client, name: str, content: bytes) -> dict[str, Any]:
    """Send one study and wait for its end; what was refused at the door is an error with its reason, too."""

    def send() -> httpx.Response:
        files, headers = {"file": content}, {"idempotency-key": name}
        return client.post(f"{service.url}/v1/jobs", files=files, data={"case": name}, headers=headers)

    sent = patiently(send)
    if sent.status_code != 202:
        return {"id": None, "status": "error", "message": sent.json()["detail"], "rows": []}
    path = f"/v1/jobs/{sent.json()['id']}"
    while True:
        job = patiently(lambda: client.get(service.url + path, params={"wait": 20})).json()
        if job["status"] in ENDED:
            return job


def from_clients(service: Running, studies: Sequence[tuple[str, bytes]], clients: int) -> dict[str, dict[str, Any]]:
    """Send studies from several clients at once; name -> how it ended. ``found`` fills while it runs."""
    found: dict[str, dict[str, Any]] = {}
    waiting: queue.Queue[tuple[str, bytes]] = queue.Queue()
    for study in studies:
        waiting.put(study)

    def client() -> None:
        with httpx.Client(timeout=90) as http:
            while True:
                try:
                    name, content = waiting.get_nowait()
                except queue.Empty:
                    return
                found[name] = one_study(service, http, name, content)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    found["threads"] = threads  # type: ignore[assignment]
    return found


def under_fire(
    service: Running, scans: Sequence[bytes], *, studies: int, clients: int, worker_kills: int, service_kills: int
) -> tuple[dict[str, dict[str, Any]], dict[str, int]]:
    """Every tenth study is broken; processes are killed while the rest is answered."""
    random_ = random.Random(0)
    sent = []
    for number in range(studies):
        content = scans[number % len(scans)]
        is_broken = number % 10 == 3
        sent.append(
            (f"{'bad' if is_broken else 'good'}-{number}", broken(content, number // 10) if is_broken else content)
        )
    kills = ["worker"] * worker_kills + ["service"] * service_kills
    random_.shuffle(kills)
    found = from_clients(service, sent, clients)
    threads: list[threading.Thread] = found.pop("threads")  # type: ignore[assignment]
    done = {"worker": 0, "service": 0}
    for index, kind in enumerate(kills):
        while len(found) < (index + 1) * studies * 0.9 / (len(kills) + 1):
            time.sleep(0.005)
        if kind == "worker":
            while not service.kill_worker():
                time.sleep(0.01)
        else:
            service.kill()
            service.start()
        done[kind] += 1
    for thread in threads:
        thread.join()
    return found, done


def judged(service: Running, found: dict[str, dict[str, Any]], expected: Sequence[dict[str, float]]) -> dict[str, int]:
    """Counts: right, wrong, errors with and without a reason, lost, twice."""
    counts = dict.fromkeys(("right", "wrong", "errors_with_reason", "errors_without_reason", "lost", "twice"), 0)
    for name, job in found.items():
        kind, _, number = name.partition("-")
        if kind == "bad":
            is_said = job["status"] == "error" and job["message"]
            counts["errors_with_reason" if is_said else "errors_without_reason"] += 1
            continue
        row = job["rows"][0] if job["rows"] else {}
        logits = expected[int(number) % len(expected)]
        is_right = job["status"] == "done" and all(
            abs(row.get(f"logit.{label}", float("inf")) - logit) < 1e-6 for label, logit in logits.items()
        )
        counts["right" if is_right else "wrong"] += 1
    listed = all_jobs(service)
    cases = [job["case"] for job in listed]
    counts["twice"] = len(cases) - len(set(cases))
    counts["lost"] = len({name for name, job in found.items() if job["id"] is not None} - set(cases))
    counts["unended"] = sum(job["status"] not in ENDED for job in listed)
    return counts


def all_jobs(service: Running) -> list[dict[str, Any]]:
    """Every job of the queue, newest first."""
    found: list[dict[str, Any]] = []
    while True:
        before = {"before": found[-1]["number"]} if found else {}
        page = httpx.get(f"{service.url}/v1/jobs", params={"count": 500, **before}, timeout=60).json()["jobs"]
        if not page:
            return found
        found += page


def overheads(jobs: Sequence[dict[str, Any]]) -> list[float]:
    """Seconds that the queue itself added to each study: from when it could be taken until it was, and from the answer
    of the worker until it was recorded."""
    ordered = sorted(jobs, key=lambda job: job["started"])
    found, free = [], 0.0
    for job in ordered:
        waited = job["started"] - max(job["received"], free)
        found.append(waited + job["finished"] - job["started"] - job["record"]["work_seconds"])
        free = job["finished"]
    return found


def memory(service: Running) -> dict[str, float]:
    """Resident megabytes of both processes."""
    text = httpx.get(f"{service.url}/metrics", timeout=60).text
    names = {"worker": "anymc3d_resident_memory_bytes", "service": "anymc3d_service_resident_memory_bytes"}
    return {kind: float(re.search(rf"^{name} (\S+)", text, re.M)[1]) / 2**20 for kind, name in names.items()}


def steady(service: Running, scans: Sequence[bytes], *, requests: int, clients: int) -> dict[str, Any]:
    """Many studies without a kill: memory after a tenth and after all, and the queue's own overhead."""
    names = [(f"steady-{number}", scans[number % len(scans)]) for number in range(requests)]
    parts = names[: requests // 10], names[requests // 10 :]
    found: dict[str, dict[str, Any]] = {}
    levels = []
    begun = time.monotonic()
    for part in parts:
        own = from_clients(service, part, clients)
        for thread in own.pop("threads"):
            thread.join()
        found |= own
        levels.append(memory(service))
    own_s = sorted(overheads(list(found.values())))
    return {
        "requests": requests,
        "seconds": round(time.monotonic() - begun, 1),
        "memory_mb_after_a_tenth": {name: round(value, 1) for name, value in levels[0].items()},
        "memory_mb_after_all": {name: round(value, 1) for name, value in levels[1].items()},
        "overhead_ms": {
            "median": round(1000 * own_s[len(own_s) // 2], 1),
            "p95": round(1000 * own_s[int(0.95 * len(own_s))], 1),
            "largest": round(1000 * own_s[-1], 1),
        },
    }


def expected_of(plugin: Path, scans: Sequence[Path]) -> list[dict[str, float]]:
    """The logits that ``predict`` gives."""
    from anymc3d.predict.predictor import load

    predictor = load(plugin, device="cpu")
    return [dict(predictor.predict(scan).logits) for scan in scans]


def main() -> None:
    """Run both parts and write OUT/service_load.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plugin", type=Path, required=True)
    parser.add_argument("--scans", type=Path, required=True)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--worker-kills", type=int, default=5)
    parser.add_argument("--service-kills", type=int, default=2)
    parser.add_argument("--requests", type=int, default=1000)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    paths = sorted(args.scans.glob("*.nii.gz"))
    scans, expected = [path.read_bytes() for path in paths], expected_of(args.plugin, paths)
    service = Running(args.plugin, args.out / "store", ["--no-heatmaps"])
    service.start()
    begun = time.monotonic()
    found, kills = under_fire(
        service,
        scans,
        studies=args.studies,
        clients=args.clients,
        worker_kills=args.worker_kills,
        service_kills=args.service_kills,
    )
    fire = {"seconds": round(time.monotonic() - begun, 1), "kills": kills, **judged(service, found, expected)}
    stopped_s = service.stop()
    service.start()
    calm = steady(service, scans, requests=args.requests, clients=args.clients)
    service.stop()
    text = json.dumps({"under_fire": fire, "stop_seconds": round(stopped_s, 2), "steady": calm}, indent=1)
    (args.out / "service_load.json").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
