"""What reaches the terminal, and how a command ends: signals, lines of libraries, errors nobody foresaw."""

import argparse
import errno
import logging
import os
import signal
import time
import warnings

import pytest

from anymc3d.cli import boundary
from anymc3d.cli.boundary import alive, last_words, logged, private, stoppable
from anymc3d.cli.main import main
from anymc3d.train.stopping import listening


@pytest.fixture
def terminal():
    """Of a process that was not started under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def asked(*, quiet=False, verbose=False, debug=False):
    return argparse.Namespace(quiet=quiet, verbose=verbose, debug=debug)


def say():
    logging.getLogger("anymc3d.somewhere").warning("ours")
    logging.getLogger("anymc3d.somewhere").info("ours too")
    for name in ("pydicom", "nibabel.global", "anything.else", "anymc3dish"):
        logging.getLogger(name).error("theirs")
    warnings.warn("theirs", UserWarning, stacklevel=1)


@pytest.mark.filterwarnings("default")
def test_what_libraries_say_is_there_only_for_who_asks(capsys):
    with logged(asked()):
        say()
    assert capsys.readouterr().err == "ours\nours too\n"
    with logged(asked(quiet=True)):
        say()
    assert capsys.readouterr().err == "ours\n"
    with logged(asked(debug=True)):
        say()
    assert capsys.readouterr().err.count("theirs") >= 4


def test_logging_is_afterwards_as_it_was():
    root, own = logging.getLogger(), logging.getLogger("anymc3d")
    before = (list(root.handlers), root.level, own.level, warnings.showwarning)
    with logged(asked(quiet=True, debug=True)):
        pass
    assert (list(root.handlers), root.level, own.level, warnings.showwarning) == before


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2])
def test_a_lost_terminal_ends_a_command_as_a_scheduler_does(monkeypatch, capsys, number):
    monkeypatch.setattr("anymc3d.cli.plugin.run", lambda _: os.kill(os.getpid(), number) or time.sleep(60))
    assert main(["plugin", "show", "x"]) == 75
    assert "the same command continues" in capsys.readouterr().err


@pytest.mark.parametrize("caught", [stoppable, listening])
def test_who_ignores_the_loss_of_the_terminal_goes_on_ignoring_it(caught):
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with caught():
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("terminal")
def test_a_training_remembers_the_loss_of_the_terminal():
    with listening() as stop:
        os.kill(os.getpid(), signal.SIGHUP)
        assert stop.signal == signal.SIGHUP


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS])
def test_D8_a_full_disk_is_no_internal_error_whoever_wrote(number):
    line, code = last_words(OSError(number, os.strerror(number), "/out/page.html"), debug=False)
    assert code == 2 and line.startswith("error: /out/page.html: cannot be written") and "same command again" in line


def test_F4_a_text_that_can_be_no_path_is_no_internal_error(tmp_path, capsys):
    (tmp_path / "task.yaml").write_text(f"format: 1\nbackbone: {'x/' * 1000}{'y' * 300}\n")
    words = ["data: {manifest: m.csv, modality: MR}", "labels: {columns: [a], kind: binary, classes: ['0', '1']}"]
    with (tmp_path / "task.yaml").open("a") as file:
        file.write("\n".join([*words, "name: x", "views: {image: {size: [28, 28, 4]}}", ""]))
    for where in (tmp_path / "task.yaml", tmp_path / ("z" * 300)):
        assert main(["train", str(where), "-o", str(tmp_path / "run"), "--quiet"]) == 2
        assert capsys.readouterr().err.startswith("error: ")


def test_an_error_without_words_says_where_it_arose(monkeypatch, capsys):
    def missing(_):
        raise KeyError("plugin")

    monkeypatch.setattr("anymc3d.cli.plugin.run", missing)
    assert main(["plugin", "show", "x"]) == 1
    assert capsys.readouterr().err.startswith("internal error: KeyError: 'plugin' at cli/main.py:")


def test_whatever_a_command_makes_is_private(tmp_path):
    before = os.umask(0)
    try:
        with private():
            (tmp_path / "file").write_text("")
            (tmp_path / "folder").mkdir()
        (tmp_path / "after").mkdir()
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == {"file": 0o600, "folder": 0o700, "after": 0o777}


def test_a_command_that_is_told_to_debug_shows_the_traceback_of_an_internal_error(monkeypatch, capsys):
    monkeypatch.setattr("anymc3d.cli.plugin.run", lambda _: 1 / 0)
    assert main(["plugin", "show", "x", "--debug"]) == 1
    assert "Traceback (most recent call last)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "options", "rank", "told"),
    [
        ("predict", {}, "0", True),
        ("auto", {}, None, True),
        ("predict", {"quiet": True}, None, False),
        ("predict", {"json": True}, None, False),
        ("train", {}, "1", False),
        ("serve", {}, None, False),
    ],
)
def test_a_sign_of_life_where_somebody_reads_a_log(monkeypatch, command, options, rank, told):
    monkeypatch.setattr(boundary, "heard", lambda: "heard")
    monkeypatch.delenv("RANK", raising=False)
    if rank is not None:
        monkeypatch.setenv("RANK", rank)
    found = alive(command, argparse.Namespace(**{"quiet": False, **options}))
    assert (found == "heard") is told
