"""A command that says nothing for long says that it goes on, and how far it is."""

import io
import logging
import sys
import threading

import pytest

from anymc3d.cost.heartbeat import begin_work, end_work, heard
from anymc3d.cost.progress import Progress


class _Lines(logging.Handler):
    """The log, and whether it has so many lines."""

    def __init__(self, enough):
        super().__init__()
        self.texts, self.enough, self.is_enough = [], enough, threading.Event()

    def emit(self, record):
        self.texts.append(record.getMessage())
        if len(self.texts) >= self.enough:
            self.is_enough.set()


@pytest.fixture
def log(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    own, handler = logging.getLogger("anymc3d"), _Lines(2)
    level = own.level
    own.setLevel(logging.INFO)
    own.addHandler(handler)
    yield handler
    own.removeHandler(handler)
    own.setLevel(level)


def first_words(log):
    """Of the second line, so that there is more than one."""
    log.texts.clear()
    log.is_enough.clear()
    with heard(silence_s=0.01, look_every_s=0.005):
        assert log.is_enough.wait(30)
    return log.texts[1]


def test_a_stage_without_a_bar(log):
    assert first_words(log).startswith("still at work, ")


def test_a_bar_whose_first_scan_takes_long(log):
    with Progress(total=3, what="predicting", unit="case", quiet=False):
        assert first_words(log).startswith("predicting: 0 of 3 cases, ")
    assert first_words(log).startswith("still at work, "), "the bar is closed"


def test_the_innermost_work_is_named_and_a_bar_that_nobody_keeps_is_not(log):
    bar = Progress(total=3, what="lost", unit="case", quiet=False)
    del bar
    words = "drawing maps: slice 5".__str__
    begin_work(words)
    assert first_words(log) == "drawing maps: slice 5"
    end_work(words)
    assert first_words(log).startswith("still at work, ")


def test_who_says_something_is_not_interrupted(log):
    """A line within the time is enough; the thread ends with the block."""
    threads = threading.active_count()
    with heard(silence_s=3600, look_every_s=0.005):
        logging.getLogger("anymc3d.test").info("a line")
        assert threading.active_count() == threads + 1
        threading.Event().wait(0.05)
    assert log.texts == ["a line"] and threading.active_count() == threads
