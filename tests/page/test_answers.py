"""Pictures of an answer: bars where there is something to see, a sentence where there is not."""

import pytest

from anymc3d.page.answers import slice_bars


@pytest.mark.parametrize("weights", [[1 / 35] * 35, [1 / 3, 1 / 3 + 1e-9, 1 / 3 - 1e-9]])
def test_slices_that_weigh_the_same_are_one_sentence(weights):
    shown = slice_bars("image", weights, "axial")
    assert shown == f"<p>View image (axial): all {len(weights)} slices weigh the same.</p>"


def test_slices_that_differ_are_bars_with_a_table():
    shown = slice_bars("image", [0.2, 0.3, 0.5])
    assert shown.count("<rect") == 3 and "largest 0.500, slice 3" in shown and "as a table" in shown
    assert slice_bars("image", [1.0]) == "<p>View image: one slice.</p>"
