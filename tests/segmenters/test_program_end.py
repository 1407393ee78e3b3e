"""A program that has ended by itself when it is to be stopped: the stop is what is told, not that it was gone."""

import subprocess

import pytest

from anymc3d.segmenters.program import TOTALSEGMENTATOR, run_program


def test_a_stop_just_after_the_program_has_ended_is_a_stop(monkeypatch):
    real = subprocess.Popen.communicate

    def stopped_late(process, *given, **named):
        real(process, *given, **named)
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess.Popen, "communicate", stopped_late)
    with pytest.raises(KeyboardInterrupt):
        run_program(["true"], 60, TOTALSEGMENTATOR)
