"""``anymc3d evaluate`` at the terminal: exit codes, streams, options."""

import json

import numpy as np
import pytest

from anymc3d.cli.main import main
from anymc3d.evaluate import outputs
from anymc3d.files.tables import read_table, write_table

TASK = """\
format: 1
name: kind
labels: {columns: [kind], kind: binary, classes: [benign, malignant]}
data: {manifest: manifest.csv}
views:
  image: {size: [56, 56, 4]}
"""


def study(folder, *, label="tumour", words=("0", "1")):
    """Write predictions.csv and manifest.csv of 40 cases; return the command's first words."""
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 2, 40)
    raw = rng.normal(size=(40, 1)) + 2 * targets[:, None]
    probability, decision = outputs.probabilities(raw, "binary"), outputs.decisions(raw, "binary", [0.0])
    rows = [
        {"case": f"c{i}", "status": "ok"} | outputs.prediction_cells([label], raw[i], probability[i], decision[i])
        for i in range(40)
    ]
    write_table(folder / "predictions.csv", outputs.prediction_columns([label]), rows)
    cells = [
        {
            "case": f"c{i}",
            "image": f"c{i}.nii",
            "split": ["val", "test"][i % 2],
            "sex": "FM"[i // 2 % 2],
            label: words[t],
        }
        for i, t in enumerate(targets)
    ]
    write_table(folder / "manifest.csv", list(cells[0]), cells)
    return ["evaluate", str(folder / "predictions.csv"), str(folder / "manifest.csv"), "--resamples", "100"]


def test_prints_a_table_and_where_the_rest_is(tmp_path, capsys):
    assert main([*study(tmp_path), "-o", str(tmp_path / "out"), "--groups", "sex"]) == 0
    printed = capsys.readouterr()
    assert "AUROC" in printed.out
    assert "youden" in printed.out
    assert "metrics.csv" in printed.out
    assert "Research use only" in printed.out
    assert printed.err == ""
    groups = {row["group"] for row in read_table(tmp_path / "out" / "metrics.csv")}
    assert groups == {"all", "sex=F", "sex=M"}


def test_json_is_the_whole_table(tmp_path, capsys):
    assert main([*study(tmp_path), "-o", str(tmp_path / "out"), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert len(printed["metrics"]) == len(read_table(tmp_path / "out" / "metrics.csv"))
    assert printed["split"] == "test"


def test_quiet_prints_nothing_but_warnings(tmp_path, capsys):
    words = study(tmp_path)
    rows = read_table(tmp_path / "predictions.csv")
    write_table(tmp_path / "predictions.csv", list(rows[0]), rows[:-1])
    assert main([*words, "-o", str(tmp_path / "out"), "--quiet"]) == 0
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("warning: 1 of 20 test cases have no prediction")


def test_operating_points_are_those_asked_for(tmp_path):
    words = [*study(tmp_path), "-o", str(tmp_path / "out"), "--quiet"]
    assert main([*words, "--operating-points", "sensitivity>=0.95,crg,probability=0.5"]) == 0
    points = {row["operating_point"] for row in read_table(tmp_path / "out" / "metrics.csv")}
    assert points == {"", "plugin", "sensitivity=0.95", "crg", "probability=0.5"}


def test_B14_one_class_test_set_is_no_failure(tmp_path):
    words = study(tmp_path)
    rows = read_table(tmp_path / "manifest.csv")
    write_table(
        tmp_path / "manifest.csv", list(rows[0]), [{**r, "tumour": 1} if r["split"] == "test" else r for r in rows]
    )
    assert main([*words, "-o", str(tmp_path / "out"), "--quiet"]) == 0
    auroc = next(row for row in read_table(tmp_path / "out" / "metrics.csv") if row["metric"] == "auroc")
    assert auroc["value"] == ""
    assert "20 of them positive" in auroc["reason"]


def test_text_classes_are_read_with_the_task_file(tmp_path, capsys):
    words = study(tmp_path, label="kind", words=("benign", "malignant"))
    assert main([*words, "-o", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "--task" in error
    assert error.count("\n") == 1
    (tmp_path / "task.yaml").write_text(TASK)
    assert main([*words, "-o", str(tmp_path / "out"), "--task", str(tmp_path / "task.yaml"), "--quiet"]) == 0


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--groups", "sax"], "did you mean 'sex'"),
        (["--groups", "sex,,age"], "--groups: expected different names"),
        (["--operating-points", "yuoden"], "did you mean 'youden'"),
        (["--operating-points", "sensitivity=95"], "such as sensitivity=0.95"),
        (["--resamples", "5"], "--resamples: expected 100 or more"),
        (["--seed", "-1"], "--seed: expected 0 or more"),
    ],
)
def test_wrong_options_are_one_line_and_exit_code_2(tmp_path, capsys, extra, message):
    assert main([*study(tmp_path), "-o", str(tmp_path / "out"), *extra]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_missing_table_is_named(tmp_path, capsys):
    words = study(tmp_path)
    words[1] = str(tmp_path / "nothing.csv")
    assert main([*words, "-o", str(tmp_path / "out")]) == 2
    assert "nothing.csv: no such file" in capsys.readouterr().err


def test_other_inputs_in_the_same_folder_need_overwrite(tmp_path, capsys):
    words = [*study(tmp_path), "-o", str(tmp_path / "out"), "--quiet"]
    assert main(words) == 0
    assert main(words) == 0
    rows = read_table(tmp_path / "predictions.csv")
    write_table(tmp_path / "predictions.csv", list(rows[0]), rows[:-2])
    assert main(words) == 2
    assert "predictions was" in capsys.readouterr().err
    assert main([*words, "--overwrite"]) == 0
