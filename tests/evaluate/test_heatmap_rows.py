"""Heatmap scores as metrics: on positive cases alone, with intervals, undefined ones with a reason."""

import numpy as np
import pytest

from anymc3d.errors import UsageError
from anymc3d.evaluate.heatmap_rows import METRICS, heatmap_rows
from anymc3d.evaluate.measures import Sampling

SAMPLING = Sampling(num_resamples=400)


def table(num_cases=12, views=("image",), **cells):
    rng = np.random.default_rng(0)
    return [
        {"case": f"c{i}", "label": "lesion", "view": view, "method": method}
        | {
            column: str(float(rng.random() > 0.4) if column == "peak_in_mask" else rng.random())
            for column in METRICS.values()
        }
        | cells
        for i in range(num_cases)
        for method in ("attention", "rollout")
        for view in views
    ]


def rows_of(scores, positives):
    rows = heatmap_rows(scores, {"lesion": positives}, split="test", plugin="p", sampling=SAMPLING)
    return {(row["group"], row["metric"]): row for row in rows}


def test_means_are_over_the_positive_cases_alone():
    scores = table()
    positives = {f"c{i}": f"p{i}" for i in range(0, 12, 2)}
    rows = rows_of(scores, positives)
    assert set(rows) == {(f"heatmap={m}", metric) for m in ("attention", "rollout") for metric in METRICS}
    chosen = [float(r["mass_in_mask"]) for r in scores if r["method"] == "rollout" and r["case"] in positives]
    row = rows["heatmap=rollout", "mass_in_mask"]
    assert row["value"] == pytest.approx(np.mean(chosen))
    assert (row["n"], row["n_positive"]) == (6, 6)
    assert row["ci_low"] < row["value"] < row["ci_high"]
    assert rows["heatmap=rollout", "pointing_game"]["ci_method"] == "wilson"


def test_several_cases_of_one_patient_are_drawn_together():
    rows = rows_of(table(), {f"c{i}": f"p{i // 2}" for i in range(12)})
    assert rows["heatmap=attention", "pointing_game"]["ci_method"] == "wilson_clustered"


def test_the_map_over_all_views_is_the_one_that_counts():
    scores = [
        row | {"mass_in_mask": "1.0" if row["view"] == "fused" else "0.0"} for row in table(views=("axial", "fused"))
    ]
    assert rows_of(scores, {"c0": "p", "c1": "q"})["heatmap=attention", "mass_in_mask"]["value"] == 1.0


def test_a_score_that_was_not_asked_for_has_a_reason_and_no_value():
    row = rows_of(table(deletion=""), {"c0": "p"})["heatmap=attention", "deletion"]
    assert row["value"] is None
    assert "not asked for" in row["reason"]
    assert row["n"] == 0


def test_another_table_or_another_plugins_labels_are_refused():
    with pytest.raises(UsageError, match="expected the heatmap_scores"):
        rows_of([{"case": "c0", "logit": "1"}], {"c0": "p"})
    with pytest.raises(UsageError, match="expected maps of lesion, the table has stone"):
        rows_of(table(label="stone"), {"c0": "p"})
