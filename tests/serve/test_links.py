"""What the list of studies says of an answer."""

from types import SimpleNamespace

import pytest

from anymc3d.serve.links import decided


def row(plugin="p", **cells):
    return {"case": "c", "plugin": plugin, "status": "ok", "message": ""} | {
        k.replace("_", "."): v for k, v in cells.items()
    }


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([row(decision_x=1, decision_y=0, probability_x=0.9)], ["x"]),
        ([row(decision_x=0)], []),
        ([row(value_age=61.234567)], ["age 61.23"]),
        ([row("a", decision_x=1), row("b", decision_x=1), row("c", value_age=3.0)], ["a: x", "b: x", "c: age 3"]),
        ([{"case": "c", "plugin": "p", "status": "error", "message": "damaged"}], []),
    ],
)
def test_labels_classes_and_numbers_are_said(rows, expected):
    assert decided(SimpleNamespace(rows=rows)) == expected
