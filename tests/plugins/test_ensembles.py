"""Ensembles: one file, one backbone, one read of each scan; the mean of the members' calibrated logits."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import special

import anymc3d
from anymc3d.data.manifest import read_manifest
from anymc3d.errors import PluginError, ProblemsError, UsageError
from anymc3d.evaluate.calibration import Calibration
from anymc3d.evaluate.operating_points import OperatingPoint
from anymc3d.evaluate.task_calibration import TaskCalibration
from anymc3d.files.tables import read_table
from anymc3d.models.store import find_backbone
from anymc3d.models.vit import VisionTransformer
from anymc3d.plugins import load_plugin, plugin_bytes, save_plugin
from anymc3d.plugins.ensemble import make_ensemble, warnings_of
from anymc3d.plugins.peft import export_peft
from anymc3d.predict.cohort import predict_cohort
from anymc3d.predict.predictor import load


def variant(journey, path, *, seed, calibrated=True, **card):
    """The journey's plugin with other weights and a calibration of its own."""
    plugin = load_plugin(journey.plugin)
    rng = torch.Generator().manual_seed(seed)
    tensors = {name: t + 0.05 * torch.randn(t.shape, generator=rng) for name, t in plugin.tensors.items()}
    threshold = 0.1 * seed - 0.2
    point = OperatingPoint(
        name="f1", criterion="f1", threshold=threshold, value=0.5, source_split="val", n=40, n_positive=20
    )
    maps = {"block": Calibration(kind="platt", slope=0.5 + seed, threshold=threshold, n=40, n_positive=20)}
    calibration = TaskCalibration(method="platt", criterion="f1", split="val", cases=40, maps=maps)
    own = {"operating_points": (point.to_dict(),), "calibration": calibration if calibrated else None}
    save_plugin(path, replace(plugin.card, **(own | card)), tensors)
    return path


@pytest.fixture(scope="module")
def members(journey, tmp_path_factory):
    folder = tmp_path_factory.mktemp("members")
    return [variant(journey, folder / f"fold_{i}.safetensors", seed=i) for i in range(3)]


@pytest.fixture(scope="module")
def ensemble(members):
    path = members[0].parent / "ensemble.safetensors"
    save_plugin(path, *make_ensemble([load_plugin(member) for member in members]))
    return path


def calibrated_logit(member, scan):
    plugin = load_plugin(member)
    raw = load(member, device="cpu").predict(scan).logits["block"]
    return raw if plugin.card.calibration is None else plugin.card.calibration.maps["block"].apply(raw)


def test_logit_is_the_mean_of_the_members_calibrated_logits(journey, members, ensemble):
    for scan in journey.scans[:3]:
        prediction = load(ensemble, device="cpu").predict(scan)
        expected = np.mean([calibrated_logit(member, scan) for member in members])
        assert prediction.logits["block"] == pytest.approx(expected, abs=1e-6)
        assert prediction.probabilities["block"] == pytest.approx(special.expit(expected), abs=1e-6)
        assert prediction.decisions["block"] == int(prediction.probabilities["block"] >= 0.5)
        assert prediction.calibrated
        assert sum(prediction.slice_weights["image"]) == pytest.approx(1, abs=1e-5)


def test_an_ensemble_of_one_answers_as_its_member(journey, members, tmp_path):
    save_plugin(tmp_path / "one.safetensors", *make_ensemble([load_plugin(members[1])], name="block"))
    one, alone = load(tmp_path / "one.safetensors", device="cpu"), load(members[1], device="cpu")
    for scan in journey.scans[:4]:
        ours, theirs = one.predict(scan), alone.predict(scan)
        assert ours.probabilities == theirs.probabilities
        assert ours.decisions == theirs.decisions
        assert ours.slice_weights == theirs.slice_weights


def test_the_order_of_the_members_changes_no_byte(members, ensemble):
    for order in itertools.permutations(members):
        made = make_ensemble([load_plugin(member) for member in order])
        assert plugin_bytes(*made) == ensemble.read_bytes()


def test_the_file_has_every_members_tensors_and_card_bit_for_bit(members, ensemble):
    whole = load_plugin(ensemble)
    assert whole.card.kind == "ensemble"
    assert all(name.startswith(("member.0.", "member.1.", "member.2.")) for name in whole.tensors)
    originals = {plugin.hash: plugin for plugin in map(load_plugin, members)}
    assert {member.hash for member in whole.card.members} == set(originals)
    for member in whole.members:
        original = originals[member.hash]
        assert member.card == original.card
        assert plugin_bytes(member.card, member.tensors) == plugin_bytes(original.card, original.tensors)


def test_each_scan_is_read_and_prepared_once_on_one_backbone(journey, ensemble, monkeypatch):
    reads, prepared, made = [], [], []
    read, prepare = anymc3d.data.scan.read_volume, anymc3d.data.scan.prepare_view
    monkeypatch.setattr("anymc3d.data.scan.read_volume", lambda *a, **k: reads.append(a) or read(*a, **k))
    monkeypatch.setattr("anymc3d.data.scan.prepare_view", lambda *a: prepared.append(a) or prepare(*a))
    build = VisionTransformer.__init__
    monkeypatch.setattr(VisionTransformer, "__init__", lambda self, config: made.append(self) or build(self, config))
    load(ensemble, device="cpu").predict(journey.scans[0])
    assert (len(reads), len(prepared), len(made)) == (1, 1, 1)


def test_one_member_at_a_time_has_its_adapted_weights_in_memory(journey, ensemble, monkeypatch):
    from anymc3d.models.lora import LoRA

    monkeypatch.setattr("anymc3d.models.shared_trunk.FEW_TOKENS", 0)  # of few slices no weight is adapted at all
    alive, most = [], []
    weights = LoRA.weights

    class Tracked(dict):
        def __init__(self, found):
            super().__init__(found)
            alive.append(1)
            most.append(len(alive))

        def __del__(self):
            alive.pop()

    monkeypatch.setattr(LoRA, "weights", lambda self, network: Tracked(weights(self, network)))
    load(ensemble, device="cpu").predict(journey.scans[0])
    assert most == [1, 1, 1]
    assert not alive


def test_the_cohort_journal_takes_an_ensemble_like_any_plugin(journey, ensemble, members, tmp_path):
    cases = read_manifest(journey.data / "manifest.csv").cases[:3]
    predictor = load(ensemble, device="cpu")
    rows = predict_cohort(predictor, cases, tmp_path / "out", quiet=True).rows
    assert predict_cohort(predictor, cases, tmp_path / "out", quiet=True).computed == 0
    assert [row["logit.block"] for row in read_table(tmp_path / "out" / "predictions.csv")] == [
        row["logit.block"] for row in rows
    ]
    record = json.loads((tmp_path / "out" / "predict.json").read_text())
    assert record["calibrated"] == {"block-ensemble": True}
    both = load([ensemble, members[0]], device="cpu")
    first, second = both.predict(journey.scans[0])
    assert first.logits["block"] == pytest.approx(float(rows[0]["logit.block"]), abs=1e-5)
    assert second.plugin == "block"


class TestUncalibrated:
    """Members without a calibration: the mean of the raw logits, and it says so."""

    @pytest.fixture
    def plain(self, journey, tmp_path):
        return [variant(journey, tmp_path / f"{i}.safetensors", seed=i, calibrated=False) for i in range(2)]

    def test_raw_logits_are_averaged_and_the_answer_says_uncalibrated(self, journey, plain, tmp_path):
        card, tensors = make_ensemble([load_plugin(path) for path in plain])
        assert "uncalibrated" in warnings_of(card)[0]
        save_plugin(tmp_path / "e.safetensors", card, tensors)
        prediction = load(tmp_path / "e.safetensors", device="cpu").predict(journey.scans[0])
        expected = np.mean([calibrated_logit(path, journey.scans[0]) for path in plain])
        assert prediction.logits["block"] == pytest.approx(expected, abs=1e-6)
        assert not prediction.calibrated
        assert prediction.decisions["block"] == int(prediction.probabilities["block"] >= 0.5)

    def test_a_mixture_is_refused(self, members, plain):
        with pytest.raises(PluginError, match=r"in every plugin or in none, but plain one has none"):
            make_ensemble([load_plugin(members[0]), load_plugin(plain[1])], sources=["fold 0", "plain one"])


class TestRefusals:
    def test_other_labels_and_another_modality_are_all_named(self, journey, members, tmp_path):
        plugin = load_plugin(members[0])
        labels = replace(plugin.card.labels, classes=("no", "yes"))
        other = replace(plugin.card, labels=labels, modality="CT", calibration=None, operating_points=())
        save_plugin(tmp_path / "other.safetensors", other, plugin.tensors)
        with pytest.raises(ProblemsError) as caught:
            make_ensemble([plugin, load_plugin(tmp_path / "other.safetensors")], sources=["a", "b"])
        (problem,) = caught.value.problems
        assert problem.startswith("b: ")
        assert "labels.classes was ['0', '1'], now ['no', 'yes']" in problem
        assert "modality was 'MR', now 'CT'" in problem

    def test_the_name_of_the_backbone_is_for_people_only(self, members, tmp_path):
        plugin = load_plugin(members[0])
        renamed = replace(plugin.card, backbone=replace(plugin.card.backbone, name="my copy"))
        save_plugin(tmp_path / "renamed.safetensors", renamed, plugin.tensors)
        card, _ = make_ensemble([load_plugin(members[1]), load_plugin(tmp_path / "renamed.safetensors")])
        named = [member.card.backbone.name for member in card.members]
        assert sorted(named) == sorted([plugin.card.backbone.name, "my copy"])

    def test_the_same_plugin_twice_an_ensemble_and_nothing(self, members, ensemble):
        one = load_plugin(members[0])
        with pytest.raises(UsageError, match="b and a are the same plugin"):
            make_ensemble([one, one], sources=["a", "b"])
        with pytest.raises(ProblemsError, match="of kind 'ensemble'"):
            make_ensemble([one, load_plugin(ensemble)])
        with pytest.raises(UsageError, match="at least one"):
            make_ensemble([])

    def test_F4_a_member_with_anothers_tensors_or_foreign_tensors_is_refused(self, ensemble, tmp_path):
        whole = load_plugin(ensemble)
        swapped = {
            name.replace("member.0", "member.x").replace("member.1", "member.0").replace("member.x", "member.1"): t
            for name, t in whole.tensors.items()
        }
        save_plugin(tmp_path / "swapped.safetensors", whole.card, swapped)
        with pytest.raises(PluginError, match="tensors of member 0 do not match"):
            load_plugin(tmp_path / "swapped.safetensors")
        save_plugin(tmp_path / "more.safetensors", whole.card, dict(whole.tensors) | {"head.bias": torch.zeros(2)})
        with pytest.raises(PluginError, match="expected tensors of 3 members only"):
            load_plugin(tmp_path / "more.safetensors")

    def test_a_single_classifier_or_a_peft_folder_cannot_be_made_of_it(self, ensemble, tmp_path):
        whole, backbone = load_plugin(ensemble), find_backbone("tiny-random")
        with pytest.raises(PluginError, match="build its members"):
            whole.build(backbone.module, backbone.fingerprint)
        with pytest.raises(PluginError, match="export its plugins"):
            export_peft(whole, tmp_path / "peft")


def test_a_scan_unlike_any_members_training_is_warned_of_once(journey, ensemble, tmp_path):
    import nibabel as nib

    rng = np.random.default_rng(1)
    voxels = rng.normal(40, 30, (24, 28, 8)).astype(np.float32)
    voxels[:8] = rng.normal(-1000, 5, (8, 28, 8))
    nib.save(nib.Nifti1Image(voxels, np.diag([1.0, 1.0, 3.0, 1.0])), tmp_path / "ct.nii.gz")
    prediction = load(ensemble, device="cpu").predict(tmp_path / "ct.nii.gz")
    assert prediction.status == "warn"
    assert prediction.message.count("intensities do not fit") == 1


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["ich-fold_0", "ich-fold_1"], "ich-ensemble"),
        (["ich-seed0", "ich-seed0-b"], "ich-seed0-ensemble"),
        (["ich"], "ich-ensemble"),
        (["b", "a"], "a-ensemble"),
        (["ich", "ich-ensemble"], "ich-ensemble-ensemble"),
    ],
)
def test_the_default_name_is_what_members_share_and_never_that_of_one(names, expected):
    from anymc3d.plugins.ensemble import _default_name

    assert _default_name(names) == expected


def test_the_same_weights_twice_are_told(journey, tmp_path):
    variant(journey, tmp_path / "one.safetensors", seed=1)
    one = load_plugin(tmp_path / "one.safetensors")
    save_plugin(tmp_path / "again.safetensors", replace(one.card, name="again"), one.tensors)
    variant(journey, tmp_path / "two.safetensors", seed=2)
    again, two = (load_plugin(tmp_path / f"{name}.safetensors") for name in ("again", "two"))
    twice, _ = make_ensemble([one, again])
    assert "2 members with only 1 different sets of weights" in warnings_of(twice)[0]
    apart, _ = make_ensemble([one, two])
    assert not any("different sets" in line for line in warnings_of(apart))
