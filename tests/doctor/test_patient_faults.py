"""B12: a column that groups cases as a patient's number would is reported, whatever it is called; others are not."""

import numpy as np
import pytest

from anymc3d.data.manifest import inspect_manifest
from anymc3d.doctor.label_faults import read_labels
from anymc3d.doctor.patient_faults import unnamed_patients

LABELS = [k // 4 % 2 for k in range(48)]


def messages_of(folder, column, cells, labels=LABELS, patients=None, asked=("y",), splits=None):
    (folder / "a.nii").write_bytes(b"")
    header = ["case", "image", "y", column, *(["patient"] if patients else []), *(["split"] if splits else [])]
    lines = [",".join(header)]
    for k, cell in enumerate(cells):
        extra = [*([patients[k]] if patients else []), *([splits[k]] if splits else [])]
        lines.append(",".join([f"c{k}", "a.nii", str(labels[k]), str(cell), *extra]))
    (folder / "m.csv").write_text("\n".join(lines) + "\n")
    manifest, _ = inspect_manifest(folder / "m.csv")
    known, _ = read_labels(manifest, asked, None)
    return [one.message for one in unnamed_patients(manifest, known)]


@pytest.mark.parametrize("column", ["Akte", "record", "anything", "study_no"])
@pytest.mark.parametrize("form", ["X{0:05d}", "{0}", "name {0}"])
def test_B12_a_column_that_groups_rows_inside_one_label_is_told(tmp_path, column, form):
    (message,) = messages_of(tmp_path, column, [form.format(k // 4) for k in range(48)])
    assert message == f"column {column!r} groups 48 cases into 12: are these patients?"


def test_B12_it_says_when_such_groups_are_in_two_splits(tmp_path):
    splits = ["train" if k % 4 else "val" for k in range(48)]
    (message,) = messages_of(tmp_path, "Akte", [k // 4 for k in range(48)], splits=splits)
    assert message.endswith("are these patients? 12 of them are in two splits")


def test_B12_a_patient_column_that_another_one_joins_is_told(tmp_path):
    patients = [f"scan{k}" for k in range(48)]
    assert messages_of(
        tmp_path, "Patient ID", [k // 4 for k in range(48)], labels=[k % 2 for k in range(48)], patients=patients
    )
    assert not messages_of(
        tmp_path, "Patient ID", [k // 4 for k in range(48)], patients=[f"p{k // 4}" for k in range(48)]
    )


def test_without_labels_only_numbers_of_a_registry_are_told(tmp_path):
    assert messages_of(tmp_path, "Akte", [f"X{k // 4:05d}" for k in range(48)], asked=())
    for column, form in (("age", "{0}"), ("visit", "200103{0:02d}"), ("scanner", "GE{0:05d}"), ("dose", "{0} mg")):
        assert not messages_of(tmp_path, column, [form.format(40 + k // 4) for k in range(48)], asked=())


RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    "cells",
    [
        [f"X{k // 4:05d}" for k in RNG.permutation(48)],  # groups lie across the labels
        [f"X{k:05d}" for k in range(48)],  # each cell once
        ["AB"[k % 2] for k in range(48)],  # a class
        [f"{k // 4}.5" for k in range(48)],  # a measurement
        ["" if k % 2 else f"X{k:05d}" for k in range(48)],
    ],
    ids=["across", "once", "class", "measurement", "empty"],
)
def test_other_columns_are_not_told(tmp_path, cells):
    assert messages_of(tmp_path, "something", cells) == []


def test_groups_that_chance_would_make_pure_are_not_told(tmp_path):
    labels = [int(k == 0) for k in range(48)]
    assert messages_of(tmp_path, "ward", [f"w{k // 2}" for k in range(48)], labels=labels) == []
