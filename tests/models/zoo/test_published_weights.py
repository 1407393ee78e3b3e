"""Published files of weights: each fits its network by name and shape, and another network's is refused."""

import pytest
import torch
from published_layouts import LAYOUTS, ct_clip, medicalnet, torchvision_resnet50, values, zeros
from torch import Tensor

from anymc3d.errors import BackboneError
from anymc3d.models.zoo.published_table import PUBLISHED, weights_for
from anymc3d.models.zoo.published_weights import convert, network_fingerprint, num_parameters, part_shapes, recognise
from anymc3d.models.zoo.table import ZOO

every = pytest.mark.parametrize("name", PUBLISHED)


def test_every_published_file_has_its_names_written_down():
    assert set(LAYOUTS) == set(PUBLISHED)


@every
def test_a_file_fills_its_part_of_every_network_that_starts_from_it(name):
    published = PUBLISHED[name]
    conversion = convert(zeros(LAYOUTS[name]), published)
    for entry, prefix in published.users.items():
        network = ZOO[entry].empty(2)
        filled = {prefix + key: tensor for key, tensor in conversion.tensors.items()}
        own = {key: tensor for key, tensor in network.state_dict().items() if key.startswith(prefix)}
        left = {key for key in own if own[key].is_floating_point()} - set(filled)
        assert {key for key in left if not key.startswith(published.heads or "-")} == {
            prefix + key for key in conversion.fresh
        }
        other = {key for key, tensor in filled.items() if own[key].shape != tensor.shape}
        assert other <= {f"{prefix}{published.stem}"}
        assert published in weights_for(entry)
    assert sum(conversion.dropped.values()) + len(conversion.tensors) == len(LAYOUTS[name])


@every
def test_a_file_is_recognised_by_what_it_holds(name):
    published = PUBLISHED[name]
    found = recognise(zeros(LAYOUTS[name]), published.files[0])
    assert found is published


def test_parameters_are_those_of_the_paper():
    assert num_parameters(PUBLISHED["medicalnet-resnet50-23"]) == 46_159_170 - 4_098
    assert num_parameters(PUBLISHED["voco-vocomni-b"]) == 50_489_396 - 1_538
    assert num_parameters(PUBLISHED["efficientnetv2-s"]) == 20_177_488
    assert num_parameters(PUBLISHED["mst-positions"]) == 23_045_378 - 770


def test_values_arrive_where_they_belong():
    raw = values(medicalnet())
    tensors = convert(raw, PUBLISHED["medicalnet-resnet50"]).tensors
    assert all(tensors[key.removeprefix("module.")] is raw[key] for key in raw if "num_batches" not in key)
    with torch.no_grad():
        encoder = ZOO["medicalnet-linear"].build(2).encoder
    encoder.load_state_dict(tensors, strict=False)
    assert torch.equal(encoder.layer3[2].conv2.weight, raw["module.layer3.2.conv2.weight"].float())


def test_the_classifier_of_ct_rate_is_dropped_and_the_rest_is_the_same():
    plain = convert(zeros(ct_clip(classifier=False)), PUBLISHED["ct-clip"])
    fine = convert(zeros(ct_clip(classifier=True)), PUBLISHED["ct-clip"])
    assert fine.tensors.keys() == plain.tensors.keys()
    assert sum(fine.dropped.values()) == sum(plain.dropped.values()) + 2
    assert plain.tensors["codebook"].shape == (8192, 512)


def test_an_offset_that_is_not_zero_is_another_network():
    raw = zeros(ct_clip(classifier=False))
    name = "visual_transformer.enc_spatial_transformer.layers.1.1.norm.beta"
    raw[name] = torch.full((512,), 0.1)
    with pytest.raises(BackboneError, match="should be zero everywhere"):
        convert(raw, PUBLISHED["ct-clip"])


def test_timms_names_of_convnext_are_read_as_the_original_ones():
    def timm(name: str) -> str:
        words = name.split(".")
        if name.startswith("downsample_layers.0"):
            return ".".join(["stem", *words[2:]])
        if name.startswith("downsample_layers"):
            return ".".join(["stages", words[1], "downsample", *words[2:]])
        for here, there in (("dwconv", "conv_dw"), ("pwconv1", "mlp.fc1"), ("pwconv2", "mlp.fc2")):
            name = name.replace(here, there)
        if words[0] == "stages":
            return name.replace(".".join(words[:2]), ".".join([*words[:2], "blocks"]), 1)
        return {"norm": "head.norm", "head": "head.fc"}[words[0]] + f".{words[1]}"

    original = LAYOUTS["convnext-small-imagenet"]
    published = PUBLISHED["convnext-small-imagenet"]
    renamed = {timm(name): shape for name, shape in original.items()}
    assert {
        "stem.0.weight",
        "stages.1.downsample.1.bias",
        "stages.2.blocks.26.mlp.fc2.bias",
        "head.fc.bias",
    } <= renamed.keys()
    assert convert(zeros(renamed), published).tensors.keys() == convert(zeros(original), published).tensors.keys()


def faults() -> dict[str, dict[str, Tensor]]:
    raw = zeros(medicalnet())
    return {
        "1 missing (layer4.2.bn3.bias)": {k: v for k, v in raw.items() if k != "module.layer4.2.bn3.bias"},
        "1 unexpected (layer9.weight)": raw | {"module.layer9.weight": torch.zeros(1)},
        "conv1.weight has shape (64, 3, 7, 7, 7) in float32, expected (64, 1, 7, 7, 7)": raw
        | {"module.conv1.weight": torch.zeros(64, 3, 7, 7, 7)},
        "bn1.weight has shape (64,) in int8": raw | {"module.bn1.weight": torch.zeros(64, dtype=torch.int8)},
        "1 odd (conv1.weight appears twice": raw | {"conv1.weight": torch.zeros(64, 1, 7, 7, 7)},
    }


@pytest.mark.parametrize("words", faults())
def test_what_is_wrong_with_a_file_is_said_with_both_structures(words):
    with pytest.raises(BackboneError) as caught:
        recognise(faults()[words])
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(caught.value).count("layout:") == 2


def test_another_networks_file_is_refused_by_name():
    with pytest.raises(BackboneError, match=r"not the weights of VoCo VoComni-B \(VoComni_B\.pt\): 128 missing"):
        convert(zeros(torchvision_resnet50()), PUBLISHED["voco-vocomni-b"])
    assert recognise(zeros(torchvision_resnet50())) is PUBLISHED["resnet50-imagenet"]
    assert recognise({"blocks.0.norm1.weight": torch.zeros(3)}) is None


def test_the_fingerprint_is_of_values_and_survives_statistics_beyond_half_precision():
    tensors = {"running_var": torch.tensor([1.0, 1e6])}
    assert network_fingerprint(tensors) == network_fingerprint({"running_var": torch.tensor([1.0, 1e6]).double()})
    assert network_fingerprint(tensors) != network_fingerprint({"running_var": torch.tensor([1.5, 1e6])})
    with pytest.raises(BackboneError, match="running_var holds values that are not finite"):
        network_fingerprint({"running_var": torch.tensor([torch.nan])})


def test_the_part_that_a_file_fills_has_no_task_head():
    assert not [name for name in part_shapes(PUBLISHED["mst"]) if name.startswith("linear")]
