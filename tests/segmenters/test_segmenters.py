"""Segmenters: networks and the program give labels on the scan's own voxels, and what is kept is what was made."""

from __future__ import annotations

import json
import stat
import struct
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from anymc3d.data.readers import read_volume
from anymc3d.data.segmentation import KeptSegmenter
from anymc3d.data.volume import Volume, to_ras
from anymc3d.errors import ScanError, UsageError
from anymc3d.models.meshnet import read_meshnet
from anymc3d.segmenters.build import CONFORMED, build_segmenters, check_programs
from anymc3d.segmenters.network import NetworkSegmenter, network_grid, to_labels
from anymc3d.segmenters.program import ProgramSegmenter
from anymc3d.segmenters.store import PREFIX, keep_model, portable, with_stored_models
from anymc3d.settings.views import NetworkSettings, RoiSettings, ViewSettings
from damage import STAND_INS, flipped

AFFINE = np.diag([2.0, 1.5, 3.0, 1.0])
SHAPE = (16, 20, 10)
BLOB = (slice(4, 9), slice(6, 12), slice(3, 7))


@pytest.fixture
def scan() -> Volume:
    voxels = np.random.default_rng(0).uniform(0, 40, SHAPE).astype(np.float32)
    voxels[BLOB] = 100
    return Volume(voxels=voxels, affine=AFFINE)


def meshnet_files(folder: Path, layers: list[tuple[int, int, int]]) -> tuple[Path, list[torch.Tensor]]:
    """A random network in the TensorFlow.js layout; ``layers``: (in, out, dilation). The last has no activation."""
    generator = np.random.default_rng(1)
    described, entries, weights, tensors = [{"class_name": "InputLayer", "config": {"name": "input"}}], [], b"", []
    for number, (into, out, dilation) in enumerate(layers):
        name, side = f"conv{number}", 3 if number < len(layers) - 1 else 1
        kernel = generator.normal(size=(side, side, side, into, out)).astype("<f4")
        bias = generator.normal(size=out).astype("<f4")
        settings = {
            "name": name, "filters": out, "kernel_size": [side] * 3, "strides": [1, 1, 1], "padding": "same",
            "data_format": "channels_last", "dilation_rate": [dilation] * 3, "groups": 1, "activation": "linear",
            "use_bias": True,
        }  # fmt: skip
        described.append({"class_name": "Conv3D", "config": settings})
        if number < len(layers) - 1:
            described.append({"class_name": "Activation", "config": {"name": f"act{number}", "activation": "relu"}})
        entries += [
            {"name": f"{name}/kernel", "shape": list(kernel.shape), "dtype": "float32"},
            {"name": f"{name}/bias", "shape": [out], "dtype": "float32"},
        ]
        weights += kernel.tobytes() + bias.tobytes()
        tensors += [kernel, bias]
    model = {
        "modelTopology": {"model_config": {"config": {"layers": described}}},
        "weightsManifest": [{"paths": ["group1"], "weights": entries}],
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "brain.json").write_text(json.dumps(model))
    (folder / "brain.bin").write_bytes(weights)
    return folder / "brain.json", tensors


def test_a_meshnet_computes_what_its_layout_says(tmp_path: Path) -> None:
    """Against the sum over kernel positions, written out: padding, dilation and the order of the kernel's axes."""
    path, (kernel, bias, last, last_bias) = meshnet_files(tmp_path, [(1, 2, 2), (2, 3, 1)])
    network = read_meshnet(path.read_bytes(), path.with_suffix(".bin").read_bytes())
    voxels = np.random.default_rng(2).normal(size=(7, 6, 5))
    hidden = np.zeros((7, 6, 5, 2)) + bias
    for i, j, k in np.ndindex(7, 6, 5):
        for a, b, c in np.ndindex(3, 3, 3):
            x, y, z = i + 2 * (a - 1), j + 2 * (b - 1), k + 2 * (c - 1)
            if 0 <= x < 7 and 0 <= y < 6 and 0 <= z < 5:
                hidden[i, j, k] += voxels[x, y, z] * kernel[a, b, c, 0]
    expected = np.maximum(hidden, 0) @ last[0, 0, 0] + last_bias
    found = network(torch.from_numpy(voxels[None, None].astype(np.float32))).numpy()[0]
    assert np.allclose(found, expected.transpose(3, 0, 1, 2), atol=1e-4)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda m: m["modelTopology"]["model_config"]["config"]["layers"][1].update(class_name="Lambda"), "'Lambda'"),
        (lambda m: m["weightsManifest"][0]["weights"][0].update(shape=[3, 3, 3, 1, 500]), "more weights than"),
        (lambda m: m["weightsManifest"][0]["weights"].pop(), "bytes of weights, the file has"),
        (lambda m: m["weightsManifest"][0]["weights"][0].update(dtype="uint8"), "plain float32"),
        (lambda m: m.pop("modelTopology"), "KeyError"),
    ],
)
def test_a_meshnet_that_is_something_else_is_refused(tmp_path: Path, change, told: str) -> None:
    path, _ = meshnet_files(tmp_path, [(1, 2, 2), (2, 3, 1)])
    model = json.loads(path.read_text())
    change(model)
    with pytest.raises(UsageError, match=f"the MeshNet cannot be used: .*{told}"):
        read_meshnet(json.dumps(model).encode(), path.with_suffix(".bin").read_bytes())
    with pytest.raises(UsageError, match="cannot be used"):
        read_meshnet(b"{", b"")


def bright(settings: NetworkSettings) -> NetworkSegmenter:
    """Label 1 where the conformed, normalised voxel is above a half."""
    return NetworkSegmenter(lambda voxels: (voxels > 0.5).astype(np.int64), settings, "x")


@pytest.mark.parametrize("orientation", ["RAS", "LIA", "SPL"])
@pytest.mark.parametrize("grid", [None, (48, 40, 44)])
def test_labels_lie_on_the_scans_voxels_whatever_the_networks_grid(scan: Volume, orientation: str, grid) -> None:
    expected = np.zeros(SHAPE, np.int32)
    expected[BLOB] = 1
    settings = NetworkSettings(normalise="unit", orientation=orientation, spacing_mm=(1.0, 1.0, 1.0), grid=grid)
    found = bright(settings).labels(scan, "")
    assert found.shape == SHAPE and (found != expected).mean() < 0.02
    assert np.array_equal(bright(replace(settings, spacing_mm=None, grid=None)).labels(scan, ""), expected)


def test_the_networks_grid_is_about_the_scans_centre_in_its_orientation(scan: Volume) -> None:
    settings = NetworkSettings(normalise="unit", orientation="LIA", spacing_mm=(1.0, 1.0, 1.0), grid=(64, 48, 32))
    shape, affine = network_grid(scan, settings)
    assert shape == (64, 48, 32)
    assert np.allclose(affine[:3, :3], [[-1, 0, 0], [0, 0, 1], [0, -1, 0]])
    assert np.allclose((affine @ [31.5, 23.5, 15.5, 1])[:3], (AFFINE @ [7.5, 9.5, 4.5, 1])[:3])
    assert network_grid(scan, NetworkSettings(normalise="unit", multiple_of=16))[0] == (16, 32, 16)


def test_scores_become_labels_and_anything_else_is_refused() -> None:
    scores = np.zeros((1, 3, 2, 2, 2), np.float32)
    scores[0, 2, 1] = 5
    assert np.array_equal(to_labels(scores, (2, 2, 2), None)[:, 0, 0], [0, 2])
    assert to_labels(np.full((1, 1, 2, 2, 2), 0.7), (2, 2, 2), 0.5).all()
    with pytest.raises(ScanError, match=r"roi.network.threshold"):
        to_labels(np.full((1, 1, 2, 2, 2), 0.7), (2, 2, 2), None)
    with pytest.raises(ScanError, match=r"\(1, K, 2, 2, 2\).*got \(1, 3, 4, 4, 4\)"):
        to_labels(np.zeros((1, 3, 4, 4, 4)), (2, 2, 2), None)
    with pytest.raises(ScanError, match="not finite"):
        to_labels(np.full((1, 2, 2, 2, 2), np.nan), (2, 2, 2), None)


# -- ONNX -------------------------------------------------------------------------------------------------------------


def _field(number: int, content: bytes | int) -> bytes:
    if isinstance(content, int):
        return _varint(number << 3) + _varint(content)
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def onnx_conv(weights: list[float], biases: list[float]) -> bytes:
    """A 1x1x1 convolution from one channel to ``len(weights)`` scores, written by hand after onnx.proto."""

    def tensor(name: str, shape: list[int], values: list[float]) -> bytes:
        dims = b"".join(_field(1, side) for side in shape)
        return dims + _field(2, 1) + _field(8, name.encode()) + _field(9, struct.pack(f"<{len(values)}f", *values))

    def value(name: str, sides: list[str]) -> bytes:
        shape = b"".join(_field(1, _field(2, side.encode())) for side in sides)
        return _field(1, name.encode()) + _field(2, _field(1, _field(1, 1) + _field(2, shape)))

    node = b"".join(_field(1, name) for name in (b"x", b"w", b"b")) + _field(2, b"y") + _field(4, b"Conv")
    graph = _field(1, node) + _field(2, b"g")
    graph += _field(5, tensor("w", [len(weights), 1, 1, 1, 1], weights)) + _field(5, tensor("b", [len(biases)], biases))
    graph += _field(11, value("x", ["n", "c", "x", "y", "z"])) + _field(12, value("y", ["n", "k", "x", "y", "z"]))
    return _field(1, 8) + _field(7, graph) + _field(8, _field(1, b"") + _field(2, 13))


def onnx_view(path: Path | str, **changes: object) -> ViewSettings:
    given = {"source": "onnx", "model": str(path), "network": NetworkSettings(normalise="unit")}
    return ViewSettings(size=(14, 14, None), roi=RoiSettings(**{**given, **changes}))


def test_an_onnx_network_labels_the_scan(tmp_path: Path, scan: Volume) -> None:
    pytest.importorskip("onnxruntime")
    (tmp_path / "net.onnx").write_bytes(onnx_conv([0.0, 1.0], [0.5, 0.0]))
    views = with_stored_models({"image": onnx_view(tmp_path / "net.onnx")})
    (segmenter,) = build_segmenters(views.values()).values()
    expected = np.zeros(SHAPE, np.int32)
    expected[BLOB] = 1
    assert np.array_equal(segmenter.labels(scan, "hash"), expected)


def test_an_onnx_file_that_is_none_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    (tmp_path / "net.onnx").write_bytes(b"not a network")
    views = with_stored_models({"image": onnx_view(tmp_path / "net.onnx")})
    with pytest.raises(UsageError, match=r"onnxruntime cannot load it.*save it as one \.onnx file"):
        build_segmenters(views.values())


def test_without_onnxruntime_the_line_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net.onnx").write_bytes(onnx_conv([0.0, 1.0], [0.5, 0.0]))
    views = with_stored_models({"image": onnx_view(tmp_path / "net.onnx")})
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UsageError, match=r"onnxruntime package: pip install 'anymc3d\[roi\]'"):
        build_segmenters(views.values())


# -- the store --------------------------------------------------------------------------------------------------------


def test_G4_a_plugins_record_has_a_hash_and_no_path(tmp_path: Path) -> None:
    path, _ = meshnet_files(tmp_path / "secret-hospital", [(1, 2, 1), (2, 2, 1)])
    roi = RoiSettings(source="meshnet", model=str(path))
    view = with_stored_models({"image": ViewSettings(size=(14, 14, None), roi=roi)})["image"]
    assert view.roi.model.startswith(PREFIX) and len(view.roi.model) == len(PREFIX) + 64
    program = RoiSettings(source="totalsegmentator", organs=("liver",), program="/home/someone/bin/TotalSegmentator")
    assert portable(replace(view, roi=program)).roi.program == "TotalSegmentator"


def test_a_model_is_found_by_its_hash_and_a_changed_one_is_another(tmp_path: Path) -> None:
    path, _ = meshnet_files(tmp_path, [(1, 2, 1), (2, 2, 1)])
    name = keep_model(path)
    view = ViewSettings(size=(14, 14, None), roi=RoiSettings(source="meshnet", model=name))
    assert len(build_segmenters([view])) == 1
    content = bytearray(path.with_suffix(".bin").read_bytes())
    content[0] ^= 1
    path.with_suffix(".bin").write_bytes(bytes(content))
    assert keep_model(path) != name
    unknown = replace(view, roi=replace(view.roi, model=PREFIX + "0" * 64))
    with pytest.raises(UsageError, match="not in the local store; give its file with --segmenter"):
        build_segmenters([unknown])
    with pytest.raises(UsageError, match="no such file"):
        keep_model(tmp_path / "none.json")
    with pytest.raises(UsageError, match=r"takes a \.json, got 'net.onnx'"):
        with_stored_models({"image": replace(view, roi=replace(view.roi, model="net.onnx"))})


class Counting:
    identity = "counting"

    def __init__(self) -> None:
        self.calls = 0

    def labels(self, scan: Volume, scan_hash: str) -> np.ndarray:
        self.calls += 1
        return (scan.voxels > 50).astype(np.int32) * 7


def test_a_scan_is_segmented_once_and_a_damaged_entry_again(tmp_path: Path, scan: Volume, caplog) -> None:
    inner = Counting()
    first = KeptSegmenter(inner, tmp_path).labels(scan, "a")
    assert np.array_equal(KeptSegmenter(inner, tmp_path).labels(scan, "a"), first) and inner.calls == 1
    (entry,) = tmp_path.glob("*.safetensors")
    assert stat.S_IMODE(entry.stat().st_mode) == 0o600
    entry.write_bytes(entry.read_bytes()[:-3])
    assert np.array_equal(KeptSegmenter(inner, tmp_path).labels(scan, "a"), first) and inner.calls == 2
    assert "damaged" in caplog.text
    whole = entry.read_bytes()
    for changed in flipped(whole, 150):
        entry.write_bytes(changed)
        assert np.array_equal(KeptSegmenter(inner, tmp_path).labels(scan, "a"), first)
    inner.calls = 2
    for number, name in enumerate(("pipe", "folder", "endless device"), start=3):
        STAND_INS[name](entry)
        assert np.array_equal(KeptSegmenter(inner, tmp_path).labels(scan, "a"), first) and inner.calls == number
    inner.calls = 2
    KeptSegmenter(inner, tmp_path).labels(scan, "b")
    KeptSegmenter(inner, tmp_path).labels(replace(scan, affine=AFFINE * 2), "a")
    assert inner.calls == 4, "another scan, or another spacing, is another segmentation"


# -- TotalSegmentator -------------------------------------------------------------------------------------------------

STAND_IN = '''#!{python}
"""The command line of TotalSegmentator 2, as far as it is used here."""
import argparse, sys, time
from pathlib import Path
parser = argparse.ArgumentParser()
parser.add_argument("-i", dest="input", required=True)
parser.add_argument("-o", dest="output", required=True)
parser.add_argument("-f", "--fast", action="store_true")
parser.add_argument("-rs", "--roi_subset", nargs="+", required=True)
parser.add_argument("--version", action="version", version="2.9.9-stand-in")
args = parser.parse_args()
{trouble}
import nibabel, numpy
image = nibabel.load(args.input)
Path(args.output).mkdir()
for number, organ in enumerate(args.roi_subset):
    found = (image.get_fdata() > 50 + 100 * number).astype(numpy.uint8)
    nibabel.save(nibabel.Nifti1Image(found, image.affine), Path(args.output) / f"{{organ}}.nii.gz")
'''


def stand_in(folder: Path, trouble: str = "") -> Path:
    path = folder / "TotalSegmentator"
    path.write_text(STAND_IN.format(python=sys.executable, trouble=trouble))
    path.chmod(0o700)
    return path


def test_the_program_is_called_and_its_organs_come_back_as_labels(tmp_path: Path, scan: Volume) -> None:
    roi = RoiSettings(source="totalsegmentator", organs=("liver", "spleen"), program="x", fast=True)
    program = stand_in(tmp_path)
    (segmenter,) = build_segmenters([ViewSettings(size=(14, 14, None), roi=roi)], given_paths=[program]).values()
    expected = np.zeros(SHAPE, np.int32)
    expected[BLOB] = 5
    assert np.array_equal(segmenter.labels(scan, "hash"), expected)
    slow = ProgramSegmenter(str(program), roi.organs, False, 60)
    assert segmenter.identity != slow.identity


@pytest.mark.parametrize(
    ("trouble", "told"),
    [
        ("sys.exit('no licence for this task')", "ended with exit code 1: no licence for this task"),
        ("time.sleep(6000)", "took more than 2 s; raise roi.timeout_s"),
        ("sys.exit(0)", "ended well, but left no folder of organs"),
        ("Path(args.output).mkdir(); sys.exit(0)", "ended well, but: .*found none for liver"),
    ],
)
def test_a_program_that_fails_is_one_clear_line(tmp_path: Path, scan: Volume, trouble: str, told: str) -> None:
    program = ProgramSegmenter(str(stand_in(tmp_path, trouble)), ("liver",), False, 2 if "sleep" in trouble else 60)
    with pytest.raises(ScanError, match=told):
        program.labels(scan, "")


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    roi = RoiSettings(source="totalsegmentator", organs=("liver",), program="NoSuchProgram")
    view = ViewSettings(size=(14, 14, None), roi=roi)
    with pytest.raises(UsageError, match="no program 'NoSuchProgram' was found; give its path, or put its output"):
        build_segmenters([view], given_paths=["NoSuchProgram"])
    assert build_segmenters([view]) == {}
    with pytest.raises(UsageError, match=r"no file can have a program run; .* --segmenter TotalSegmentator"):
        check_programs([view], ["net.onnx"])
    check_programs([view], ["NoSuchProgram"])


@pytest.mark.real_data
def test_the_real_brain_model_finds_the_brain_of_its_t1(shared: Path) -> None:
    """At 2 mm, an eighth of the work: near the 518.5 ml of white and 735.2 ml of grey matter that its source states
    for 1 mm, where this loader gives exactly those."""
    folder = shared / "data" / "brain_meshnet"
    roi = RoiSettings(
        source="meshnet",
        model=str(folder / "model5_gw_ae.json"),
        network=replace(CONFORMED, normalise="unit", spacing_mm=(2.0, 2.0, 2.0), grid=(128, 128, 128)),
    )
    views = with_stored_models({"image": ViewSettings(size=(14, 14, None), roi=roi)})
    (segmenter,) = build_segmenters(views.values()).values()
    labels = segmenter.labels(to_ras(read_volume(folder / "t1_crop.nii.gz")), "t1")
    white, grey = (labels == 1).sum() / 1000, (labels == 2).sum() / 1000
    assert 400 < white < 560 and 640 < grey < 800
