"""Training with masks end to end on tiny scans: what it leaves, that it resumes, that what lacks a mask costs nothing."""

import pytest

from anymc3d.plugins import load_plugin
from anymc3d.tables import read_table
from anymc3d.task_file import read_task
from anymc3d.train.fit import fit
from masked_scans import LABELS, masked_task, write_masked_scans


@pytest.fixture(scope="module")
def masked(tmp_path_factory):
    """A folder with scans, masks and manifest."""
    folder = tmp_path_factory.mktemp("masked")
    write_masked_scans(folder)
    return folder


def train(folder, name, decoder, overrides=(), **settings):
    (folder / f"{name}.yaml").write_text(masked_task(decoder, **settings))
    return fit(read_task(folder / f"{name}.yaml", overrides), folder / name, device="cpu", quiet=True)


@pytest.mark.parametrize("decoder", ["nnunet", "eomt-2d", "eomt-3d"])
def test_each_decoder_trains_beside_the_classifier_and_stays_out_of_the_plugin(masked, decoder):
    plugin = load_plugin(train(masked, f"run-{decoder}", decoder))
    assert plugin.card.segmentation.classes == LABELS
    assert not [name for name in plugin.tensors if name.startswith("decoder.")]
    log = read_table(masked / f"run-{decoder}" / "log.csv")
    assert len(log) == 2 and all(float(row["seg_loss"]) == float(row["seg_loss"]) for row in log)
    assert {row["val_dice"] == "" for row in log} == {False}
