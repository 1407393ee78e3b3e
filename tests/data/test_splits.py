"""Splits keep patients whole, classes in proportion, and do not depend on the order of the rows."""

import random
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anymc3d.data.case import Case
from anymc3d.data.splits import assign_splits, check_no_leak, make_folds, make_splits, split_hash
from anymc3d.errors import ManifestError, UsageError

FRACTIONS = (0.7, 0.1, 0.2)


def case(patient, split=None, row=2) -> Case:
    empty = {"images": {}, "masks": {}, "cells": {}}
    return Case(id=f"c{row}", patient=patient, **empty, split=split, fold=None, spacing=None, center=None, row=row)


label = st.sampled_from([0.0, 1.0, float("nan")])
rows = st.lists(st.tuples(st.integers(0, 40), label, label), min_size=1, max_size=120)


@settings(max_examples=300)
@given(rows, st.integers(0, 10**6), st.sampled_from([FRACTIONS, (0.5, 0.5, 0.0), (0.6, 0.2, 0.2)]))
def test_B12_no_patient_is_ever_in_two_splits_whatever_the_manifest(table, seed, fractions):
    patients = [f"p{row[0]}" for row in table]
    splits = make_splits(patients, [row[1:] for row in table], fractions=fractions, seed=seed)
    check_no_leak(patients, splits)
    assert set(splits) <= {name for name, part in zip(("train", "val", "test"), fractions, strict=True) if part > 0}
    assert "train" in splits


@settings(max_examples=100)
@given(rows, st.randoms(use_true_random=False))
def test_the_order_of_the_rows_does_not_matter(table, rng):
    shuffled = list(enumerate(table))
    rng.shuffle(shuffled)
    expected = make_splits([f"p{r[0]}" for r in table], [r[1:] for r in table], fractions=FRACTIONS, seed=3)
    got = make_splits([f"p{r[0]}" for _, r in shuffled], [r[1:] for _, r in shuffled], fractions=FRACTIONS, seed=3)
    assert [expected[i] for i, _ in shuffled] == got


@settings(max_examples=100)
@given(st.lists(st.integers(3, 30), min_size=2, max_size=5), st.integers(0, 99))
def test_every_split_has_every_class_that_three_patients_have(sizes, seed):
    classes = [float(index) for index, size in enumerate(sizes) for _ in range(size)]
    splits = make_splits([str(i) for i in range(len(classes))], classes, fractions=FRACTIONS, seed=seed)
    found = defaultdict(set)
    for split, value in zip(splits, classes, strict=True):
        found[split].add(value)
    assert all(found[split] == set(classes) for split in ("train", "val", "test"))


@pytest.mark.parametrize("cases_per_patient", [1, 4])
@pytest.mark.parametrize("prevalence", [0.02, 0.3])
def test_sizes_and_prevalence_are_close_in_every_split(cases_per_patient, prevalence):
    rng = random.Random(1)
    patients, targets = [], []
    for patient in range(1000):
        positive = float(rng.random() < prevalence)
        for _ in range(rng.randint(1, cases_per_patient)):
            patients.append(str(patient))
            targets.append((positive, float(rng.random() < 0.1)))
    splits = np.array(make_splits(patients, targets, fractions=FRACTIONS, seed=0))
    overall = np.mean(targets, axis=0)
    for name, fraction in zip(("train", "val", "test"), FRACTIONS, strict=True):
        chosen = splits == name
        assert abs(chosen.mean() - fraction) < 0.01
        np.testing.assert_allclose(np.asarray(targets)[chosen].mean(axis=0), overall, atol=0.015)


def test_another_seed_gives_another_split_and_the_same_seed_the_same():
    patients, targets = [str(i) for i in range(50)], [float(i % 2) for i in range(50)]
    first, again, other = (make_splits(patients, targets, fractions=FRACTIONS, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first != other


@pytest.mark.parametrize(("num_labels", "most"), [(1, 0.01), (5, 0.05), (18, 0.08)])
def test_ten_seeds_are_ten_different_splits_that_keep_every_labels_prevalence(num_labels, most):
    """What ten ensemble members on prevalence-preserving splits need (supplement D)."""
    rng = np.random.default_rng(num_labels)
    shares = rng.uniform(0.04, 0.5, num_labels)
    targets = (rng.random((600, num_labels)) < shares).astype(float)
    patients = [f"p{i // 2}" for i in range(600)]
    splits = [make_splits(patients, targets, fractions=(0.8, 0.2, 0.0), seed=seed) for seed in range(10)]
    assert len({tuple(split) for split in splits}) == 10
    validated = np.stack([np.array(split) == "val" for split in splits])
    for split in splits:
        check_no_leak(patients, split)
    by_chance = [np.repeat(np.isin(np.arange(300), rng.permutation(300)[:60]), 2) for _ in range(10)]
    ours, chance = (
        np.stack([targets[m].mean(axis=0) for m in found]) - targets.mean(axis=0) for found in (validated, by_chance)
    )
    assert np.abs(ours).max() <= most
    assert (ours**2).mean() < (chance**2).mean()
    rare = np.argsort(targets.sum(axis=0))[: max(1, num_labels // 3)]
    counts = np.stack([targets[m][:, rare].sum(axis=0) for m in validated])
    assert np.abs(counts - 0.2 * targets[:, rare].sum(axis=0)).max() <= 2, "rare labels are dealt out exactly"
    shared = np.mean([(a & b).sum() / a.sum() for i, a in enumerate(validated) for b in validated[i + 1 :]])
    assert shared < 0.25, "two validation splits share what independent draws would (0.2), not more"


def test_fifty_thousand_patients_take_seconds():
    rng = np.random.default_rng(0)
    targets = (rng.random((50_000, 18)) < 0.1).astype(float)
    splits = make_splits([str(i) for i in range(50_000)], targets, fractions=FRACTIONS, seed=0)
    share = np.mean(np.asarray(splits) == "train")
    assert abs(share - 0.7) < 0.01


def test_labels_for_another_number_of_cases_are_refused():
    with pytest.raises(UsageError, match="got 1 rows for 2 cases"):
        make_splits(["a", "b"], [0.0], fractions=FRACTIONS, seed=0)


def test_the_manifests_own_split_is_kept_and_checked():
    cases = [case("a", "train", 2), case("b", "test", 3), case("a", "train", 4)]
    assert assign_splits(cases, [[0], [1], [1]], fractions=FRACTIONS, seed=0) == ["train", "test", "train"]
    with pytest.raises(ManifestError, match=r"patient 'a' is in 2 splits \(test, train\)"):
        assign_splits([*cases, case("a", "test", 5)], [[0]] * 4, fractions=FRACTIONS, seed=0)
    with pytest.raises(ManifestError, match="row 5: split is empty"):
        assign_splits([*cases, case("c", None, 5)], [[0]] * 4, fractions=FRACTIONS, seed=0)


def test_the_hash_of_a_split_depends_on_its_ids_and_salt_and_not_on_their_order():
    assert split_hash(["a", "b"], "s") == split_hash(["b", "a"], "s")
    hashes = {split_hash(ids, salt) for ids, salt in [(["ab", "c"], "s"), (["a", "bc"], "s"), (["ab", "c"], "t")]}
    assert len(hashes) == 3


def test_folds_hold_each_patient_once_and_every_class_alike():
    patients = [f"p{i // 3}" for i in range(90)]
    strata = np.array([[float(i // 3 % 5 == 0)] for i in range(90)])
    parts = make_folds(patients, strata, folds=3, seed=1)
    assert sorted(set(parts)) == [0, 1, 2]
    assert all(len({part for part, name in zip(parts, patients, strict=True) if name == p}) == 1 for p in set(patients))
    assert [parts.count(part) for part in range(3)] == [30, 30, 30]
    assert [sum(strata[i, 0] for i, part in enumerate(parts) if part == k) for k in range(3)] == [6, 6, 6]
    assert make_folds(patients, strata, folds=3, seed=2) != parts


@pytest.mark.parametrize("folds", [1, 5])
def test_folds_without_a_patient_are_refused(folds):
    with pytest.raises(UsageError, match="which are 4"):
        make_folds(["a", "b", "c", "d"], np.zeros(4), folds=folds, seed=0)


def test_no_fold_stays_empty_when_many_labels_are_dealt_over_few_patients():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        labels = (rng.random((30, 18)) < 0.3).astype(float)
        folds = make_folds([f"p{i}" for i in range(30)], labels, folds=10, seed=seed)
        assert set(folds) == set(range(10))
