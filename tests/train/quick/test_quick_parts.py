"""The parts of train --quick: heads on cached features, nested cross-validation, curve, slices, verdict."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from anymc3d.data.case import Case
from anymc3d.errors import ManifestError, UsageError
from anymc3d.evaluate.influence import auroc_influence
from anymc3d.settings.config import DataSettings, LabelSettings, TaskSettings
from anymc3d.settings.views import ViewSettings
from anymc3d.train.quick import verdict
from anymc3d.train.quick.crossval import Pool, choose, make_pool, nested, smallest_within_error
from anymc3d.train.quick.curve import Curve, CurvePoint, Estimate, make_curve
from anymc3d.train.quick.heads import HeadLearner, embed, measure_scale, stack_tokens
from anymc3d.train.quick.settings import Candidate, QuickSettings, candidates
from anymc3d.train.quick.slices import ALL, WORK, limit_slices
from anymc3d.train.quick.summary import is_given_away

BINARY = LabelSettings(columns=("y",), kind="binary", classes=("0", "1"))
KINDS = {
    "binary": BINARY,
    "multiclass": LabelSettings(columns=("y",), kind="multiclass", classes=("a", "b", "c")),
    "ordinal": LabelSettings(columns=("y",), kind="ordinal", classes=("low", "mid", "high")),
    "multilabel": LabelSettings(columns=("y", "z"), kind="multilabel"),
}
GRID = tuple(Candidate(fusion, decay) for fusion in ("mean", "query", "concat") for decay in (0.3, 0.03))


def noise_tokens(num_cases, width=8, views=("axial", "sagittal"), seed=0):
    rng = np.random.default_rng(seed)
    return [{v: rng.normal(1, 2, (3, width)).astype(np.float32) for v in views} for _ in range(num_cases)]


def pool_of(targets, labels=BINARY, folds=4, patients=None):
    targets = np.asarray(targets, dtype=float).reshape(len(targets), -1)
    names = patients or [f"p{i}" for i in range(len(targets))]
    cases = [case(name, name) for name in names]
    return make_pool(cases, targets, labels, folds=folds, seed=0)


def case(name, patient, fold=None):
    return Case(
        id=name,
        patient=patient,
        images={},
        masks={},
        cells={},
        split=None,
        fold=fold,
        spacing=None,
        center=None,
        row=2,
    )


def targets_of(kind, num_cases, rng):
    if kind == "multilabel":
        targets = rng.integers(0, 2, (num_cases, 2)).astype(float)
        targets[::7, 1] = np.nan
        return targets
    return (np.arange(num_cases) % len(KINDS[kind].classes)).astype(float)[:, None]


def test_the_mean_of_slices_is_a_logistic_regression_with_that_decay():
    """Two logits share the weight, so half their decay is scikit-learn's."""
    cases = noise_tokens(60, views=("image",))
    pooled = np.stack([c["image"].mean(axis=0) for c in cases])
    targets = (pooled[:, 0] + np.random.default_rng(1).normal(0, 1, 60) > 1).astype(float)
    learner = HeadLearner(stack_tokens(cases, ("image",)), targets[:, None], BINARY, [Candidate("mean", 0.2)])
    (logits,) = learner.path(np.arange(40), np.arange(40, 60))
    scaler = StandardScaler().fit(pooled[:40])
    other = LogisticRegression(C=2 / (0.2 * 40), tol=1e-10, max_iter=1000)
    other.fit(scaler.transform(pooled[:40]), targets[:40])
    expected = other.decision_function(scaler.transform(pooled[40:]))
    np.testing.assert_allclose(logits[:, 1] - logits[:, 0], expected, atol=2e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_raw_tensors_give_the_logits_of_the_standardised_fit(kind):
    """So what is trained on cached features is what the plugin's own forward computes, missing views included."""
    rng = np.random.default_rng(0)
    cases = noise_tokens(30)
    cases[3]["axial"], cases[5]["sagittal"] = None, cases[5]["sagittal"][:1]
    labels, rows = KINDS[kind], np.arange(30)
    tokens = stack_tokens(cases, ("axial", "sagittal"))
    learner = HeadLearner(tokens, targets_of(kind, 30, rng), labels, GRID)
    for number, logits in enumerate(learner.path(rows, rows)):
        classifier = learner.new_classifier(GRID[number])
        classifier.load_tensors(learner.tensors(rows, number))
        packed = {name: padded[mask] for name, (padded, mask) in tokens.views.items()}
        counts = {name: tuple(mask.sum(dim=1).tolist()) for name, (_, mask) in tokens.views.items()}
        with torch.inference_mode():
            np.testing.assert_allclose(classifier.fuse(packed, counts).logits.numpy(), logits, atol=1e-4)


def test_representations_of_several_widths_compete_and_views_of_two_stand_side_by_side():
    """What keeps places has one row a scan, as wide as its view has places."""
    rng = np.random.default_rng(0)
    class_tokens = stack_tokens(noise_tokens(30), ("axial", "sagittal"))
    rows = [{"axial": rng.normal(5, 2, (1, 6)), "sagittal": rng.normal(0, 3, (1, 4))} for _ in range(30)]
    rows = [{name: row.astype(np.float32) for name, row in case.items()} for case in rows]
    rows[4]["axial"], grid = None, (Candidate("mean", 0.1), Candidate("concat", 0.1, "place"))
    tokens = {"class": class_tokens, "place": stack_tokens(rows, ("axial", "sagittal"))}
    learner = HeadLearner(tokens, (np.arange(30) % 2)[:, None].astype(float), BINARY, grid)
    assert learner.sizes == (8, 10)
    every = np.arange(30)
    for number, (candidate, logits) in enumerate(zip(grid, learner.path(every, every), strict=True)):
        classifier = learner.new_classifier(candidate)
        classifier.load_tensors(learner.tensors(every, number))
        views = tokens[candidate.features].views
        packed = {name: padded[mask] for name, (padded, mask) in views.items()}
        counts = {name: tuple(mask.sum(dim=1).tolist()) for name, (_, mask) in views.items()}
        with torch.inference_mode():
            np.testing.assert_allclose(classifier.fuse(packed, counts).logits.numpy(), logits, atol=1e-4)


def test_of_two_that_are_level_the_smaller_is_taken_and_a_clear_winner_is_not_given_up():
    rng = np.random.default_rng(0)
    targets = (np.arange(200) % 2)[:, None].astype(float)
    good, bad = (targets + rng.normal(0, noise, (200, 1)) for noise in (0.5, 3.0))
    level = good + rng.normal(0, 0.05, (200, 1))
    names = [str(index) for index in range(200)]
    small_bad, small_level, large = (auroc_influence(targets, scores) for scores in (bad, level, good))
    assert smallest_within_error([small_bad, large], (8, 16), names) == 1
    assert smallest_within_error([small_level, large], (8, 16), names) == 0
    assert smallest_within_error([large, small_level], (16, 16), names) in (0, 1)
    assert smallest_within_error([small_level, small_bad, large], (8, 8, 16), names) == 0
    nothing = auroc_influence(np.zeros((4, 1)), np.zeros((4, 1)))
    assert smallest_within_error([nothing, nothing], (1, 1), names[:4]) == 0


def test_a_query_finds_the_slice_that_matters():
    """One slice of ten carries the label and a mark that says so; the mean drowns it, a query looks for the mark."""
    rng = np.random.default_rng(0)
    targets, cases = np.arange(120) % 2, []
    for target in targets:
        slices = rng.normal(0, 1, (10, 6)).astype(np.float32)
        where = rng.integers(10)
        slices[where, 0], slices[where, 1] = 6.0, 2.0 * target - 1
        cases.append({"image": slices})
    grid = [Candidate("mean", 0.01), Candidate("query", 0.01)]
    learner = HeadLearner(stack_tokens(cases, ("image",)), targets[:, None].astype(float), BINARY, grid)
    mean, query = learner.path(np.arange(80), np.arange(80, 120))
    scores = [roc_auc_score(targets[80:], logits[:, 1] - logits[:, 0]) for logits in (mean, query)]
    assert scores[1] > scores[0] + 0.1


class Spy:
    """A learner that remembers who was asked for what; candidate 1 repeats the label of the training case before."""

    candidates = (0, 1)
    sizes = (1, 1)

    def __init__(self, targets):
        self.targets, self.calls = targets, []

    def path(self, train, ask):
        self.calls.append((set(train), set(ask)))
        score = np.random.default_rng(len(train)).normal(size=len(ask))
        return [np.stack([-s, s], axis=1) for s in (score, -score)]


def test_no_case_of_an_outer_fold_is_fitted_on_or_chosen_by():
    pool = pool_of(np.arange(40) % 2, patients=[f"p{i // 2}" for i in range(40)])
    spy = Spy(pool.targets)
    nested(spy, pool, inner_folds=3, seed=0)
    patient = np.array(pool.patients)
    calls = iter(spy.calls)
    for number in range(4):
        held_out = set(np.flatnonzero(pool.folds == number))
        for _ in range(3):
            train, ask = next(calls)
            assert not (train | ask) & held_out
            assert not set(patient[list(train)]) & set(patient[list(ask)])
        train, ask = next(calls)
        assert not train & held_out and held_out <= ask
    assert next(calls, None) is None


def test_parts_of_the_training_cases_keep_the_held_out_cases_and_both_outcomes():
    pool = pool_of((np.arange(60) % 3 == 0).astype(float))
    spies = {}
    for draw in (0, 1):
        spies[draw] = Spy(pool.targets)
        found = nested(spies[draw], pool, inner_folds=2, seed=0, fraction=0.5, draw=draw)
        assert np.isfinite(found.logits).all()
        assert all(20 <= number <= 25 for number in found.num_train)
    trained = [[call[0] for call in spy.calls[2::3]] for spy in spies.values()]
    assert trained[0] != trained[1]
    for train in trained[0]:
        assert 0 < pool.targets[list(train)].sum() < len(train)


def test_shuffled_labels_are_not_predicted():
    """The whole procedure, choice included, on labels without meaning: about 0.5 on the average of some shuffles."""
    tokens = stack_tokens(noise_tokens(60, width=24, views=("image",)), ("image",))
    found = []
    for seed in range(6):
        targets = np.random.default_rng(seed).permutation(np.arange(60) % 2).astype(float)[:, None]
        pool = pool_of(targets, folds=3)
        learner = HeadLearner(tokens, targets, BINARY, [Candidate("mean", decay) for decay in (1.0, 0.1)])
        found.append(pool.auroc(nested(learner, pool, inner_folds=2, seed=seed).logits).value)
    assert abs(np.mean(found) - 0.5) < 0.09
    assert np.mean(found) < 0.6 < roc_auc_score([0, 1, 1], [0, 1, 2])


def test_auroc_is_scikit_learns_and_equals_are_decided_for_the_simplest():
    targets = (np.arange(30) % 2).astype(float)
    pool = pool_of(targets)
    logits = np.random.default_rng(0).normal(size=(30, 2))
    assert pool.auroc(logits).value == pytest.approx(roc_auc_score(targets, logits[:, 1] - logits[:, 0]), abs=1e-12)

    class Same:
        candidates = (0, 1, 2)
        sizes = (1, 1, 1)

        def path(self, train, ask):
            return [np.stack([0 * ask, ask % 2], axis=1).astype(float)] * 3

    assert choose(Same(), pool, np.arange(30), inner_folds=3, seed=0) == 0


def test_B14_an_outcome_with_too_few_patients_is_named():
    targets = np.r_[np.zeros(20), np.ones(3)]
    with pytest.raises(ManifestError, match=r"expected 5 patients or more with y = '1' .* got 3"):
        pool_of(targets, folds=5)


def test_the_fold_column_is_honoured():
    cases = [case(f"c{i}", f"c{i}", fold="ab"[i % 2]) for i in range(12)]
    pool = make_pool(cases, (np.arange(12) // 2 % 2).astype(float)[:, None], BINARY, folds=5, seed=0)
    assert pool.fold_names == ("a", "b")
    assert pool.folds.tolist() == [i % 2 for i in range(12)]
    cases[4] = case("c4", "c4")
    with pytest.raises(ManifestError, match="fold is empty"):
        make_pool(cases, np.zeros((12, 1)), BINARY, folds=5, seed=0)


def rising_curve(steps, spread=0.002, num_cases=400):
    """A curve of out-of-fold logits whose AUROC rises with the training cases; ``steps``: separation at each size."""
    rng = np.random.default_rng(0)
    targets = (np.arange(num_cases) % 2).astype(float)
    pool = Pool(tuple(map(str, range(num_cases))), targets[:, None], BINARY, np.zeros(num_cases, int), ("0",))
    noise = rng.normal(size=num_cases)

    def logits(separation):
        score = noise + separation * targets + rng.normal(0, spread * 20, num_cases)
        return np.stack([-score / 2, score / 2], axis=1)

    fits = {f: [logits(s) for _ in range(3 if f < 1 else 1)] for f, s in zip((0.25, 0.5, 1.0), steps, strict=True)}
    return make_curve(pool, fits, {0.25: 100, 0.5: 200, 1.0: 400}, resamples=200, seed=0)


def test_a_rising_curve_says_likely_a_flat_one_unlikely_a_wild_one_cannot_tell():
    whole = Estimate(0.85, 0.81, 0.89)
    rising = rising_curve((0.8, 1.2, 1.6))
    assert verdict.more_data(whole, rising).answer == verdict.LIKELY
    assert rising.gain.doubling.low < rising.gain.doubling.value < rising.gain.doubling.high
    assert verdict.more_data(whole, rising_curve((1.3, 1.3, 1.3), spread=0.0005)).answer == verdict.UNLIKELY
    assert verdict.more_data(whole, rising_curve((1.2, 1.25, 1.3), spread=0.1)).answer == verdict.CANNOT_TELL


def test_the_fitted_gain_is_exact_for_a_curve_of_that_form():
    """a - b n^-1/2 at 100, 200, 400 cases: the gain by doubling is b (400^-1/2 - 800^-1/2)."""
    from anymc3d.train.quick.curve import _slope

    sizes = np.array([100.0, 200.0, 400.0])
    assert _slope(sizes, 0.5) @ (0.9 - 1.7 * sizes**-0.5) == pytest.approx(1.7 * (400**-0.5 - 800**-0.5))


def test_what_is_said_of_lora_follows_its_rules():
    none = Curve((CurvePoint(1.0, 10, Estimate(None, None, None), (), "too few"),), None)
    chance = Estimate(0.55, 0.45, 0.65)
    assert verdict.more_data(chance, none).answer == verdict.CANNOT_TELL
    data = verdict.Verdict(verdict.CANNOT_TELL, "")
    assert verdict.lora(chance, 0.9, data).answer == verdict.CANNOT_TELL
    assert verdict.lora(Estimate(0.99, 0.98, 1.0), 1.0, data).answer == verdict.NO_ROOM
    good = Estimate(0.85, 0.82, 0.88)
    assert verdict.lora(good, 0.95, data).answer == verdict.CANNOT_TELL
    assert verdict.lora(good, 0.86, data).answer == verdict.TRY
    assert verdict.lora(good, 0.95, replace(data, answer=verdict.UNLIKELY)).answer == verdict.TRY
    for auroc in (chance, good):
        assert "No LoRA was trained" in verdict.lora(auroc, 0.9, data).because


def task_with(*views, fusion="query"):
    named = {f"v{i}": view for i, view in enumerate(views)} if len(views) > 1 else {"image": views[0]}
    return TaskSettings(name="t", labels=BINARY, data=DataSettings(manifest="m.csv"), views=named, fusion=fusion)


def test_slices_are_thinned_out_to_the_work_and_never_added():
    view = ViewSettings(size=(98, 98, 64))

    def sizes(task, num_cases, wanted=None):
        limit = limit_slices(task, num_cases=num_cases, patch_size=14, num_parameters=22_000_000, wanted=wanted)
        return [v.size[2] for v in limit.views.values()], limit.notes

    assert sizes(task_with(view), 50) == ([64], ())
    found, notes = sizes(task_with(view), 1286)
    assert found == [7] and notes == ("view image: 7 slices instead of 64 slices",)
    assert 1286 * 7 * 2 * 22e6 * 49 <= WORK < 1286 * 8 * 2 * 22e6 * 49
    assert sizes(task_with(view, view, replace(view, size=(98, 98, 2))), 1286)[0] == [2, 2, 2]
    assert sizes(task_with(view), 10**6)[0] == [2]
    assert sizes(task_with(view), 10, wanted=5)[0] == [5]
    assert sizes(task_with(view), 10**6, wanted=ALL)[0] == [64]
    assert sizes(task_with(replace(view, size=(98, 98, None))), 50)[0] == [None]
    assert sizes(task_with(replace(view, size=(98, 98, None))), 1286)[0] == [7]


def test_a_fusion_that_takes_long_to_train_is_refused():
    assert candidates(task_with(ViewSettings(size=(98, 98, 4))), QuickSettings())[0] == Candidate("mean", 1.0)
    with pytest.raises(UsageError, match="fusion: lstm cannot be trained by --quick"):
        candidates(task_with(ViewSettings(size=(98, 98, 4)), fusion="lstm"), QuickSettings())


def test_embeddings_are_those_of_the_classifier(monkeypatch):
    """``embed`` pools padded tokens as ``fuse`` pools packed ones, queries that are not zero included."""
    cases = noise_tokens(6)
    cases[1]["sagittal"] = None
    tokens = stack_tokens(cases, ("axial", "sagittal"))
    classifier = HeadLearner(tokens, np.zeros((6, 1)), BINARY, GRID).new_classifier(Candidate("query", 0.3))
    with torch.no_grad():
        for parameter in classifier.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
        packed = {name: padded[mask] for name, (padded, mask) in tokens.views.items()}
        counts = {name: tuple(mask.sum(dim=1).tolist()) for name, (_, mask) in tokens.views.items()}
        expected = classifier.fuse(packed, counts).logits
        torch.testing.assert_close(classifier.head(embed(classifier, tokens)), expected)
        scale = measure_scale(tokens)
        before = classifier.head(embed(classifier, tokens.standardised(dict.fromkeys(tokens.views, scale))))
        classifier.scale = scale
        torch.testing.assert_close(classifier.fuse(packed, counts).logits, before, atol=1e-5, rtol=1e-5)
        classifier.load_tensors(classifier.plugin_tensors())
        torch.testing.assert_close(classifier.head(embed(classifier, tokens)), before, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("alone", "difference", "told"), [(0.8, -0.1, True), (0.8, 0.02, False), (0.45, -0.1, False), (None, None, False)]
)
def test_features_that_are_no_better_than_plain_measurements_are_a_warning(alone, difference, told):
    trivial = {"auroc": {"low": alone}, "frozen_minus_trivial": {"low": difference}}
    assert is_given_away(trivial, 0.5) is told
