"""The budget, and steps that outlast their share."""

import pytest

from anymc3d.automl.clock import Clock, Pace
from anymc3d.automl.deadline import Deadline, OutOfTimeError
from anymc3d.errors import InterruptedRunError
from anymc3d.train.stopping import OUT_OF_TIME, StopRequest


class Now:
    def __init__(self):
        self.seconds = 100.0

    def __call__(self):
        return self.seconds


def test_seconds_of_earlier_runs_count():
    now = Now()
    clock = Clock(60, before_s=20, now=now)
    now.seconds += 25
    assert (clock.spent_s, clock.left_s) == (45, 15)


def test_a_step_that_outlasts_its_time_ends_and_a_wish_of_the_user_goes_first():
    now, request = Now(), StopRequest()
    stop = Deadline(request, Clock(60, now=now))
    stop.check()
    with pytest.raises(OutOfTimeError), stop.within(10):
        assert stop.signal is None
        now.seconds += 11
        stop.check()
    assert stop.signal is None, "the limit was of the step alone"
    request.signal = 15
    with pytest.raises(InterruptedRunError) as caught, stop.within(10):
        stop.check()
    assert not isinstance(caught.value, OutOfTimeError)


def test_what_was_measured_last_counts_most():
    pace = Pace()
    assert pace.of(10) == 0
    pace.measured(10, 10)
    pace.measured(30, 10)
    assert 20 < pace.of(10) < 30


def test_a_training_stops_as_by_a_signal_when_its_time_is_over():
    now = Now()
    stop = Deadline(StopRequest(), Clock(60, now=now))
    with pytest.raises(OutOfTimeError), stop.within(10):
        own = StopRequest()  # as a run inside makes for itself
        assert own.signal is None
        now.seconds += 11
        assert own.signal == OUT_OF_TIME
        assert own.asked is None
        raise InterruptedRunError("the state is saved")
    assert StopRequest().signal is None
