"""Training with masks end to end on tiny scans: what it leaves, that it resumes, what it refuses."""

import shutil
import signal
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch

from anymc3d.cli.main import main
from anymc3d.files.tables import read_table
from anymc3d.plugins import load_plugin
from anymc3d.settings.task_file import read_task
from anymc3d.train.fit import fit
from masked_scans import LABELS, masked_task, write_masked_scans

SHORT = ("train.epochs=1",)


@pytest.fixture(scope="module")
def masked(tmp_path_factory):
    """A folder with scans, masks and manifest."""
    folder = tmp_path_factory.mktemp("masked")
    write_masked_scans(folder)
    return folder


def train(folder, name, decoder, overrides=(), **settings):
    (folder / f"{name}.yaml").write_text(masked_task(decoder, **settings))
    return fit(read_task(folder / f"{name}.yaml", overrides), folder / name, device="cpu", quiet=True)


@pytest.fixture(scope="module")
def left(masked):
    """The plugin of a run whose decoder was not kept."""
    return train(masked, "left", "nnunet", SHORT)


@pytest.mark.parametrize("decoder", ["nnunet", "eomt-2d", "eomt-3d"])
def test_each_decoder_trains_beside_the_classifier_and_stays_out_of_the_plugin(masked, decoder):
    plugin = load_plugin(train(masked, f"run-{decoder}", decoder))
    assert plugin.card.segmentation.classes == LABELS and not plugin.card.decodes
    assert not [name for name in plugin.tensors if name.startswith("decoder.")]
    log = read_table(masked / f"run-{decoder}" / "log.csv")
    assert len(log) == 2 and float(log[1]["seg_loss"]) < float(log[0]["seg_loss"])
    assert "val_dice" in log[0]
    assert read_task(masked / f"run-{decoder}" / "task.yaml").segmentation.classes == LABELS


@pytest.mark.parametrize("decoder", ["nnunet", "eomt-3d"])
def test_how_a_step_is_spread_changes_nothing(masked, decoder):
    """Two volumes at once, or one after the other with added gradients: the same weights, mixed batches or not."""
    settings = (*SHORT, "train.clip_norm=1000", "augmentation=none")
    at_once = load_plugin(train(masked, f"once-{decoder}", decoder, (*settings, "train.batch_size=2")))
    spread = (*settings, "train.batch_size=1", "train.accumulate=2")
    one_by_one = load_plugin(train(masked, f"spread-{decoder}", decoder, spread))
    for name, tensor in at_once.tensors.items():
        torch.testing.assert_close(one_by_one.tensors[name], tensor, rtol=0.02, atol=2e-4)


def test_keeping_the_decoder_changes_no_other_tensor(masked, left):
    kept = load_plugin(train(masked, "kept", "nnunet", SHORT, keep="true"))
    tensors = load_plugin(left).tensors
    assert kept.card.decodes and set(tensors) < set(kept.tensors)
    assert all(torch.equal(kept.tensors[name], tensor) for name, tensor in tensors.items())


def test_quick_refuses_masks_and_show_says_what_was_learned(masked, left, capsys):
    (masked / "quick.yaml").write_text(masked_task("nnunet"))
    assert main(["train", str(masked / "quick.yaml"), "--quick", "-o", str(masked / "quick"), "--quiet"]) == 2
    assert "--quick learns without a decoder" in capsys.readouterr().err
    assert main(["plugin", "show", str(left)]) == 0
    assert "learned from masks: nnunet, structures 3, 7, decoder not kept" in capsys.readouterr().out


def test_C1_a_run_with_a_decoder_killed_in_steps_ends_bit_identical(masked, nursery, tmp_path):
    """Weights and optimiser state of the decoder and the draws of its loss come back to the last bit."""
    (masked / "killed.yaml").write_text(masked_task("eomt-2d", keep="true"))
    words = ["train", str(masked / "killed.yaml"), "--device", "cpu", "--quiet"]
    assert nursery.run([*words, "-o", str(tmp_path / "calm")], tmp_path / "home", tmp_path / "said") == 0
    for moment in [("call", "anymc3d.train.loop:_step", 3), ("call", "anymc3d.train.loop:validate", 1)]:
        status = nursery.run(
            [*words, "-o", str(tmp_path / "run")],
            tmp_path / "home",
            tmp_path / "said",
            moment=moment,
            every_step=True,
        )
        assert status == -signal.SIGKILL, (tmp_path / "said").read_text()
    assert nursery.run([*words, "-o", str(tmp_path / "run")], tmp_path / "home", tmp_path / "said") == 0
    for name in ("plugin.safetensors", "task.yaml", "predictions.val.csv"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "calm" / name).read_bytes(), name
    logs = [[{**row, "seconds": ""} for row in read_table(tmp_path / run / "log.csv")] for run in ("run", "calm")]
    assert logs[0] == logs[1]


def spoilt(masked, folder, change):
    """A copy of the masked scans with some masks changed; ``change``: (labels, affine) -> (values, affine)."""
    for name in ("scans", "masks", "manifest.csv"):
        copy = shutil.copytree if (masked / name).is_dir() else shutil.copy
        copy(masked / name, folder / name)
    for name in ("case01", "case05"):
        image = nib.load(folder / f"masks/{name}.nii.gz")
        values, affine = change(np.asanyarray(image.dataobj), image.affine)
        nib.save(nib.Nifti1Image(values, affine), folder / f"masks/{name}.nii.gz")


def refused(folder, capsys, *overrides, code=2):
    (folder / "task.yaml").write_text(masked_task("nnunet"))
    words = ["train", str(folder / "task.yaml"), "-o", str(folder / "run"), "--device", "cpu", "--quiet"]
    # All cases in train or val, so that both spoilt ones are read.
    assert main([*words, "data.fractions=[0.7,0.3,0.0]", *overrides]) == code
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return said


def test_masks_on_another_grid_are_all_named_before_the_first_step(masked, tmp_path, capsys):
    spoilt(masked, tmp_path, lambda labels, affine: (labels, affine @ np.diag([1, 1, 2, 1])))
    said = refused(tmp_path, capsys)
    assert said.count("mask: the mask is not on its scan's grid") == 2
    assert "'case01'" in said and "'case05'" in said


def test_fractions_in_a_mask_are_refused(masked, tmp_path, capsys):
    spoilt(masked, tmp_path, lambda labels, affine: (labels.astype(np.float32) * 0.5, affine))
    assert refused(tmp_path, capsys).count("expected whole numbers from 0 on in a segmentation") == 2


def test_a_structure_that_no_training_mask_holds_is_refused(masked, tmp_path, capsys):
    spoilt(masked, tmp_path, lambda labels, affine: (labels, affine))
    said = refused(tmp_path, capsys, "segmentation.classes=[3, 9]")
    assert "no training mask holds label 9 on the slices of its view; they hold [3, 7]" in said


def test_without_any_mask_it_is_refused(journey, tmp_path, capsys):
    (tmp_path / "task.yaml").write_text(masked_task("nnunet"))
    words = ["train", str(tmp_path / "task.yaml"), "-o", str(tmp_path / "run"), "--device", "cpu", "--quiet"]
    assert main([*words, f"data.manifest={journey.data / 'manifest.csv'}"]) == 2
    assert "none of 10 has one; fill the manifest's column 'mask', or use" in capsys.readouterr().err


def test_a_label_that_was_not_looked_for_is_refused(masked, tmp_path, capsys):
    spoilt(masked, tmp_path, lambda labels, affine: (labels, affine))
    header, *rows = (tmp_path / "manifest.csv").read_text().splitlines()
    (tmp_path / "manifest.csv").write_text("\n".join([f"{header},mask_classes", *(f"{row},3" for row in rows)]) + "\n")
    assert "the mask holds labels [7], which its mask_classes '3' does not name" in refused(tmp_path, capsys)


def test_an_unknown_decoder_is_named_with_the_nearest(masked, tmp_path, capsys):
    spoilt(masked, tmp_path, lambda labels, affine: (labels, affine))
    assert "did you mean 'eomt-3d'" in refused(tmp_path, capsys, "segmentation=eomt3d")


def test_old_run_folders_go_on_as_they_were(masked):
    """A run without a decoder is recorded as before there were any."""
    from anymc3d.train.identity import _identity
    from anymc3d.train.study import load_study

    (masked / "plain.yaml").write_text(masked_task("none"))
    task = read_task(masked / "plain.yaml")
    start = SimpleNamespace(record=lambda task: {})
    assert _identity(task, load_study(task), start)["settings"]["segmentation"] == "none"


def test_a_run_whose_masks_have_changed_is_not_resumed(masked, tmp_path, monkeypatch, capsys):
    """Stopped in its first epoch; then one mask is emptied under its old name, and then left out of the manifest."""
    spoilt(masked, tmp_path, lambda labels, affine: (labels, affine))
    (tmp_path / "task.yaml").write_text(masked_task("nnunet"))
    words = ["train", str(tmp_path / "task.yaml"), "-o", str(tmp_path / "run"), "--device", "cpu", "--quiet"]
    words.append("data.fractions=[0.7,0.3,0.0]")
    with monkeypatch.context() as patch:
        patch.setattr("anymc3d.train.loop.SAVE_EVERY_S", -1.0)
        patch.setattr("anymc3d.train.loop.validate", _stop)
        assert main(words) == 75
    image = nib.load(tmp_path / "masks/case01.nii.gz")
    kept = (tmp_path / "masks/case01.nii.gz").read_bytes()
    nib.save(nib.Nifti1Image(np.zeros(image.shape, np.uint8), image.affine), tmp_path / "masks/case01.nii.gz")
    capsys.readouterr()
    assert main(words) == 2
    assert "scans or masks of this run have changed since it began" in capsys.readouterr().err
    (tmp_path / "masks/case01.nii.gz").write_bytes(kept)
    manifest = (tmp_path / "manifest.csv").read_text()
    (tmp_path / "manifest.csv").write_text(manifest.replace("masks/case01.nii.gz", ""))
    assert main(words) == 2
    assert "masks of this run have changed since it began" in capsys.readouterr().err
    (tmp_path / "manifest.csv").write_text(manifest)
    assert main(words) == 0
    (tmp_path / "manifest.csv").write_text(manifest.replace("masks/case01.nii.gz", ""))
    assert main(words) == 2, "also when it is finished"


def _stop(*_):
    raise KeyboardInterrupt
