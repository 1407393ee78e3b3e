"""The time that is kept free for the end of a run."""

import pytest

from anymc3d.automl.reserve import SAFETY, UNMEASURED_WRITING_S, Reserve


def test_the_test_split_is_reckoned_with_the_dearest_members_that_a_blend_could_have():
    reserve = Reserve(most=2, cases=100, read_s=0.5)
    assert reserve.test_s() == pytest.approx(SAFETY * 100 * 0.5)
    reserve.members |= {"cheap": 0.1, "dear": 2.0, "middle": 1.0}
    assert reserve.test_s() == pytest.approx(SAFETY * 100 * 3.5)
    assert reserve.test_s(further=3.0) == pytest.approx(SAFETY * 100 * 5.5), "in place of the middle one"
    assert reserve.test_s(further=0.2) == reserve.test_s()


def test_writing_takes_longer_with_more_candidates_and_nothing_of_a_test_split_that_is_not_answered():
    reserve = Reserve(most=2, read_s=0.5)
    assert reserve.seconds(0) == pytest.approx(SAFETY * UNMEASURED_WRITING_S)
    reserve.wrote(4.0, 10)
    assert (reserve.seconds(10), reserve.seconds(30)) == pytest.approx((SAFETY * 4, SAFETY * 12))
