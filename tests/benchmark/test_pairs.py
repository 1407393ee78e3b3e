"""Methods against the reference: DeLong on the cases both have, Holm over the methods."""

from __future__ import annotations

import numpy as np
import pytest

from anymc3d.benchmark.pairs import JobScores, averaged, paired_rows
from anymc3d.evaluate.delong import delong_paired_test


def scored(scores, targets, patients=None):
    cases = tuple(f"c{index}" for index in range(len(scores)))
    who = np.array(patients or cases, dtype=object)
    return JobScores(("label",), cases, who, np.array(targets, float)[:, None], np.array(scores, float)[:, None])


@pytest.fixture(scope="module")
def methods():
    rng = np.random.default_rng(3)
    targets = np.arange(80) % 4 == 0
    noise = {"reference": 0.8, "near": 0.9, "far": 2.5, "worst": 30.0}
    return {name: (scored(targets + spread * rng.normal(size=80), targets), {}) for name, spread in noise.items()}


def table(rows):
    return {(row["method"], row["metric"]): row for row in rows}


def test_the_difference_is_the_method_minus_the_reference(methods):
    found = table(paired_rows(methods, "reference"))
    base, far = methods["reference"][0], methods["far"][0]
    expected = delong_paired_test(far.targets[:, 0], far.scores[:, 0], base.scores[:, 0])
    assert found["far", "auroc_difference"]["value"] == pytest.approx(expected.difference)
    assert found["far", "auroc_difference"]["value"] < 0
    assert found["far", "auroc_difference_p"]["value"] == pytest.approx(expected.p_value)
    assert {row["reference"] for row in found.values()} == {"reference"}
    assert "reference" not in {name for name, _ in found}


def test_holm_is_over_the_methods_that_were_compared(methods):
    """S. Holm 1979: sorted p-values times 3, 2, 1, never falling."""
    found = table(paired_rows(methods, "reference"))
    raw = {name: found[name, "auroc_difference_p"]["value"] for name in ("near", "far", "worst")}
    largest = 0.0
    for factor, name in zip((3, 2, 1), sorted(raw, key=raw.get), strict=True):
        largest = max(largest, min(1.0, factor * raw[name]))
        assert found[name, "auroc_difference_p_holm"]["value"] == pytest.approx(largest)


def test_cases_that_one_of_the_two_failed_on_are_left_out(methods):
    base, far = methods["reference"][0], methods["far"][0]
    holes = far.scores.copy()
    holes[[0, 5, 9]] = np.nan
    found = table(paired_rows({"reference": (base, {}), "far": (JobScores(*_parts(far, holes)), {})}, "reference"))
    assert found["far", "auroc_difference"]["n"] == 77


def test_several_rows_of_a_patient_are_compared_by_patient(methods):
    base, far = methods["reference"][0], methods["far"][0]
    patients = [f"p{index // 2}" for index in range(80)]
    pair = {
        name: (scored(one.scores[:, 0], one.targets[:, 0], patients), {})
        for name, one in (("reference", base), ("far", far))
    }
    found = table(paired_rows(pair, "reference"))
    both = [one.scores[:, 0] for one in (far, base)]
    expected = delong_paired_test(far.targets[:, 0], *both, patients=patients)
    row = found["far", "auroc_difference"]
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((expected.interval.low, expected.interval.high))
    assert found["far", "auroc_difference_p"]["value"] == pytest.approx(expected.p_value)


def test_without_the_reference_nothing_is_paired(methods):
    assert list(paired_rows({"far": methods["far"]}, "reference")) == []


def test_averaging_over_seeds_is_of_each_cases_score():
    first, second = scored([0.0, 2.0, np.nan], [0, 1, 1]), scored([4.0, 4.0, 1.0], [0, 1, 1])
    pooled = averaged([first, second]).scores[:, 0]
    assert pooled[:2] == pytest.approx([2.0, 3.0])
    assert np.isnan(pooled[2])


def _parts(one, scores):
    return one.labels, one.cases, one.patients, one.targets, scores
