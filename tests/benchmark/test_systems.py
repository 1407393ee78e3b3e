"""Everything there is to compare, with counts that a whole built classifier has too."""

from __future__ import annotations

import contextlib
import io
import json

import pytest

from anymc3d.benchmark import paper_numbers, systems
from anymc3d.cli.main import main
from anymc3d.models.backbones import BACKBONES
from anymc3d.models.classifier import VolumeClassifier
from anymc3d.models.fusion import FUSIONS
from anymc3d.models.vit import empty_vit
from anymc3d.models.zoo.table import ZOO

KEYS = ["name", "trainable_parameters", "total_parameters", "weights", "licence", "citation", "left_out"]


@pytest.fixture(scope="module")
def records():
    """What the command prints; counted once, because every network is built for it."""
    with contextlib.redirect_stdout(io.StringIO()) as text:
        assert main(["benchmark", "--list-methods", "--json"]) == 0
    return json.loads(text.getvalue())


@pytest.fixture(scope="module")
def listed(records):
    return {str(record["name"]): record for record in records}


def test_json_has_the_promised_keys_of_every_system(records):
    assert {tuple(record) for record in records} == {tuple(KEYS)}
    names = [record["name"] for record in records]
    assert len(set(names)) == len(names)
    assert all(record["weights"] and record["licence"] and record["citation"] for record in records)
    assert set(ZOO) < set(names)


@pytest.mark.parametrize(
    ("name", "trainable"),
    [
        ("anymc3d/dinov3-small", 231_554),
        ("anymc3d/dinov3-base", 456_962),
        ("anymc3d/dinov3-large", 1_197_058),
        ("anymc3d/dinov2-small", 230_114),
        ("anymc3d/medimageinsight", 1_322_138),
        ("anymc3d/medsiglip-448", 2_008_034),
        ("frozen/medsiglip-448", 3_458),
        ("frozen/medimageinsight", 6_146),
        ("anymc3d/dinov3-large/mean", 1_197_058 - 1_024),
        ("anymc3d/dinov3-large/mst", 1_196_034 + 6_304_768),
        ("anymc3d/dinov3-large/mst-positions", 1_196_034 + 6_566_912),
        ("densenet121-3d", 11_244_674),
        ("voco-lora", 70_658),
    ],
)
def test_counts_are_those_of_the_sheet_of_methods(listed, name, trainable):
    assert listed[name]["trainable_parameters"] == trainable


def test_printed_counts_are_those_of_the_built_systems(listed):
    """Parameters as printed are parameters as counted, rounded: what the paper prints is of these very modules."""
    counted = {name: record["trainable_parameters"] for name, record in listed.items()}
    names = {"MedicalNet": "medicalnet", "VoCo": "voco"}
    ways = {"linear probing": "linear", "LoRA": "lora", "full finetuning": "full"}
    for figure in paper_numbers.STRATEGIES:
        value = float(figure.parameters.removesuffix(" M"))
        own = counted[f"{names[figure.system]}-{ways[figure.variant]}"] / 1e6
        assert own == pytest.approx(value, abs=0.0051 if value > 0.01 else 0.00051)
    exact = {"small": 231_554, "base": 456_962, "large": 1_197_058}
    assert {size: counted[f"anymc3d/dinov3-{size}"] for size in exact} == exact


@pytest.mark.parametrize("fusion", FUSIONS)
def test_the_sum_of_the_parts_is_the_whole_classifier(listed, fusion):
    backbone = empty_vit(BACKBONES["dinov2-small"].config)
    whole = VolumeClassifier(backbone, views=("image",), num_logits=2, fusion=fusion)
    name = "anymc3d/dinov2-small" + ("" if fusion == "query" else f"/{fusion}")
    own = sum(parameter.numel() for parameter in whole.parameters())
    assert listed[name]["trainable_parameters"] == own
    frozen = BACKBONES["dinov2-small"].num_parameters
    assert listed[name]["total_parameters"] == own + frozen


def test_the_list_for_people_has_a_line_per_system_under_its_group(records, listed, capsys, monkeypatch):
    monkeypatch.setattr(systems, "list_systems", lambda: records)
    assert main(["benchmark", "--list-methods"]) == 0
    table, _, notes = capsys.readouterr().out.partition("\n\nParameters for two logits")
    assert notes and "\\n" not in table
    groups = table.split("\n\n")[1:]
    names = [[line.split()[0] for line in group.splitlines()[1:]] for group in groups]
    assert sorted(name for group in names for name in group) == sorted(listed)
    assert [group.splitlines()[0].rpartition("(")[2] for group in groups] == [f"{len(group)})" for group in names]
    frozen = next(group for group in names if "frozen/dinov2-small" in group)
    assert frozen == [name for name in listed if name.startswith("frozen/")]


def test_words_choose_from_the_list(records, capsys, monkeypatch):
    monkeypatch.setattr(systems, "list_systems", lambda: records)
    assert main(["benchmark", "--list-methods", "DINOv2-small/", "mst", "--json"]) == 0
    shown = [record["name"] for record in json.loads(capsys.readouterr().out)]
    assert shown == ["anymc3d/dinov2-small/mst", "anymc3d/dinov2-small/mst-positions"]
    assert main(["benchmark", "--list-methods", "voco"]) == 0
    assert "published systems" not in capsys.readouterr().out


def test_a_word_that_no_name_has_and_a_file_are_refused(records, capsys, monkeypatch):
    monkeypatch.setattr(systems, "list_systems", lambda: records)
    assert main(["benchmark", "--list-methods", "bench.yaml"]) == 2
    assert "no name has this word" in capsys.readouterr().err
    assert main(["benchmark", "--list-tasks", "bench.yaml"]) == 2
    assert "takes no benchmark file" in capsys.readouterr().err


def test_what_is_left_out_of_a_winner_is_said_under_the_table(records):
    said = {line.partition(":")[0]: line for line in systems.left_out_lines(records)}
    assert {name for name in ZOO if name.startswith("rsna20")} | {"pandx"} == set(said)
    for name, part in (
        ("rsna2022", "sixth channel; mix-up; dropping a part"),
        ("rsna2022-patient", "a label for each vertebra"),
        ("rsna2023-coat", "LSTM blocks"),
        ("rsna2023-efficientnet", "as many negatives as positives"),
        ("rsna2024-convnext", "localisation stages"),
    ):
        assert part in said[name]
