"""Tables of Dice and of heatmap scores: what a hand changed is refused, and who is left out of a mean is told."""

import numpy as np
import pytest

from anymc3d.errors import UsageError
from anymc3d.evaluate.heatmap_rows import METRICS, heatmap_rows
from anymc3d.evaluate.measures import Sampling
from anymc3d.evaluate.segmentation_rows import left_out, segmentation_rows

SAMPLING = Sampling(num_resamples=200)
PATIENTS = {f"c{index}": f"p{index}" for index in range(4)}


def dice_table(**cells):
    row = {"image": "image", "label": "1", "status": "ok", "message": "", "volume_ml": "1", "true_volume_ml": "1"}
    return [row | {"case": case, "dice": f"0.{index + 1}"} | cells for index, case in enumerate(PATIENTS)]


def dice_rows(table):
    return list(segmentation_rows(table, PATIENTS, split="test", plugin="p", sampling=SAMPLING))


def heat_table(**cells):
    row = {"label": "lesion", "view": "image", "method": "rollout", **dict.fromkeys(METRICS.values(), "0.5")}
    return [row | {"case": case} | cells for case in PATIENTS]


def heat_rows(table):
    return list(heatmap_rows(table, {"lesion": PATIENTS}, split="test", plugin="p", sampling=SAMPLING))


def test_dice_is_the_mean_over_cases():
    (row,) = dice_rows(dice_table())
    assert row["value"] == pytest.approx(np.mean([0.1, 0.2, 0.3, 0.4])) and row["n"] == 4


@pytest.mark.parametrize("cell", ["high", "nan", "inf", "1.5", "-0.1"])
def test_a_dice_that_cannot_be_one_is_refused_with_its_place(cell):
    with pytest.raises(UsageError, match="--segmentations: dice of case 'c0', image 'image', label '1': expected"):
        dice_rows(dice_table(dice=cell))


@pytest.mark.parametrize("cell", ["far", "nan", "inf"])
def test_a_heatmap_score_that_is_no_number_is_refused_with_its_place(cell):
    with pytest.raises(UsageError, match="--heatmaps: peak_distance_mm of case 'c0', label 'lesion'"):
        heat_rows(heat_table(peak_distance_mm=cell))


def test_two_tables_pasted_together_do_not_count_their_cases_twice():
    with pytest.raises(UsageError, match="two rows of case 'c0', image 'image', label '1'"):
        dice_rows(dice_table() * 2)
    with pytest.raises(UsageError, match="two rows of case 'c0', label 'lesion'"):
        heat_rows(heat_table() * 2)


def test_evaluated_cases_that_are_not_in_the_mean_are_counted_aloud():
    table = dice_table()
    assert left_out(table, list(PATIENTS)) == []
    failed = [table[0] | {"label": "", "image": "", "status": "error"}, table[1] | {"status": "warn"}, *table[2:3]]
    no_map, no_mask = left_out(failed, list(PATIENTS))
    assert "2 of 4 evaluated cases have no map" in no_map
    assert "masks of 1 evaluated cases cannot be used" in no_mask
    assert left_out(failed, ["c2"]) == []
