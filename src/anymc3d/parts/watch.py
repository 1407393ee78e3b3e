"""How far the parts of a run are, seen from outside: the finished cases in their folders, now and then one line."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from anymc3d.cost.progress import LINE_EVERY_S, duration
from anymc3d.files import regular
from anymc3d.files.parts import RECORD, Part

logger = logging.getLogger(__name__)


@contextmanager
def watched(out: Path, parts: Sequence[Part], *, quiet: bool, every_s: float = LINE_EVERY_S) -> Iterator[None]:
    """Log a line every ``every_s`` seconds while the parts are at work."""
    stop = threading.Event()

    def watch() -> None:
        started, before = time.monotonic(), finished_cases(out, parts)
        while not stop.wait(every_s):
            logger.info(progress_line(out, parts, before, time.monotonic() - started))

    thread = threading.Thread(target=watch, name="progress", daemon=True)
    if not quiet:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        if thread.is_alive():
            thread.join()


def progress_line(out: Path, parts: Sequence[Part], before: int, seconds: float) -> str:
    """``parts: 3 of 16 finished, 1203 cases done, 12.5 cases/s, 2 min so far``."""
    finished = sum((part.folder(out) / RECORD).exists() for part in parts)
    cases = finished_cases(out, parts)
    pace = f", {(cases - before) / seconds:.3g} cases/s" if cases > before else ""
    return f"parts: {finished} of {len(parts)} finished, {cases} cases done{pace}, {duration(seconds)} so far"


def finished_cases(out: Path, parts: Sequence[Part]) -> int:
    """Lines in the parts' journals, or case folders where there is no journal."""
    return sum(_finished(part.folder(out)) for part in parts)


def _finished(folder: Path) -> int:
    try:
        with regular.opened(folder / "journal.jsonl") as file:
            return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(2**20), b""))
    except OSError:
        return sum(1 for _ in folder.glob("*/explain.json")) if folder.is_dir() else 0
