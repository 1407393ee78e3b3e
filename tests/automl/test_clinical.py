"""Clinical columns beside the image: the choice of the three, nested, and as plugins hold it."""

import numpy as np
import pytest

from anymc3d.automl.clinical import Clinical, deployed_clinical, estimate_clinical
from anymc3d.automl.settings import AutoSettings
from anymc3d.settings.config import DataSettings, LabelSettings, TaskSettings
from anymc3d.settings.views import ViewSettings
from anymc3d.train.quick.crossval import Pool

N = 240
LABELS = {
    "binary": LabelSettings(columns=("y",), kind="binary", classes=("0", "1")),
    "regression": LabelSettings(columns=("y",), kind="regression"),
}


def study(kind, *, image, column):
    """Answers of an image and a column ``age`` that know so much of the target; the rest is noise."""
    rng = np.random.default_rng(3)
    labels = LABELS[kind]
    targets = (np.arange(N) % 2).astype(float) if kind == "binary" else rng.normal(size=N)
    signs = 2 * targets - 1 if kind == "binary" else targets
    seen = image * signs + rng.normal(size=N)
    seen = seen if kind == "binary" else image * seen / 2
    ages = 60 + 10 * (column * signs + rng.normal(size=N))
    pool = Pool(tuple(map(str, range(N))), targets[:, None], labels, np.arange(N) // 2 % 4, tuple("abcd"))
    task = TaskSettings(
        name="t",
        labels=labels,
        data=DataSettings(manifest="m.csv"),
        views={"image": ViewSettings(size=(14, 14, 2))},
        covariates=("age",),
        calibration="none" if kind == "regression" else "youden",
    )
    head = np.stack([np.zeros(N), seen], axis=1) if kind == "binary" else seen[:, None]
    inner = [head[pool.folds != number] for number in range(4)]
    return Clinical(task, [{"age": repr(float(age))} for age in ages]), pool, head, inner


@pytest.mark.parametrize("kind", ["binary", "regression"])
@pytest.mark.parametrize(
    ("image", "column", "expected"), [(1.0, 1.0, "both"), (1.0, 0.0, "image"), (0.0, 1.0, "covariates")]
)
def test_the_simplest_that_is_level_with_the_best_is_taken_in_every_fold(kind, image, column, expected):
    clinical, pool, head, inner = study(kind, image=image, column=column)
    settings = AutoSettings()
    found = estimate_clinical(clinical, pool, head, inner, settings)
    assert set(found.chosen) == {expected}
    member = deployed_clinical(clinical, pool, head, settings)
    assert member.chosen == expected
    assert (member.record is None) == (expected == "image")
    told = member.raw(found.answers.image, found.answers.alone)
    if expected == "both":
        assert np.corrcoef(told[:, 0], found.answers.both[:, 0])[0, 1] > 0.99
        assert pool.auroc(found.logits).value > pool.auroc(head).value + 0.05
    else:
        assert told == pytest.approx({"image": found.answers.image, "covariates": found.answers.alone}[expected])


def test_columns_that_know_nothing_do_not_join_an_image_whose_logits_are_badly_scaled():
    clinical, pool, head, _ = study("binary", image=1.0, column=0.0)
    assert deployed_clinical(clinical, pool, 0.3 * head, AutoSettings()).chosen == "image"


def test_a_column_with_one_text_among_numbers_is_a_category_in_every_fold():
    clinical, pool, head, inner = study("binary", image=1.0, column=1.0)
    grades = [{"age": "1" if pool.targets[row, 0] else "2"} for row in range(N)]
    grades[0]["age"] = "2a"
    found = estimate_clinical(Clinical(clinical.task, grades), pool, head, inner, AutoSettings())
    assert np.isfinite(found.logits).all()


def test_cases_of_a_fold_choose_and_fit_nothing_of_their_own_answers():
    clinical, pool, head, inner = study("binary", image=1.0, column=1.0)
    before = estimate_clinical(clinical, pool, head, inner, AutoSettings()).logits
    turned = pool.targets.copy()
    turned[pool.folds == 0] = 1 - turned[pool.folds == 0]
    other = Pool(pool.patients, turned, pool.labels, pool.folds, pool.fold_names)
    after = estimate_clinical(clinical, other, head, inner, AutoSettings()).logits
    assert after[pool.folds == 0] == pytest.approx(before[pool.folds == 0], abs=0)
    assert not np.allclose(after[pool.folds != 0], before[pool.folds != 0])
