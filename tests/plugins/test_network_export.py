"""The network of a plugin in other programs: onnxruntime and MONAI's runner give the plugin's own logits."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from anymc3d.cli.main import main
from anymc3d.data.case_scans import CaseScans
from anymc3d.data.manifest import read_manifest
from anymc3d.errors import PluginError
from anymc3d.plugins import load_plugin, save_plugin
from anymc3d.plugins.ensemble import make_ensemble
from anymc3d.plugins.export import onnx_file
from anymc3d.plugins.export.monai_bundle import export_bundle
from anymc3d.plugins.export.network import CaseNetwork, check_exportable
from anymc3d.predict.predictor import load
from untrained_plugins import AXIAL, made

onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra onnx")
pytest.importorskip("onnxscript", reason="needs the extra onnx")
VIEWS = {"a": AXIAL, "b": replace(AXIAL, plane="coronal", size=(30, 42, None), input="neighbours")}


@pytest.fixture(scope="module")
def bundle(journey, tmp_path_factory):
    """A plugin of two views, adapted behind a seam, one of them 2.5D and of a size that the patch does not divide."""
    folder = tmp_path_factory.mktemp("bundle")
    base = replace(load_plugin(journey.plugin).card, scan_statistics=None)
    made(base, folder / "p.safetensors", "two", blocks=1, views=VIEWS)
    assert main(["plugin", "export", str(folder / "p.safetensors"), "--monai-bundle", "-o", str(folder / "out")]) == 0
    return folder


@pytest.fixture(scope="module")
def cases(journey, bundle):
    """Two scans as prepared slices in the bundle's form, and what ``predict`` says of them."""
    predictor, expected = load(bundle / "p.safetensors", device="cpu"), {}
    for case in read_manifest(journey.data / "manifest.csv").cases[:2]:
        prepared = CaseScans(case).prepare(predictor.plugins[0].card.preprocessing)
        (bundle / "out" / "cases" / case.id).mkdir(parents=True)
        for view, one in prepared.views.items():
            np.save(bundle / "out" / "cases" / case.id / f"{view}.npy", one.slices.astype(np.float32))
        expected[case.id] = list(predictor.predict_case(case)[0].logits.values())
    return expected


def test_onnxruntime_gives_the_logits_of_predict(bundle, cases):
    session = onnxruntime.InferenceSession(str(bundle / "out" / "models" / "model.onnx"))
    for case, expected in cases.items():
        given = {view: np.load(bundle / "out" / "cases" / case / f"{view}.npy") for view in VIEWS}
        assert session.run(["logits"], given)[0] == pytest.approx(expected, abs=1e-4)
    card = load_plugin(bundle / "p.safetensors").card
    told = session.get_modelmeta().custom_metadata_map
    assert json.loads(told["anymc3d"])["tensors_sha256"] == card.tensors_sha256
    assert "Research use only" in told["intended_use"]


@pytest.mark.filterwarnings("ignore")  # MONAI warns of its own eval, and of what it imports
def test_monai_runs_the_bundle_to_the_same_logits(bundle, cases):
    runner = pytest.importorskip("monai.bundle", reason="needs monai (extra benchmark)")
    root = bundle / "out"
    runner.run(run_id="run", config_file=str(root / "configs" / "inference.json"), bundle_root=str(root))
    found = json.loads((root / "logits.json").read_text())
    assert found.keys() == cases.keys()
    assert all(found[case] == pytest.approx(expected, abs=1e-4) for case, expected in cases.items())


def test_the_bundle_says_what_stays_outside(bundle):
    told = json.loads((bundle / "out" / "configs" / "metadata.json").read_text())
    needed = "version monai_version pytorch_version numpy_version task description authors copyright"
    assert {*needed.split(), "network_data_format"} <= told.keys()
    assert told["network_data_format"]["inputs"]["b"]["spatial_shape"] == ["n", 30, 42]
    assert set(told["anymc3d"]) >= {"preprocessing", "calibration", "operating_points"}
    with pytest.raises(PluginError, match="new or empty folder"):
        export_bundle(load_plugin(bundle / "p.safetensors"), bundle / "p.safetensors", bundle / "out")


@pytest.mark.parametrize("kind", [{"fusion": "mean"}, {"fusion": "concat", "views": VIEWS}, {"fusion": "lstm"},
                                  {"frozen": True, "backbone": "tiny-random-dinov3"}, {"backbone": "tiny-random-davit"},
                                  {"blocks": 1, "backbone": "tiny-random-siglip"}])  # fmt: skip
def test_the_merged_network_is_the_plugin_before_it_is_written(journey, tmp_path, kind):
    plugin = load_plugin(made(load_plugin(journey.plugin).card, tmp_path / "p.safetensors", "one", **kind))
    backbone = onnx_file._backbone(plugin, None)
    network = CaseNetwork(plugin, backbone)
    for count in (1, 5):
        slices = network.examples(count, seed=count)
        assert network(*slices) == pytest.approx(network.as_predicted(backbone.module, slices), abs=1e-5)


def test_a_network_that_answers_something_else_is_not_written(journey, tmp_path, monkeypatch):
    class Program:
        class model:
            metadata_props: dict[str, str] = {}

        def save(self, path, external_data):
            pass

    monkeypatch.setattr(onnx_file, "_program", lambda network: Program())
    monkeypatch.setattr(onnx_file, "largest_difference", lambda *given: float("nan"))
    with pytest.raises(PluginError, match=r"differs by nan, .*not written"):
        onnx_file.export_onnx(load_plugin(journey.plugin), tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())


def test_what_is_no_one_network_is_refused_with_the_reason(journey, tmp_path):
    plugin = load_plugin(journey.plugin)
    other = made(plugin.card, tmp_path / "other.safetensors", "other")
    save_plugin(tmp_path / "both.safetensors", *make_ensemble([plugin, load_plugin(other)]))
    with pytest.raises(PluginError, match=r"an ensemble, .* export each member"):
        onnx_file.export_onnx(load_plugin(tmp_path / "both.safetensors"), tmp_path / "x.onnx")
    with pytest.raises(PluginError, match="pools over segmentations"):
        check_exportable(replace(plugin.card, structures=(1,), features="mask"))
