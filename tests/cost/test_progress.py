"""Where there is no terminal, lines with what is left come in place of a bar."""

import io
import logging
import sys
import time
from itertools import pairwise

import pytest

from anymc3d.cost import progress
from anymc3d.cost.progress import Progress, duration, line, wait_s


@pytest.fixture(autouse=True)
def nothing_written_yet(monkeypatch):
    monkeypatch.setattr(Progress, "last_line", None)


def test_a_log_gets_whole_lines_with_what_is_left(monkeypatch, caplog):
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.0)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with caplog.at_level(logging.INFO):
        assert list(Progress(range(4), what="reading scans", unit="scan", quiet=False)) == [0, 1, 2, 3]
    texts = [record.message for record in caplog.records]
    assert texts and all(text.startswith("reading scans: ") and "of 4 scans" in text for text in texts)
    assert sys.stderr.getvalue() == ""


def test_short_work_and_quiet_work_say_nothing(monkeypatch, caplog):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with caplog.at_level(logging.INFO):
        list(Progress(range(1000), what="reading scans", unit="scan", quiet=False))
        monkeypatch.setattr(progress, "LINE_EVERY_S", 0.0)
        list(Progress(range(4), what="reading scans", unit="scan", quiet=True))
    assert not caplog.records and sys.stderr.getvalue() == ""


def read_scans(monkeypatch, caplog, seconds):
    """A bar over scans of which each takes so many seconds, without a terminal."""
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    clock = [1000.0]
    with caplog.at_level(logging.INFO):
        bar = Progress(seconds, what="reading", unit="scan", quiet=False)
        bar._time = lambda: clock[0]
        bar.start_t = bar.last_print_t = clock[0]
        for scan_s in bar:
            clock[0] += scan_s


def test_lines_come_often_in_a_short_job_and_seldom_in_a_long_one(monkeypatch, caplog):
    assert [wait_s(elapsed) for elapsed in (0, 200, 3600)] == [4, 6, 30]
    read_scans(monkeypatch, caplog, [1] * 1500)
    done = [int(record.message.split()[1]) for record in caplog.records]
    assert done[:5] == [4, 8, 12, 16, 20] and done[-1] <= 1500
    waits = [b - a for a, b in pairwise(done)]
    assert max(b for a, b in zip(done, waits, strict=False) if a <= 240) < 10 and waits[-1] > 20


def test_a_job_soon_after_another_does_not_let_its_reader_wait_twice(monkeypatch, caplog):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with caplog.at_level(logging.INFO):
        for seconds_ago, first in ((5, 1), (1, None), (3600, None)):
            caplog.clear()
            Progress.last_line = time.time() - seconds_ago
            list(Progress(range(3), what="reading", unit="scan", quiet=False))
            assert [record.message.split()[1] for record in caplog.records] == ([str(first)] if first else [])


def test_a_number_that_changes_with_every_step_is_no_line_of_its_own(monkeypatch, caplog):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with caplog.at_level(logging.INFO), Progress(total=80, what="epoch 1", unit="step", quiet=False) as bar:
        bar.n = 41
        for step in range(5):
            bar.set_postfix(loss=step)
    assert not caplog.records


@pytest.mark.parametrize(
    ("done", "total", "seconds", "since", "text"),
    [
        (40, 80, 31.0, None, "40 of 80 scans, 31 s so far"),
        (40, 80, 31.0, (20, 11.0), "40 of 80 scans, 31 s so far, about 40 s left"),
        (40, 80, 31.0, (38, 30.0), "40 of 80 scans, 31 s so far"),
        (2, 80, 60.0, (1, 30.0), "2 of 80 scans, 60 s so far, about 39 min left"),
        (80, 80, 31.0, (20, 11.0), "80 of 80 scans, 31 s so far"),
        (40, None, 7200.0, (20, 11.0), "40 scans, 2.0 h so far"),
    ],
)
def test_the_line(done, total, seconds, since, text):
    state = {"n": done, "total": total, "elapsed": seconds, "prefix": "reading", "unit": "scan"}
    assert line(state, since) == f"reading: {text}"


def test_a_slow_start_does_not_count_in_what_is_left(monkeypatch, caplog):
    """The first scan takes a minute (weights, caches), each other one a second: no line says hours, or minutes."""
    read_scans(monkeypatch, caplog, [60] + [1] * 99)
    said = [record.message.split(", about ") for record in caplog.records]
    assert len(said[0]) == 1 and all(len(parts) == 2 for parts in said[1:])
    for text, left in said[1:]:
        assert left == f"{100 - int(text.split()[1])} s left"


def test_durations():
    assert [duration(s) for s in (0.4, 99, 150, 5999, 7300)] == ["0 s", "99 s", "2 min", "100 min", "2.0 h"]
