"""Importing published weights of networks: into the store, out of it, and what is refused."""

import json
from pathlib import Path

import pytest
import torch
from published_layouts import medicalnet, mst, torchvision_resnet50, values
from safetensors.torch import load_file, save_file

from anymc3d.cli.main import main
from anymc3d.errors import BackboneError
from anymc3d.models.zoo.network_store import (
    import_network,
    network_folder,
    stored_network,
    stored_tensors,
    verify_network,
)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANYMC3D_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MST's layout, the smallest that has leading axes to take off."""
    file = tmp_path_factory.mktemp("weights") / "mst.safetensors"
    save_file(values(mst(positions=False)), file)
    return file


def test_the_pickle_of_medicalnet_goes_through_the_child_into_the_store(tmp_path: Path, capsys):
    raw = values(medicalnet())
    torch.save({"epoch": 3, "state_dict": raw, "optimizer": {"state": {}}}, tmp_path / "resnet_50_23dataset.pth")
    assert main(["backbone", "import", str(tmp_path / "resnet_50_23dataset.pth"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["name"] == "medicalnet-resnet50-23"
    assert told["loaded"] == 265
    assert told["not_used"] == ["53 (counters of training steps, which no answer depends on)"]
    assert told["methods"] == ["medicalnet-linear", "medicalnet-lora", "medicalnet-full"]
    stored = load_file(network_folder("medicalnet-resnet50-23") / "model.safetensors")
    assert torch.equal(stored["layer1.0.conv1.weight"], raw["module.layer1.0.conv1.weight"])
    assert verify_network("medicalnet-resnet50-23").fingerprint == told["fingerprint"]


def test_list_verify_and_show_know_a_stored_network(small: Path, capsys):
    assert main(["backbone", "import", str(small)]) == 0
    capsys.readouterr()
    assert main(["backbone", "list", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["mst"]["stored"] and not rows["mst-positions"]["stored"]
    assert main(["backbone", "verify"]) == 0
    assert "ok" in capsys.readouterr().out
    assert main(["backbone", "show", "ct-clip", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["gated"] and "accept the terms" in shown["weights"] and "CT-CLIP_v2.pt" in shown["weights"]
    (network_folder("mst") / "record.json").write_text("{}")
    assert main(["backbone", "verify", "mst"]) == 2
    assert "damaged" in capsys.readouterr().out


def test_a_name_of_ones_own_keeps_what_the_weights_are(small: Path):
    imported = import_network(small, "mine")
    assert stored_network("mine").published == "mst"
    assert set(stored_tensors(imported.record)) == set(imported.conversion.tensors)


def test_other_weights_under_the_same_name_and_a_false_name_are_refused(small: Path, tmp_path: Path):
    import_network(small)
    save_file(values(mst(positions=False), seed=1), tmp_path / "other.safetensors")
    with pytest.raises(BackboneError, match=r"holds other weights as mst \(sha256:.*these are sha256:"):
        import_network(tmp_path / "other.safetensors")
    with pytest.raises(BackboneError, match="not the weights of MST with slice positions"):
        import_network(small, "mst-positions")
    with pytest.raises(BackboneError, match="expected a name of at most 64"):
        import_network(small, "../mst")


def test_what_is_of_no_network_of_the_zoo_is_left_to_the_backbones(tmp_path: Path):
    save_file({"blocks.0.norm1.weight": torch.zeros(4)}, tmp_path / "model.safetensors")
    assert import_network(tmp_path / "model.safetensors") is None


def test_a_damaged_store_is_said_with_the_way_out(small: Path):
    record = import_network(small).record
    file = network_folder("mst") / "model.safetensors"
    tensors = load_file(file)
    tensors["encoder.norm.bias"] = tensors["encoder.norm.bias"] + 1
    save_file(tensors, file)
    with pytest.raises(BackboneError, match=r"is damaged: expected fingerprint sha256:.*import it again"):
        stored_tensors(record)


def test_a_faulty_file_is_named_in_the_message(tmp_path: Path):
    raw = values(torchvision_resnet50())
    del raw["layer2.0.bn1.bias"]
    save_file(raw, tmp_path / "resnet50.safetensors")
    with pytest.raises(BackboneError, match=r"resnet50\.safetensors: not the weights of ResNet-50 of ImageNet"):
        import_network(tmp_path / "resnet50.safetensors")
