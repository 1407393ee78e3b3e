"""Splits and folds for a manifest: by patient, stratified, one site left out; what is given is honoured."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anymc3d.data.case import Case
from anymc3d.data.manifest import Manifest, read_manifest
from anymc3d.data.split_manifest import fold_column, site_column, split_column, write_with_column
from anymc3d.errors import ManifestError, UsageError
from anymc3d.files.tables import write_table


def manifest_of(rows: list[dict[str, str]]) -> Manifest:
    columns = ("case", "patient", "image", "y", "z", "site")
    cases = tuple(
        Case(
            id=f"c{number}",
            patient=row["patient"],
            images={"image": f"/x/{number}.nii"},
            masks={},
            cells={name: row.get(name, "") for name in ("y", "z", "site")},
            split=row.get("split"),
            fold=row.get("fold"),
            spacing=None,
            center=None,
            row=number + 2,
        )
        for number, row in enumerate(rows)
    )
    return Manifest(Path("/x/m.csv"), columns, cases)


def cohort(num_patients: int = 60, **extra: str) -> Manifest:
    """Two scans per patient, y positive in every fifth patient, sites north, south and west."""
    return manifest_of(
        [
            {
                "patient": f"p{n}",
                "y": str(int(n % 5 == 0)),
                "z": "abc"[n % 3],
                "site": ("north", "south", "west")[n % 3],
            }
            | extra
            for n in range(num_patients)
            for _ in range(2)
        ]
    )


def by_patient(manifest: Manifest, values: tuple[str, ...]) -> dict[str, set[str]]:
    found = defaultdict(set)
    for case, value in zip(manifest.cases, values, strict=True):
        found[case.patient].add(value)
    return found


def test_B12_patients_stay_whole_and_labels_are_stratified():
    manifest = cohort()
    column = split_column(manifest, ["y", "z"], fractions=(0.6, 0.2, 0.2), seed=0, keep_test=False)
    assert all(len(parts) == 1 for parts in by_patient(manifest, column.values).values())
    positives = Counter(v for case, v in zip(manifest.cases, column.values, strict=True) if case.cells["y"] == "1")
    assert {part: positives[part] / column.values.count(part) for part in ("train", "val", "test")} == pytest.approx(
        {"train": 0.2, "val": 0.2, "test": 0.2}, abs=0.05
    )


@settings(max_examples=60)
@given(
    rows=st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["0", "1", ""])), min_size=12, max_size=40),
    folds=st.integers(2, 4),
    seed=st.integers(0, 9),
)
def test_B12_no_random_manifest_ends_with_a_patient_in_two_folds(rows, folds, seed):
    manifest = manifest_of([{"patient": f"p{patient}", "y": label} for patient, label in rows])
    if len({case.patient for case in manifest.cases}) < folds:
        return
    column = fold_column(manifest, ["y"], folds=folds, seed=seed)
    assert all(len(parts) == 1 for parts in by_patient(manifest, column.values).values())
    assert set(column.values) <= {str(number) for number in range(folds)}


def test_the_order_of_the_rows_changes_nothing():
    manifest = cohort()
    turned = Manifest(manifest.path, manifest.columns, manifest.cases[::-1])
    one, other = (fold_column(m, ["y"], folds=5, seed=3) for m in (manifest, turned))
    assert one.values == other.values[::-1]


def test_given_test_rows_are_kept_and_are_in_no_fold():
    manifest = manifest_of(
        [{"patient": f"p{n}", "y": str(n % 2), "split": "test" if n < 5 else "train"} for n in range(25)]
    )
    folds = fold_column(manifest, ["y"], folds=4, seed=0)
    assert folds.values[:5] == ("",) * 5 and set(folds.values[5:]) == {"0", "1", "2", "3"}
    splits = split_column(manifest, ["y"], fractions=(0.8, 0.2, 0.0), seed=0, keep_test=True)
    assert splits.values[:5] == ("test",) * 5 and set(splits.values[5:]) == {"train", "val"}


def test_every_site_is_a_fold_of_its_own():
    column = site_column(cohort(), ["y"], column="site")
    assert Counter(column.values) == {"north": 40, "south": 40, "west": 40}
    assert column.warnings == ()


def test_a_site_of_one_class_is_told():
    manifest = manifest_of(
        [{"patient": f"p{n}", "y": str(n % 2 * (n < 6)), "site": "a" if n < 6 else "b"} for n in range(9)]
    )
    assert site_column(manifest, ["y"], column="site").warnings == (
        "site 'b': y is '0' in every case: its AUROC will be undefined",
    )


def test_B12_a_patient_of_two_sites_is_an_error():
    manifest = manifest_of(
        [{"patient": "p", "site": "a"}, {"patient": "p", "site": "b"}, {"patient": "q", "site": "a"}]
    )
    with pytest.raises(ManifestError, match="patient 'p' is in 2"):
        site_column(manifest, [], column="site")


@pytest.mark.parametrize(
    ("rows", "column", "message"),
    [
        ([{"patient": "p", "site": "a"}, {"patient": "q"}], "site", "row 3: site is empty"),
        ([{"patient": "p", "site": "a"}, {"patient": "q", "site": "a"}], "site", "one value 'a'"),
        ([{"patient": "p", "site": "a"}], "sites", "no label column 'sites', did you mean 'site'"),
    ],
)
def test_sites_that_cannot_be_left_out_are_an_error(rows, column, message):
    with pytest.raises(ManifestError, match=message):
        site_column(manifest_of(rows), [], column=column)


def test_what_is_there_already_is_never_dealt_anew():
    with pytest.raises(UsageError, match="has a fold column"):
        fold_column(cohort(fold="0"), [], folds=3, seed=0)
    with pytest.raises(UsageError, match="has a fold column"):
        site_column(cohort(fold="0"), [], column="site")
    with pytest.raises(UsageError, match="--keep-test"):
        split_column(cohort(split="train"), [], fractions=(0.7, 0.1, 0.2), seed=0, keep_test=False)
    with pytest.raises(UsageError, match="no test rows"):
        split_column(cohort(split="train"), [], fractions=(0.9, 0.1, 0.0), seed=0, keep_test=True)
    with pytest.raises(UsageError, match="every row"):
        fold_column(cohort(split="test"), [], folds=3, seed=0)


@pytest.mark.parametrize("fractions", [(0.5, 0.1, 0.1), (-0.1, 0.9, 0.2), (0.0, 0.0, 1.0), (0.7, 0.2, 0.2)])
def test_fractions_add_up_to_one(fractions):
    with pytest.raises(UsageError, match="add up to 1"):
        split_column(cohort(), [], fractions=fractions, seed=0, keep_test=False)


def test_a_column_of_measurements_is_dealt_out_by_fifths_of_its_range_and_ids_are_refused():
    manifest = manifest_of([{"patient": f"p{n}", "y": f"{n}.5"} for n in range(150)])
    folds = fold_column(manifest, ["y"], folds=3, seed=0).values
    lowest = Counter(folds[:30])
    assert set(lowest.values()) == {10} and set(Counter(folds).values()) == {50}
    ids = manifest_of([{"patient": f"p{n}", "y": f"id{n}"} for n in range(150)])
    with pytest.raises(ManifestError, match="150 different values"):
        fold_column(ids, ["y"], folds=3, seed=0)


def test_the_written_manifest_has_the_column_and_finds_its_scans(tmp_path):
    for number in range(6):
        (tmp_path / f"s{number}.nii").write_bytes(b"")
    rows = [{"image": f"s{number}.nii", "y": number % 2} for number in range(6)]
    write_table(tmp_path / "m.csv", ["image", "y"], rows)
    manifest = read_manifest(tmp_path / "m.csv")
    write_with_column(manifest, fold_column(manifest, ["y"], folds=3, seed=0), tmp_path / "deep" / "folds.csv")
    back = read_manifest(tmp_path / "deep" / "folds.csv")
    assert Counter(case.fold for case in back.cases) == {"0": 2, "1": 2, "2": 2}
    assert np.array_equal([case.cells["y"] for case in back.cases], [str(n % 2) for n in range(6)])
