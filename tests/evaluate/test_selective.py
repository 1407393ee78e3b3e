"""Decisions that are not answered: counted, left out of the plugin's own numbers, and drawn as a curve of the risk."""

from __future__ import annotations

import numpy as np
import pytest

from anymc3d.errors import ProblemsError
from anymc3d.evaluate.command import evaluate_predictions
from anymc3d.evaluate.curves import risk_curve
from anymc3d.evaluate.measures import Sampling
from anymc3d.evaluate.outputs import NOT_ANSWERED
from anymc3d.evaluate.study import evaluate_rows
from anymc3d.evaluate.study_cases import StudySettings
from anymc3d.files.tables import write_table

FEW = StudySettings(sampling=Sampling(num_resamples=50))


def binary(count: int = 60) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """A table in which the least sure third is not answered, and its manifest."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, count)
    logits = 2 * (2 * truth - 1) + rng.normal(scale=2, size=count)
    unsure = np.argsort(np.abs(logits))[: count // 3]
    rows = []
    for i in range(count):
        decided, inside = str(int(logits[i] >= 0)), "{0, 1}" if i in unsure else f"{{{int(logits[i] >= 0)}}}"
        rows.append(
            {
                "case": f"c{i}",
                "status": "ok",
                "message": "",
                "logit.tear": repr(float(logits[i])),
                "probability.tear": repr(float(1 / (1 + np.exp(-logits[i])))),
                "decision.tear": NOT_ANSWERED if i in unsure else decided,
                "set.tear": inside,
                "ood_score": "0.4",
            }
        )
    return rows, [{"case": f"c{i}", "tear": str(truth[i])} for i in range(count)]


def value(found, metric, label="tear", point=None):
    (row,) = [
        row
        for row in found
        if (row["metric"], row["label"]) == (metric, label) and (point is None or row["operating_point"] == point)
    ]
    return row


def test_the_plugins_own_numbers_are_of_the_answered_cases_and_say_how_many() -> None:
    rows, manifest = binary()
    found = evaluate_rows(rows, manifest, settings=FEW)
    answered = [(row, case) for row, case in zip(rows, manifest, strict=True) if row["decision.tear"] != NOT_ANSWERED]
    right = np.mean([row["decision.tear"] == case["tear"] for row, case in answered])
    assert value(found, "answered")["value"] == pytest.approx(40 / 60) and value(found, "answered")["n"] == 60
    assert "20 of 60 not answered" in value(found, "answered")["reason"]
    assert value(found, "accuracy", point="plugin")["value"] == pytest.approx(right)
    assert value(found, "accuracy", point="plugin")["n"] == 40
    assert value(found, "selective_risk")["value"] == pytest.approx(1 - right)
    assert value(found, "auroc")["n"] == 60


def test_sets_are_counted_by_what_they_hold() -> None:
    rows, manifest = binary()
    found = evaluate_rows(rows, manifest, settings=FEW)
    held = [case["tear"] in row["set.tear"] for row, case in zip(rows, manifest, strict=True)]
    assert value(found, "set_coverage")["value"] == pytest.approx(np.mean(held))
    assert value(found, "set_single")["value"] == pytest.approx(40 / 60)
    positive = [one for one, case in zip(held, manifest, strict=True) if case["tear"] == "1"]
    assert value(found, "set_coverage_positive")["value"] == pytest.approx(np.mean(positive))
    assert value(found, "set_coverage_positive")["n"] == len(positive)


def test_a_table_without_them_has_no_such_rows() -> None:
    rows, manifest = binary()
    whole = [row | {"decision.tear": "1" if float(row["logit.tear"]) >= 0 else "0"} for row in rows]
    plain = [{name: cell for name, cell in row.items() if name != "set.tear"} for row in whole]
    found = {row["metric"] for row in evaluate_rows(plain, manifest, settings=FEW)}
    assert not found & {"answered", "selective_risk", "set_coverage"}


def test_classes_are_answered_all_or_none() -> None:
    names = ("grade=a", "grade=b", "grade=c")
    rows, manifest = [], []
    for i, (truth, decided) in enumerate([(0, 0), (1, 1), (2, 2), (0, 1), (1, None), (2, None)] * 4):
        best = truth if decided is None else decided
        row = {"case": f"c{i}", "status": "ok", "message": ""}
        for j, name in enumerate(names):
            row |= {f"logit.{name}": str(2.0 * (j == best)), f"probability.{name}": str(0.6 if j == best else 0.2)}
            row |= {f"decision.{name}": NOT_ANSWERED if decided is None else str(int(j == decided))}
            row |= {f"set.{name}": str(int(j == best or decided is None))}
        rows.append(row)
        manifest.append({"case": f"c{i}", "grade": "abc"[truth]})
    found = evaluate_rows(rows, manifest, settings=FEW)
    assert value(found, "answered", "grade")["value"] == pytest.approx(4 / 6)
    assert value(found, "accuracy", "grade")["value"] == pytest.approx(3 / 4)
    assert value(found, "selective_risk", "grade")["value"] == pytest.approx(1 / 4)
    assert value(found, "set_coverage", "grade")["value"] == pytest.approx(5 / 6)
    assert value(found, "set_single", "grade")["value"] == pytest.approx(4 / 6)
    rows[0]["decision.grade=b"] = NOT_ANSWERED
    with pytest.raises(ProblemsError, match="classes of grade are decided"):
        evaluate_rows(rows, manifest, settings=FEW)


def test_the_risk_falls_from_that_of_all_cases_to_that_of_the_surest() -> None:
    wrong = np.array([0.0, 0, 1, 0, 1])
    confidence = np.array([5.0, 4, 3, 1, 1])
    curve = risk_curve(np.array([0.0, 1, 0, 1, 0]), wrong, confidence, list("abcde"), Sampling(num_resamples=20))
    assert curve.x == pytest.approx([0.2, 0.4, 0.6, 1.0])
    assert curve.y == pytest.approx([0, 0, 1 / 3, 2 / 5])


def test_the_curve_is_drawn_where_something_is_not_answered(tmp_path, drawn) -> None:
    rows, manifest = binary()
    write_table(tmp_path / "predictions.csv", list(rows[0]), rows)
    write_table(tmp_path / "manifest.csv", ["case", "tear"], manifest)
    evaluate_predictions(tmp_path / "predictions.csv", tmp_path / "manifest.csv", tmp_path / "out", settings=FEW)
    assert len((tmp_path / "out" / "risk.png").read_bytes()) > 5000
    assert "risk,tear" in (tmp_path / "out" / "curves.csv").read_text()
    rows[0]["set.tear"] = "{2}"
    with pytest.raises(ProblemsError, match=r"set.tear is '\{2\}', expected one of"):
        evaluate_rows(rows, manifest, settings=FEW)
