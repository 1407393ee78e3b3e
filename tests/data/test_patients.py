"""B12: whatever a header calls the patient, and however an id is spelled, no patient stands in two splits unseen."""

import pytest

from anymc3d.data.manifest import inspect_manifest, read_manifest
from anymc3d.data.patients import names_patient, patients_of
from anymc3d.data.split_manifest import fold_column, split_column
from anymc3d.errors import ManifestError

NAMES = (
    "Patient ID|Patient-ID|patient.id|Patient.ID|PATIENT_ID|subject ID|SubjectID|PatientName|Patient's Name|MRN|PTID"
    "|RID|PID|pat_id|Pat. Nr.|participant|Participant Identifier|case_patient|individual|eid|sub|subj_no|USUBJID|pt_no"
    "|bcr_patient_barcode|BraTS_2020_subject_ID|Patienten-ID|id_paciente|患者ID|Patient #|Patient\u200b ID|patient_id.1"
    "|PatientID_x|patient 2|Chart No|UHID|N° patient|numéro patient"
    "|nombre del paciente|codice paziente|pasient-nr|hasta no|potilas|número de pacientes"
    "|מספר מטופל|رقم المريض|ασθενής"
    "|住院号|症例番号|등록번호|Pseudonym ID|anon_id|Surname"
)
OTHERS = (
    "patient_age|PatientSex|patient_group|patient_position|subject_weight|subtype|submission|pt|pt_stage|pathology|patch"
    "|case_id|study_date|site|id|name|person_height|individual_score|sub_region|hospital|number|PatientBirthDate"
    "|ptx|sub_x2_region|date_of_birth|del|nombre|numero|subcutis|participated"
)


@pytest.mark.parametrize("column", NAMES.split("|"))
def test_B12_any_spelling_of_the_patient_is_refused(tmp_path, column):
    (tmp_path / "a.nii").write_bytes(b"")
    (tmp_path / "m.csv").write_text(f"image,{column}\na.nii,1\n")
    (problem,) = inspect_manifest(tmp_path / "m.csv")[1]
    assert "rename it 'patient'" in problem
    (tmp_path / "m.csv").write_text(f"image,patient,{column}\na.nii,1,1\n")
    assert inspect_manifest(tmp_path / "m.csv")[1] == []


@pytest.mark.parametrize("column", OTHERS.split("|"))
def test_what_is_about_patients_or_sounds_alike_is_metadata(column):
    assert not names_patient(column)


def test_a_hostile_header_takes_no_time():
    assert not names_patient("id" * 100_000 + "x")
    assert not names_patient("nonumber" * 7 + "x")


def table(folder, ids, splits):
    (folder / "a.nii").write_bytes(b"")
    rows = [f"c{i},{patient},a.nii,{split}" for i, (patient, split) in enumerate(zip(ids, splits, strict=True))]
    (folder / "m.csv").write_text("\n".join(["case,patient,image,split", *rows]) + "\n")
    return folder / "m.csv"


@pytest.mark.parametrize(
    "second", ["{0}.0", "P-{0}", "sub-{0}", "0{0}", "p {0}", "{0}.00", "S{0}", "MRN {0}", "#{0}", "Pt.{0}"]
)
def test_B12_one_patient_in_two_spellings_and_two_splits_is_an_error(tmp_path, second):
    ids = [*map(str, range(101, 105)), *(second.format(number) for number in range(103, 107))]
    problems = inspect_manifest(table(tmp_path, ids, ["train"] * 4 + ["test"] * 4))[1]
    assert len(problems) == 2
    assert all("written 2 ways, in 2 splits" in problem and "write it one way" in problem for problem in problems)
    assert inspect_manifest(table(tmp_path, ids, ["train"] * 4 + ["train"] * 2 + ["test"] * 2))[1] == []


def test_ids_of_other_people_are_no_error(tmp_path):
    ids = ["101", "102", "A-1", "A-11", "1-11", "11-1"]
    assert inspect_manifest(table(tmp_path, ids, ["train", "test"] * 3))[1] == []


def test_B12_splits_and_folds_keep_two_spellings_of_a_patient_together(tmp_path):
    ids = [spelling.format(number) for number in range(12) for spelling in ("{0}", "{0}.0", "sub-{0:03d}")]
    path = table(tmp_path, ids, [""] * len(ids))
    manifest = read_manifest(path)
    for column in (
        split_column(manifest, (), fractions=(0.5, 0.25, 0.25), seed=3, keep_test=False),
        fold_column(manifest, (), folds=4, seed=3),
    ):
        found = dict(zip(patients_of(manifest.cases), column.values, strict=True))
        assert [found[name] for name in patients_of(manifest.cases)] == list(column.values)
        assert len(found) == 12 and len(set(column.values)) > 2


def test_without_a_patient_column_two_alike_names_are_two_scans(tmp_path):
    for name in ("1.nii", "001.nii"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "m.csv").write_text("image,split\n1.nii,train\n001.nii,test\n")
    assert patients_of(read_manifest(tmp_path / "m.csv").cases) == ["1", "001"]


def test_B12_a_fold_column_that_parts_two_spellings_is_refused(tmp_path):
    (tmp_path / "a.nii").write_bytes(b"")
    (tmp_path / "m.csv").write_text("case,patient,image,site\na,1,a.nii,x\nb,P1,a.nii,y\nc,2,a.nii,y\n")
    from anymc3d.data.split_manifest import site_column

    with pytest.raises(ManifestError, match="is in 2 splits"):
        site_column(read_manifest(tmp_path / "m.csv"), (), column="site")
