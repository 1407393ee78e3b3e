"""The recipe says what the submission was, in a file that anybody can read and change; the labels are exact."""

import subprocess
import sys

import pytest

from anymc3d.cli.main import main, parse
from anymc3d.errors import UsageError
from anymc3d.vlm3d.labels import LABELS, check_labels
from anymc3d.vlm3d.recipe import read_recipe, recipe_text


def test_the_labels_are_those_of_ct_rate_in_the_order_of_the_challenge():
    header = (  # of the published tables of labels
        "VolumeName,Medical material,Arterial wall calcification,Cardiomegaly,Pericardial effusion,"
        "Coronary artery wall calcification,Hiatal hernia,Lymphadenopathy,Emphysema,Atelectasis,Lung nodule,"
        "Lung opacity,Pulmonary fibrotic sequela,Pleural effusion,Mosaic attenuation pattern,"
        "Peribronchial thickening,Consolidation,Bronchiectasis,Interlobular septal thickening"
    )
    assert header.split(",") == ["VolumeName", *LABELS]


def test_the_recipe_is_the_submission(tmp_path):
    task = read_recipe(tmp_path / "m.csv")
    (view,) = task.views.values()
    assert task.labels.columns == LABELS and task.labels.kind == "multilabel"
    assert (view.size, view.plane) == ((476, 476, 240), "axial")
    assert view.windows == ((-1000, 1000), (-150, 250), (-1000, 400))
    assert (task.backbone.name, task.method.rank, task.method.alpha) == ("dinov2-base", 8, 16)
    assert (task.train.loss, task.train.focal_gamma, task.train.focal_alpha) == ("focal", 2, 0.25)
    assert (task.fusion, task.augmentation, task.calibration) == ("query", "paper", "f1")
    assert task.data.manifest == str(tmp_path / "m.csv")


def test_a_printed_copy_can_be_changed_and_used(tmp_path, capsys):
    assert main(["vlm3d", "recipe"]) == 0
    printed = capsys.readouterr().out
    assert main(["vlm3d", "recipe", "-o", str(tmp_path / "mine.yaml")]) == 0
    assert (tmp_path / "mine.yaml").read_text() == printed == recipe_text()
    (tmp_path / "mine.yaml").write_text(printed.replace("calibration: f1", "calibration: f1_crg"))
    assert main(["vlm3d", "recipe", "-o", str(tmp_path / "mine.yaml")]) == 2
    task = read_recipe(tmp_path / "m.csv", ["train.epochs=3"], recipe=tmp_path / "mine.yaml")
    assert (task.calibration, task.train.epochs) == ("f1_crg", 3)


def test_other_labels_are_refused_with_the_nearest_right_name(tmp_path):
    text = recipe_text().replace("    - Lung nodule\n", "    - Lung nodules\n")
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(UsageError, match=r"'Lung nodules' is none of them, did you mean 'Lung nodule'\?"):
        read_recipe(tmp_path / "m.csv", recipe=tmp_path / "mine.yaml")
    with pytest.raises(UsageError, match=r"got 16; 2 are missing: Bronchiectasis, Interlobular septal thickening"):
        check_labels(LABELS[:16], "plugin 'x'")
    check_labels(LABELS[::-1], "any order")


def test_a_manifest_without_a_label_column_names_the_nearest(tmp_path, capsys):
    header = ",".join(["image", *(name.replace("Emphysema", "Emphysma") for name in LABELS)])
    (tmp_path / "m.csv").write_text(f"{header}\na.nii,{','.join('1' * 18)}\n")
    assert main(["vlm3d", "train", str(tmp_path / "m.csv"), "-o", str(tmp_path / "run"), "backbone=tiny-random"]) == 2
    assert "no label column 'Emphysema', did you mean 'Emphysma'?" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["m.csv", "-o", "run", "a=1", "b=2"], ["m.csv", "a=1", "b=2", "-o", "run"]])
def test_overrides_may_stand_before_and_behind_the_options(words):
    parsed = parse("vlm3d", ["train", *words, "--members", "3"])
    assert (parsed.overrides, parsed.out.name, parsed.members) == (["a=1", "b=2"], "run", 3)


def test_the_recipe_is_read_without_torch():
    code = "import sys; from anymc3d.vlm3d.recipe import *; from pathlib import Path; read_recipe(Path('m.csv'));"
    code += "import anymc3d.cli.vlm3d; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
