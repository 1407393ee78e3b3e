"""Networks of the zoo through the same commands as AnyMC3D: train, resume, store, predict, and what is refused."""

from __future__ import annotations

import json
import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from anymc3d.cli.main import main
from anymc3d.errors import BackboneError, PluginError
from anymc3d.files.tables import read_table
from anymc3d.models.baseline import BaselineClassifier
from anymc3d.models.build import build_classifier
from anymc3d.models.classifier import Encoding, PackedSlices
from anymc3d.models.fingerprint import layout_fingerprint
from anymc3d.models.store import find_backbone
from anymc3d.models.zoo.medicalnet import MedicalNet, medicalnet
from anymc3d.models.zoo.mst import MST
from anymc3d.models.zoo.recipe import Recipe
from anymc3d.models.zoo.resnet import resnet18_3d
from anymc3d.models.zoo.table import ZOO
from anymc3d.models.zoo.volumes import Sizes
from anymc3d.plugins import load_plugin, save_plugin
from anymc3d.plugins.ensemble import make_ensemble
from anymc3d.predict.predictor import Predictor, load
from anymc3d.settings.config import LabelSettings
from anymc3d.settings.task_file import read_task
from anymc3d.settings.training import MethodSettings, TrainSettings
from anymc3d.settings.views import ViewSettings
from anymc3d.train import loop
from anymc3d.train.draws import batches, num_steps, visits
from anymc3d.train.fit import fit
from anymc3d.train.losses import make_loss
from anymc3d.train.optimisation import build_optimizer, set_learning_rate
from anymc3d.train.start import with_recipe

VIEW = ViewSettings(size=(28, 28, 4))
BINARY = LabelSettings(columns=("y",), kind="binary", classes=("0", "1"))


class Tiny(nn.Module):
    """A narrow ResNet with dropout: batch norm's statistics and dropout's draws are what an exact resume needs."""

    sizes = Sizes()

    def __init__(self, num_logits: int, in_channels: int) -> None:
        super().__init__()
        self.encoder = resnet18_3d(8, in_channels, widths=(4, 4, 8, 8))
        self.dropout = nn.Dropout(0.3)
        self.fc = nn.Linear(8, num_logits)

    def forward(self, volume, slice_mask):
        return self.fc(self.dropout(self.encoder(volume, slice_mask)))


@pytest.fixture(scope="module", autouse=True)
def narrow():
    """Under the name of the real network a narrow one, so that a run takes a second."""
    with pytest.MonkeyPatch.context() as patch:
        entry = replace(ZOO["resnet18-3d"], builder=lambda logits, channels, _: Tiny(logits, channels))
        patch.setitem(ZOO, "resnet18-3d", entry)
        yield entry


OVERRIDES = ("method=resnet18-3d", "name=resnet", "train.lora_lr=0.0001", "train.head_lr=0.001")


@pytest.fixture(scope="module")
def trained(journey, tmp_path_factory, narrow):
    """The run folder of a baseline on the tiny scans of the journey."""
    run = tmp_path_factory.mktemp("baseline") / "run"
    fit(read_task(journey.task, OVERRIDES), run, device="cpu", quiet=True)
    return run


def test_a_network_trains_and_its_file_holds_everything(trained, narrow):
    plugin = load_plugin(trained / "plugin.safetensors")
    card = plugin.card
    assert (card.kind, card.backbone, card.method.name) == ("baseline", None, "resnet18-3d")
    own = {n: t for n, t in narrow.build(2).state_dict().items() if t.is_floating_point()}
    assert {f"network.image.{name}": tensor.shape for name, tensor in own.items()} == {
        name: tensor.shape for name, tensor in plugin.tensors.items()
    }
    assert plugin.tensors["network.image.encoder.bn1.running_var"].ne(1).all(), "statistics are learned and kept"
    assert {key: card.training[key] for key in ("lr", "weight_decay", "loss", "optimizer", "start_weights")} == {
        "lr": 3e-4, "weight_decay": 1e-4, "loss": "focal", "optimizer": "adamw", "start_weights": "random",
    }  # fmt: skip
    assert read_task(trained / "task.yaml").train.lr == 3e-4, "the record of the run says the values that were used"
    cost = json.loads((trained / "cost.json").read_text())
    parameters = sum(p.numel() for p in narrow.build(2).parameters())
    assert cost["trainable_parameters"] == cost["total_parameters"] == parameters


def test_training_and_prediction_agree_and_both_kinds_predict_in_one_command(trained, journey, tmp_path):
    words = ["-p", str(trained / "plugin.safetensors"), "-p", str(journey.plugin)]
    assert main(["predict", *words, "-i", str(trained / "manifest.csv"), "-o", str(tmp_path), "--quiet"]) == 0
    rows = {row["case"]: row for row in read_table(tmp_path / "predictions.csv") if row["plugin"] == "resnet"}
    for row in read_table(trained / "predictions.val.csv"):
        assert float(row["logit.block"]) == pytest.approx(float(rows[row["case"]]["logit.block"]), abs=1e-4)
    assert len(read_table(tmp_path / "predictions.csv")) == 2 * len(rows) == 40


@pytest.mark.parametrize("moment", [2, 4, 8])
def test_C1_a_run_stopped_in_any_step_ends_bit_identical(trained, journey, tmp_path, monkeypatch, moment):
    """Batch norm's statistics come back from the checkpoint, and dropout draws what it would have drawn."""
    step, calls = loop._step, []

    def stops(*args):
        calls.append(1)
        if len(calls) == moment:
            raise KeyboardInterrupt
        return step(*args)

    monkeypatch.setattr(loop, "_step", stops)
    monkeypatch.setattr(loop, "SAVE_EVERY_S", -1.0)
    task = read_task(journey.task, OVERRIDES)
    with pytest.raises(KeyboardInterrupt):
        fit(task, tmp_path / "run", device="cpu", quiet=True)
    torch.manual_seed(moment)  # the global generator decides nothing
    fit(task, tmp_path / "run", device="cpu", quiet=True)
    for name in ("plugin.safetensors", "predictions.val.csv", "metrics.csv", "run.json"):
        assert (tmp_path / "run" / name).read_bytes() == (trained / name).read_bytes(), name


def test_an_ensemble_of_networks_answers_their_mean(trained, journey, tmp_path):
    other = tmp_path / "other"
    fit(read_task(journey.task, [*OVERRIDES, "train.seed=1"]), other, device="cpu", quiet=True)
    plugins = [load_plugin(run / "plugin.safetensors") for run in (trained, other)]
    save_plugin(tmp_path / "both.safetensors", *make_ensemble(plugins, name="both"))
    scan = journey.scans[0]
    alone = [Predictor([plugin]).predict(scan).logits["block"] for plugin in plugins]
    assert load(tmp_path / "both.safetensors").predict(scan).logits["block"] == pytest.approx(np.mean(alone), abs=1e-6)


def test_another_networks_tensors_are_refused_with_both_fingerprints(trained, tmp_path):
    plugin = load_plugin(trained / "plugin.safetensors")
    tensors = {**plugin.tensors, "network.image.fc.weight": torch.zeros(3, 8)}
    save_plugin(tmp_path / "odd.safetensors", plugin.card, tensors)
    expected, got = layout_fingerprint(plugin.tensors), layout_fingerprint(tensors)
    with pytest.raises(PluginError, match=rf"resnet18-3d \({expected}\), got another network's \({got}\)"):
        load(tmp_path / "odd.safetensors")


def test_start_weights_are_taken_by_part_and_another_networks_are_refused(narrow, journey, tmp_path, caplog):
    source = narrow.build(5, seed=9)
    file = tmp_path / "weights.safetensors"
    save_file({name: tensor for name, tensor in source.state_dict().items() if tensor.is_floating_point()}, file)
    task = read_task(journey.task, [*OVERRIDES, f"method.weights={file}", "train.lr=1.0e-9", "train.epochs=1"])
    with caplog.at_level(logging.INFO):
        fit(task, tmp_path / "run", device="cpu", quiet=True)
    assert "initial values: fc" in caplog.text, "a head for five labels is left out and told"
    plugin = load_plugin(tmp_path / "run" / "plugin.safetensors")
    start = source.state_dict()["encoder.conv1.weight"]
    torch.testing.assert_close(plugin.tensors["network.image.encoder.conv1.weight"], start, atol=1e-6, rtol=0)
    assert plugin.card.training["start_weights"].startswith("sha256:")
    assert str(tmp_path) not in json.dumps(str(plugin.card)), "a plugin holds no path"
    save_file({"encoder.conv1.weight": torch.zeros(1)}, tmp_path / "wrong.safetensors")
    wrong = read_task(journey.task, [*OVERRIDES, f"method.weights={tmp_path / 'wrong.safetensors'}"])
    with pytest.raises(BackboneError, match=r"not weights of resnet18-3d: expected layout:\w{16}, got layout:\w{16}"):
        fit(wrong, tmp_path / "wrong", device="cpu", quiet=True)


def test_mst_starts_from_the_backbone_of_the_task_and_trains_it(journey, tmp_path, monkeypatch, caplog):
    backbone = find_backbone("tiny-random")
    entry = replace(
        ZOO["mst"], builder=lambda logits, channels, draws: MST(logits, channels, draws, config=backbone.module.config)
    )
    monkeypatch.setitem(ZOO, "mst", entry)
    with caplog.at_level(logging.INFO):
        fit(read_task(journey.task, ["method=mst", "train.epochs=1"]), tmp_path, device="cpu", quiet=True)
    assert f"mst starts from {backbone.source} ({backbone.fingerprint}); initial values: linear" in caplog.text
    plugin = load_plugin(tmp_path / "plugin.safetensors")
    assert plugin.card.training["start_weights"] == backbone.fingerprint
    assert (plugin.card.training["lr"], plugin.card.training["loss"]) == (1e-6, "cross-entropy")
    for name, start in backbone.module.state_dict().items():
        found = plugin.tensors[f"network.image.encoder.{name}"]
        torch.testing.assert_close(found, start, atol=1e-4, rtol=0)
    weight = plugin.tensors["network.image.encoder.blocks.0.attn.qkv.weight"]
    assert not torch.equal(weight, backbone.module.state_dict()["blocks.0.attn.qkv.weight"]), "it is trained"


REFUSED = [
    (["method=resnet18-3b"], "method: unknown name 'resnet18-3b', did you mean 'resnet18-3d'"),
    (["method=medicalnet-full"], "starts from published weights (MedicalNet resnet_50_23dataset.pth), which are not"),
    (["method=mst", "backbone=dinov2-small"], "method mst starts from the backbone"),
    (["method=mst"], "not weights of mst: expected layout:"),
    (["method=resnet18-3d", "method.weights=nothing.safetensors"], "neither a file nor in the local store"),
    (["train.lr=0.1"], "train.lr: is for networks such as method: resnet18-3d; anymc3d has train.lora_lr"),
    (["method.weights=random"], "method.weights: anymc3d trains on a backbone"),
    (["method=resnet18-3d", "train.batch_size=1"], "batch norm needs two values of a channel or more in training"),
    (
        ["method=resnet18-3d", "segmentation=nnunet"],
        "segmentation: method resnet18-3d learns from no masks; with segmentation: own do rsna2023-coat",
    ),
    (
        ["method=medicalnet-full", "views.image.normalise=window", "views.image.windows=[[0, 1], [0, 2], [0, 3]]"],
        "views.image.windows: method medicalnet-full takes 1 channel, got 3 windows",
    ),
]


@pytest.mark.parametrize(("words", "expected"), REFUSED, ids=[" ".join(words) for words, _ in REFUSED])
def test_what_cannot_work_is_one_line(journey, tmp_path, capsys, words, expected):
    assert main(["train", str(journey.task), "-o", str(tmp_path / "run"), *words, "--device", "cpu", "--quiet"]) == 2
    said = capsys.readouterr().err.strip()
    assert expected in said
    assert len([line for line in said.splitlines() if not line.startswith("settings that say nothing to")]) == 1


def test_commands_that_need_a_backbone_say_so_in_one_line(trained, journey, tmp_path, capsys):
    plugin, scan, out = str(trained / "plugin.safetensors"), str(journey.scans[0]), str(tmp_path / "out")
    for words, expected in (
        (["explain", "-p", plugin, "-i", scan, "-o", out], "has no backbone whose attention could be shown"),
        (["report", "-p", plugin, "-i", scan, "-o", f"{out}.html", "--method", "rollout"], "has no backbone whose"),
        (["predict", "-p", plugin, "-i", scan, "-o", out, "--segmentation"], "method: anymc3d in place of resnet18-3d"),
        (["predict", "-p", plugin, "-i", scan, "-o", out, "--backbone", "tiny-random"], "takes no backbone"),
        (["plugin", "export", plugin, "-o", out], "PEFT holds adapters only"),
        (["train", str(journey.task), "--quick", "-o", out, "method=resnet18-3d"], "--quick learns on frozen features"),
    ):
        assert main(words) == 2
        assert expected in capsys.readouterr().err


def test_show_verify_report_and_calibrate_take_a_baseline(trained, journey, tmp_path, capsys):
    plugin = str(trained / "plugin.safetensors")
    assert main(["plugin", "show", plugin]) == 0
    assert "method: resnet18-3d, started from random" in capsys.readouterr().out
    assert main(["plugin", "verify", plugin]) == 0
    assert "it needs no backbone" in capsys.readouterr().out
    assert main(["report", str(trained), "-o", str(tmp_path / "run.html")]) == 0
    scan = str(journey.scans[1])
    assert main(["report", "-p", plugin, "-i", scan, "-o", str(tmp_path / "study.html")]) == 0
    assert "a network that holds all its weights" in (tmp_path / "study.html").read_text()
    words = ["-p", plugin, str(trained / "predictions.val.csv"), str(trained / "manifest.csv")]
    assert main(["calibrate", *words, "-o", str(tmp_path / "c.safetensors")]) == 0
    assert load_plugin(tmp_path / "c.safetensors").card.kind == "baseline"


def test_cross_validation_takes_a_baseline(journey, tmp_path):
    words = ["method=resnet18-3d", "train.epochs=1", "--folds", "2", "--device", "cpu", "--quiet"]
    assert main(["train", str(journey.task), "-o", str(tmp_path / "cv"), *words]) == 0
    assert len(read_table(tmp_path / "cv" / "oof.csv")) == 20


def test_settings_that_say_nothing_to_a_network_are_named(journey, tmp_path, caplog):
    task = read_task(journey.task, ["method=resnet18-3d", "fusion=max", "method.rank=4", "train.epochs=1"])
    with caplog.at_level(logging.WARNING):
        fit(task, tmp_path / "run", device="cpu", quiet=True)
    assert "say nothing to method resnet18-3d: fusion, train.lora_lr, train.head_lr, method.rank" in caplog.text


def packed(*counts: int, channels: int = 1) -> PackedSlices:
    return PackedSlices(torch.rand(sum(counts), channels, 16, 16, generator=torch.Generator().manual_seed(0)), counts)


def test_cases_of_different_numbers_of_slices_answer_as_they_do_alone(narrow):
    classifier = BaselineClassifier(narrow, channels={"image": 1}, num_logits=2).eval()
    together = packed(3, 6, 3)
    with torch.no_grad():
        logits = classifier(None, {"image": together}, Encoding()).logits
        for case, slices in enumerate(together.slices.split(list(together.counts))):
            alone = classifier(None, {"image": PackedSlices(slices, (len(slices),))}, Encoding()).logits
            torch.testing.assert_close(logits[case : case + 1], alone)


def test_several_views_answer_the_mean_of_those_that_are_there(narrow):
    classifier = BaselineClassifier(narrow, channels={"a": 1, "b": 1}, num_logits=2).eval()
    batch = {"a": packed(4, 0), "b": packed(4, 4)}
    with torch.no_grad():
        found = classifier(None, batch, Encoding())
        one = classifier.networks["a"](batch["a"].slices.unsqueeze(0).transpose(1, 2), torch.ones(1, 4).bool())
        both = batch["b"].slices.view(2, 4, 1, 16, 16).transpose(1, 2)
        two = classifier.networks["b"](both, torch.ones(2, 4).bool())
    torch.testing.assert_close(found.logits, torch.stack([(one[0] + two[0]) / 2, two[1]]))
    assert found.view_weights.tolist() == [[0.5, 0.5], [0.0, 1.0]]
    assert not torch.equal(*(network.fc.weight for network in classifier.networks.values())), "each its own draws"
    with pytest.raises(PluginError, match="at least one view"):
        classifier(None, {"a": packed(4, 0), "b": packed(4, 0)}, Encoding())


def test_grades_get_rising_cut_points_from_one_score(narrow):
    labels = LabelSettings(columns=("g",), kind="ordinal", classes=("0", "1", "2"))
    method = MethodSettings(name="resnet18-3d")
    classifier = build_classifier(method, views={"image": VIEW}, labels=labels, fusion="query", backbone=None).eval()
    with torch.no_grad():
        logits = classifier(None, {"image": packed(4, 4)}, Encoding()).logits
        torch.testing.assert_close(logits.exp().sum(dim=1), torch.ones(2))
        low, high = (classifier.ordinal(torch.tensor([[score]]))[0].argmax() for score in (-9.0, 9.0))
    assert (int(low), int(high)) == (0, 2)


def test_a_volume_of_another_size_is_told_once(narrow, caplog):
    entry = replace(narrow, sizes=Sizes(rule="resize", fixed=(8, 16, 16)))
    classifier = BaselineClassifier(entry, channels={"image": 1}, num_logits=2).eval()
    with caplog.at_level(logging.INFO), torch.no_grad():
        for _ in range(2):
            classifier(None, {"image": packed(4, 5)}, Encoding())
    assert len([record for record in caplog.records if "resized to 8 x 16 x 16" in record.message]) == 1


@pytest.mark.parametrize("total", range(1, 14))
@pytest.mark.parametrize("width", [2, 3, 4])
def test_no_batch_has_a_lone_case_where_batch_norm_is_trained(total, width):
    steps = batches(visits(range(total)), width, least=2)
    assert [visit.case for step in steps for visit in step] == list(range(total)), "no case is dropped or doubled"
    assert len(steps) == num_steps(total, width, least=2)
    assert total == 1 or min(len(step) for step in steps) >= 2


def test_the_recipe_decides_what_the_task_leaves_open(narrow, journey):
    recipe = Recipe(optimizer="sgd", lr=0.1, weight_decay=0.01, momentum=0.9, slow={"encoder.": 0.1})
    classifier = BaselineClassifier(replace(narrow, recipe=recipe), channels={"image": 1}, num_logits=2)
    optimizer = build_optimizer(classifier, TrainSettings())
    assert isinstance(optimizer, torch.optim.SGD) and optimizer.defaults["momentum"] == 0.9
    rates = {len(group["params"]): (group["base_lr"], group["weight_decay"]) for group in optimizer.param_groups}
    encoder = len(list(classifier.networks["image"].encoder.parameters()))
    assert rates == {encoder: (pytest.approx(0.01), 0.01), 2: (0.1, 0.01)}
    task = with_recipe(read_task(journey.task, ["method=mst"]))
    assert (task.train.lr, task.train.weight_decay, task.train.loss) == (1e-6, 1e-2, "cross-entropy")
    task = with_recipe(read_task(journey.task, ["method=mst", "train.lr=0.5", "train.loss=focal"]))
    assert (task.train.lr, task.train.loss) == (0.5, "focal")
    assert with_recipe(read_task(journey.task)).train.lr is None


def test_frozen_parts_are_not_trained_and_need_no_second_case():
    entry = ZOO["medicalnet-linear"]

    def builder(logits, _, generator):
        return medicalnet(
            logits, generator, strategy="linear", encoder=MedicalNet(depths=(1, 1, 1, 1), widths=(4,) * 4)
        )

    classifier = BaselineClassifier(replace(entry, builder=builder), channels={"image": 1}, num_logits=2)
    assert classifier.least_batch == 1
    optimizer = build_optimizer(classifier, TrainSettings(lr=0.1))
    before = {name: tensor.detach().clone() for name, tensor in classifier.tensors().items()}
    classifier.train()
    set_learning_rate(optimizer, 1.0)
    loss = make_loss(TrainSettings(), BINARY, np.array([[0.0]]))
    loss(classifier(None, {"image": packed(8)}, Encoding()).logits, torch.tensor([[1.0]])).total.backward()
    optimizer.step()
    moved = {name for name, tensor in classifier.tensors().items() if not torch.equal(tensor, before[name])}
    assert moved == {"network.image.head.weight", "network.image.head.bias"}
