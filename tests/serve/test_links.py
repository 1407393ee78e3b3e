"""What the list of studies says of an answer."""

from types import SimpleNamespace

import pytest

from anymc3d.serve.links import decided, links_of


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


def test_every_file_is_offered_once():
    endings = (".nii.gz", ".seg.dcm", ".map.dcm", ".sc.dcm")
    names = ["p.html", "answers.sr.dcm", *(f"p.x.fused.rollout{ending}" for ending in endings)]
    links = links_of("0" * 32, names)
    assert sorted(link["name"] for link in links) == sorted(names)
    assert {link["title"] for link in links} >= {"Heatmap of p, x.fused.rollout (NIfTI)", "Structured report (DICOM)"}
