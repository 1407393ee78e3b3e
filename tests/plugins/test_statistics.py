"""Z-scores reach the network as they are, unless a view says otherwise; old plugins keep their answers."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open

from anymc3d import load
from anymc3d.cli.main import main
from anymc3d.data.preprocess import prepare_view
from anymc3d.data.readers import read_volume
from anymc3d.models.build import build_classifier
from anymc3d.models.classifier import Encoding, PackedSlices, to_backbone_input
from anymc3d.models.zoo.slice_rnn import AS_THEY_ARE, IMAGENET
from anymc3d.plugins import load_plugin, save_plugin
from anymc3d.plugins.card_text import card_to_json, read_card
from anymc3d.plugins.file import HEADER_KEY
from anymc3d.recipes.table import RECIPES
from anymc3d.settings.config import LabelSettings
from anymc3d.settings.training import MethodSettings
from anymc3d.settings.views import ViewSettings


@pytest.mark.parametrize(
    ("normalise", "statistics", "standardised"),
    [
        ("percentile", None, False),
        ("window", None, False),
        ("zscore", None, True),
        ("zscore", "none", True),
        ("zscore", "backbone", False),
        ("percentile", "none", True),
    ],
)
def test_the_default_leaves_z_scores_alone_and_nothing_else(normalise, statistics, standardised):
    windows = ((0.0, 1.0),) if normalise == "window" else ()
    view = ViewSettings(size=(28, 28, 4), normalise=normalise, windows=windows, statistics=statistics)
    assert view.is_standardised == standardised


def variant(journey, path, statistics):
    plugin = load_plugin(journey.plugin)
    views = {
        name: replace(view, normalise="zscore", windows=(), statistics=statistics)
        for name, view in plugin.card.preprocessing.items()
    }
    save_plugin(path, replace(plugin.card, preprocessing=views), plugin.tensors)
    return path


@pytest.fixture(scope="module")
def plugins(journey, tmp_path_factory):
    folder = tmp_path_factory.mktemp("statistics")
    return {text: variant(journey, folder / f"{text}.safetensors", text) for text in ("none", "backbone")}


def by_hand(path, scan, statistics):
    """The logit from slices that were normalised here, by an encoding that does nothing more."""
    plugin, predictor = load_plugin(path), load(path, device="cpu")
    (resident,) = predictor.residents
    classifier = resident.members[0].classifier
    (view,) = plugin.card.preprocessing.values()
    slices = torch.from_numpy(prepare_view(read_volume(scan), view).slices).float()
    if statistics == "backbone":
        record = plugin.card.backbone
        mean, std = (torch.tensor(part).view(1, 3, 1, 1) for part in (record.mean, record.std))
        slices = (slices.expand(-1, 3, -1, -1) - mean) / std
    with torch.inference_mode():
        found = classifier(resident.network, {"image": PackedSlices(slices, (len(slices),))}, Encoding())
    return float(found.logits[0, 1] - found.logits[0, 0])


@pytest.mark.parametrize("statistics", ["none", "backbone"])
def test_B15_a_prediction_has_what_its_plugin_says(plugins, journey, statistics):
    logit = load(plugins[statistics], device="cpu").predict(journey.scans[0]).logits["block"]
    assert logit == pytest.approx(by_hand(plugins[statistics], journey.scans[0], statistics), abs=1e-4)


def test_the_two_readings_differ_also_where_plugins_share_a_scan(plugins, journey):
    alone = [load(path, device="cpu").predict(journey.scans[0]).logits["block"] for path in plugins.values()]
    assert abs(alone[0] - alone[1]) > 1e-3
    renamed = []
    for name, path in plugins.items():
        plugin = load_plugin(path)
        renamed.append(path.with_name(f"{name}_renamed.safetensors"))
        save_plugin(renamed[-1], replace(plugin.card, name=name), plugin.tensors)
    together = load([str(path) for path in renamed], device="cpu").predict(journey.scans[0])
    assert [one.logits["block"] for one in together] == pytest.approx(alone, abs=1e-4)


def test_a_plugin_from_before_there_was_a_choice_keeps_its_answer(plugins):
    with safe_open(plugins["backbone"], framework="np") as file:
        header = json.loads(file.metadata()[HEADER_KEY])
    del header["preprocessing"]["image"]["statistics"]
    card = read_card(json.dumps(header), "old.safetensors")
    assert card.preprocessing["image"].statistics == "backbone"
    assert json.loads(card_to_json(card))["preprocessing"]["image"]["statistics"] == "backbone"


def test_plugin_show_says_which_it_has(plugins, capsys):
    shown = {}
    for name, path in plugins.items():
        assert main(["plugin", "show", str(path)]) == 0
        shown[name] = capsys.readouterr().out
    assert "zscore, without the backbone's mean and standard deviation" in shown["none"]
    assert "without the backbone's mean" not in shown["backbone"]


def test_T8_and_T10_leave_z_scores_alone_and_T9_has_its_percentiles():
    for task, expected in (("T8", "none"), ("T10", "none"), ("T9", None)):
        assert {view.statistics for view in RECIPES[task].views.values()} == {expected}


@pytest.mark.parametrize("name", ["mst", "rsna-kaggle", "rsna2024-efficientnet"])
def test_networks_that_take_out_imagenets_statistics_leave_them_where_the_view_says_so(name):
    from anymc3d.models.meta_device import without_memory

    labels = LabelSettings(columns=("y",), kind="binary", classes=("0", "1"))
    found = {}
    for statistics in ("none", "backbone"):
        view = ViewSettings(size=(32, 32, 6), normalise="zscore", statistics=statistics)
        with without_memory():
            built = build_classifier(
                MethodSettings(name=name), views={"image": view}, labels=labels, fusion="query", backbone=None
            )
        found[statistics] = built.networks["image"].statistics
    assert found == {"none": AS_THEY_ARE, "backbone": IMAGENET}


def test_as_they_are_is_as_they_are():
    slices = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 1, 28, 28)).astype(np.float32))
    assert torch.equal(to_backbone_input(slices, 14, AS_THEY_ARE), slices.expand(-1, 3, -1, -1))
