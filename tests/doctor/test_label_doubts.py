"""``doctor --out-of-fold``: the labels that a confident out-of-fold answer contradicts, in a table and a picture."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest

from anymc3d.cli.main import main
from anymc3d.files.tables import read_table, write_table


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Twenty-four cases of one scan each, two of them with a wrong label, and answers that know it."""
    folder = tmp_path_factory.mktemp("doubts")
    rng = np.random.default_rng(0)
    rows, oof = [], []
    for i in range(24):
        nib.save(
            nib.Nifti1Image(rng.integers(0, 900, (12, 14, 6)).astype(np.int16), np.diag([1, 1, 2, 1])),
            folder / f"s{i}.nii.gz",
        )
        truth, sure = i % 2, 2.0 + 0.1 * (i % 5)
        logit = sure if truth else -sure
        rows.append({"case": f"s{i}", "image": f"s{i}.nii.gz", "tear": 1 - truth if i in (5, 8) else truth})
        oof.append({"case": f"s{i}", "fold": i % 3, "status": "ok", "message": "", "logit.tear": logit})
        oof[-1] |= {"probability.tear": 1 / (1 + np.exp(-logit)), "decision.tear": int(logit >= 0)}
    write_table(folder / "cases.csv", list(rows[0]), rows)
    write_table(folder / "oof.csv", list(oof[0]), oof)
    return folder


def run(*words: object) -> int:
    return main(["doctor", *(str(word) for word in words), "--jobs", "0", "--quiet"])


def test_wrong_labels_are_ranked_in_a_table_and_drawn(data, tmp_path) -> None:
    assert run(data / "cases.csv", "--labels", "tear", "--out-of-fold", data / "oof.csv", "-o", tmp_path / "out") == 0
    rows = read_table(tmp_path / "out" / "label_doubts.csv")
    # Case 8 is answered with 2.3, case 5 with 2.0.
    assert [(row["rank"], row["case"], row["row"], row["given"], row["answer"]) for row in rows] == [
        ("1", "s8", "10", "1", "0"),
        ("2", "s5", "7", "0", "1"),
    ]
    assert (tmp_path / "out" / "label_doubts.png").read_bytes().startswith(b"\x89PNG")
    report = json.loads((tmp_path / "out" / "doctor.json").read_text())
    (finding,) = [one for one in report["findings"] if one["check"] == "label-doubtful"]
    assert finding["severity"] == "note" and finding["cases"] == ["s5", "s8"]
    assert finding["message"].startswith("2 of 24 labels are contradicted") and finding["message"].endswith("s8, s5")
    assert "estimated share of wrong labels 8.3%" in finding["message"]


def test_answers_of_other_labels_are_refused(data, tmp_path, capsys) -> None:
    assert run(data / "cases.csv", "--out-of-fold", data / "oof.csv") == 2
    assert "name the labels it is compared with" in capsys.readouterr().err
    rows = [{name.replace("tear", "mass"): cell for name, cell in row.items()} for row in read_table(data / "oof.csv")]
    write_table(tmp_path / "other.csv", list(rows[0]), rows)
    assert run(data / "cases.csv", "--labels", "tear", "--out-of-fold", tmp_path / "other.csv") == 2
    assert "expected predictions of tear, got mass" in capsys.readouterr().err
