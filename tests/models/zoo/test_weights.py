"""From the local store or a file into a network of the zoo."""

from pathlib import Path

import pytest
import torch
from published_layouts import efficientnetv2_s, medicalnet, torchvision_resnet50, values
from safetensors.torch import save_file
from zoo_cases_rsna import tiny_convnext

from anymc3d.errors import BackboneError, UsageError
from anymc3d.models.zoo.deepcntd import DeepCNTD
from anymc3d.models.zoo.network_store import import_network
from anymc3d.models.zoo.rsna2022 import rsna2022_patient
from anymc3d.models.zoo.table import ZOO
from anymc3d.models.zoo.weights import LoadedNetworkWeights, find_network_weights, start_from


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANYMC3D_HOME", str(tmp_path / "home"))


def written(path: Path, shapes: dict) -> Path:
    save_file(values(shapes), path)
    return path


def test_a_published_file_that_was_imported_is_what_its_networks_start_from(tmp_path: Path):
    raw = values(medicalnet())
    save_file(raw, tmp_path / "resnet_50.safetensors")
    record = import_network(tmp_path / "resnet_50.safetensors").record
    found = find_network_weights("medicalnet-lora", None)
    assert found.fingerprint == record.fingerprint
    network = ZOO["medicalnet-lora"].build(2)
    assert start_from(network, found, "medicalnet-lora") == ["head", "lora"]
    assert torch.equal(network.encoder.layer4[0].conv2.weight, raw["module.layer4.0.conv2.weight"].float())
    assert network.encoder.bn1.running_var.tolist() == raw["module.bn1.running_var"].float().tolist()


def test_what_a_file_cannot_fill_keeps_its_initial_values(tmp_path: Path):
    file = written(tmp_path / "resnet50.safetensors", torchvision_resnet50())
    network = ZOO["m3t"].build(2, seed=1)
    before = network.cnn_2d.conv1.weight.clone()
    kept = start_from(network, find_network_weights("m3t", str(file)), "m3t")
    assert "cnn_2d.conv1.weight" in kept and "cnn_2d" not in kept
    assert torch.equal(network.cnn_2d.conv1.weight, before)
    assert network.cnn_2d.bn1.weight.min() >= 0.5


def test_a_network_of_five_channels_starts_from_the_repeated_stem(tmp_path: Path):
    file = written(tmp_path / "effnet.safetensors", efficientnetv2_s())
    three, five = (find_network_weights(name, str(file)) for name in ("rsna2024-efficientnet", "rsna2022"))
    stem = three.tensors["encoder.conv_stem.weight"]
    wide = five.tensors["encoder.conv_stem.weight"]
    assert stem.shape[1] == 3 and wide.shape[1] == 5
    torch.testing.assert_close(wide[:, :3], stem * 3 / 5)
    torch.testing.assert_close(wide[:, 3:], stem[:, :2] * 3 / 5)
    assert three.fingerprint == five.fingerprint, "the same published weights"
    start_from(ZOO["rsna2022"].build(2), five, "rsna2022")


def test_weights_of_another_network_are_refused_with_their_fingerprint(tmp_path: Path):
    file = written(tmp_path / "resnet50.safetensors", torchvision_resnet50())
    with pytest.raises(BackboneError, match=r"ResNet-50 of ImageNet \(sha256:.*is for m3t, and the method is ct-net"):
        find_network_weights("ct-net", str(file))


def test_missing_weights_say_where_they_are_under_which_terms_and_the_command():
    with pytest.raises(BackboneError) as caught:
        find_network_weights("ct-clip-classfine", None)
    for words in ("CT-CLIP_v2.pt", "CT-RATE", "accept the terms", "CC-BY-NC-SA", "backbone import FILE --name ct-clip"):
        assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="did you mean 'medicalnet-lora'"):
        find_network_weights("medicalnet-lroa", None)


def test_a_networks_own_state_and_a_plugin_of_it_are_files_to_start_from(tmp_path: Path):
    """With torch's counters of steps, and under the names of a plugin with one view; several views are refused."""
    trained = ZOO["rsna-kaggle"].build(2, seed=5)
    state = {name: tensor.contiguous() for name, tensor in trained.state_dict().items()}
    save_file(state, tmp_path / "state.safetensors")
    plugin = {f"network.image.{name}": tensor.clone() for name, tensor in state.items() if tensor.is_floating_point()}
    save_file(plugin, tmp_path / "plugin.safetensors")
    for name in ("state", "plugin"):
        network = ZOO["rsna-kaggle"].build(2, seed=6)
        found = find_network_weights("rsna-kaggle", str(tmp_path / f"{name}.safetensors"))
        assert start_from(network, found, "rsna-kaggle") == []
        assert torch.equal(network.lstm.weight_hh_l1, trained.lstm.weight_hh_l1)
    both = plugin | {f"network.other.{name}": tensor.clone() for name, tensor in list(state.items())[:3]}
    save_file(both, tmp_path / "both.safetensors")
    with pytest.raises(BackboneError, match=r"both\.safetensors: a plugin of 2 views \(image, other\)"):
        find_network_weights("rsna-kaggle", str(tmp_path / "both.safetensors"))


def test_only_the_head_of_another_number_of_labels_is_left_out():
    """Of DeepCNTD's DenseNet the last linear map; of the patient's network both heads."""
    for name, build, heads, kept in (
        ("deepcntd", tiny_deepcntd, ["classifier.class_layers"], "classifier.features.conv0.weight"),
        ("rsna2022-patient", tiny_patient, ["head", "head2"], "lstm2.weight_hh_l0"),
    ):
        given = {n: t for n, t in build(3).state_dict().items() if t.is_floating_point()}
        network = build(2)
        assert start_from(network, LoadedNetworkWeights(given, "sha256:any", "a file"), name) == heads
        assert torch.equal(network.state_dict()[kept], given[kept])


def tiny_deepcntd(num_logits: int) -> DeepCNTD:
    return DeepCNTD(num_logits, 1, widths=(4, 4, 8, 8), depths=(1, 1, 1, 1), growth=4, stem=8)


def tiny_patient(num_logits: int) -> torch.nn.Module:
    return rsna2022_patient(num_logits, encoder=tiny_convnext(5), hidden=8)


def test_weights_that_are_not_finite_name_their_file(tmp_path: Path):
    state = {n: t.contiguous() for n, t in ZOO["rsna-kaggle"].build(2).state_dict().items() if t.is_floating_point()}
    state["lstm.weight_hh_l0"] = torch.full_like(state["lstm.weight_hh_l0"], torch.nan)
    save_file(state, tmp_path / "broken.safetensors")
    with pytest.raises(BackboneError, match=r"broken\.safetensors: weights are damaged"):
        find_network_weights("rsna-kaggle", str(tmp_path / "broken.safetensors"))
