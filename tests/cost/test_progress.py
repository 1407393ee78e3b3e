"""Where there is no terminal, lines with what is left come in place of a bar."""

import io
import logging
import sys

import pytest

from anymc3d.cost import progress
from anymc3d.cost.progress import Progress, duration, line


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


def test_a_number_that_changes_with_every_step_is_no_line_of_its_own(monkeypatch, caplog):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with caplog.at_level(logging.INFO), Progress(total=80, what="epoch 1", unit="step", quiet=False) as bar:
        bar.n = 41
        for step in range(5):
            bar.set_postfix(loss=step)
    assert not caplog.records


@pytest.mark.parametrize(
    ("state", "text"),
    [
        ({"n": 40, "total": 80, "elapsed": 31.0, "initial": 0}, "40 of 80 scans, 31 s so far, about 31 s left"),
        ({"n": 40, "total": 80, "elapsed": 30.0, "initial": 30}, "40 of 80 scans, 30 s so far, about 2 min left"),
        ({"n": 40, "total": None, "elapsed": 7200.0, "initial": 0}, "40 scans, 2.0 h so far"),
    ],
)
def test_the_line(state, text):
    assert line({**state, "prefix": "reading", "unit": "scan"}) == f"reading: {text}"


def test_durations():
    assert [duration(s) for s in (0.4, 99, 150, 5999, 7300)] == ["0 s", "99 s", "2 min", "100 min", "2.0 h"]
