"""``train.start: frozen``: the quick solution is epoch 0, kept unless a later epoch is better by more than noise."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from anymc3d.data.cache import Cache
from anymc3d.errors import TaskFileError, UsageError
from anymc3d.files import home
from anymc3d.files.tables import read_table
from anymc3d.models.classifier import VolumeClassifier
from anymc3d.models.store import find_backbone
from anymc3d.plugins import load_plugin
from anymc3d.settings.config import LabelSettings
from anymc3d.settings.task_file import read_task
from anymc3d.train import frozen_start, loop
from anymc3d.train.fit import fit
from anymc3d.train.frozen_start import solve
from anymc3d.train.quick.heads import HeadLearner, stack_tokens
from anymc3d.train.quick.settings import Candidate
from anymc3d.train.start import settings_of_run
from anymc3d.train.task_checks import check_task

KINDS = {
    "binary": LabelSettings(columns=("y",), kind="binary", classes=("0", "1")),
    "multiclass": LabelSettings(columns=("y",), kind="multiclass", classes=("a", "b", "c")),
    "ordinal": LabelSettings(columns=("y",), kind="ordinal", classes=("low", "mid", "high")),
    "multilabel": LabelSettings(columns=("y", "z"), kind="multilabel"),
}
FROZEN = ["train.start=frozen", "train.lora_lr=null", "train.head_lr=null"]


class Backbone(torch.nn.Module):
    embed_dim = 8


def cases_and_targets(kind, views, num_cases=36):
    rng = np.random.default_rng(0)
    num_classes = max(2, len(KINDS[kind].classes))
    truth = np.arange(num_cases) % num_classes
    shift = np.zeros((num_cases, 1, 8))
    shift[:, 0, 0] = truth
    cases = [{v: (rng.normal(3, 1, (3, 8)) + shift[i]).astype(np.float32) for v in views} for i in range(num_cases)]
    if len(views) > 1:
        cases[3][views[0]], cases[5][views[1]] = None, cases[5][views[1]][:1]
    targets = truth.astype(float)[:, None]
    if kind == "multilabel":
        targets = np.hstack([targets, rng.integers(0, 2, (num_cases, 1))])
        targets[::7, 1] = np.nan
    return cases, targets


@pytest.mark.parametrize("fusion", ["query", "mean", "max", "median"])
@pytest.mark.parametrize("views", [("image",), ("axial", "side")])
@pytest.mark.parametrize("kind", KINDS)
def test_training_starts_with_the_answers_of_the_quick_solution(kind, views, fusion):
    cases, targets = cases_and_targets(kind, views)
    tokens, rows = stack_tokens(cases, views), np.arange(len(cases))
    found = solve(tokens, targets, [f"p{row}" for row in rows], KINDS[kind], fusion, seed=0)
    grid = [Candidate(name, decay) for name in ("mean", fusion) for decay in (1, 0.1, 0.01)]
    quick = HeadLearner(tokens, targets, KINDS[kind], grid)
    number = quick.candidates.index(Candidate(found.record["fusion"], found.record["weight_decay"]))
    expected = quick.path(rows, rows)[number]

    labels = KINDS[kind]
    options = {"num_logits": labels.num_logits, "head": labels.head, "fusion": fusion, "rank": None}
    classifier = VolumeClassifier(Backbone(), views=views, **options, seed=5)
    found.enter(classifier)
    packed = {name: padded[mask] for name, (padded, mask) in tokens.views.items()}
    counts = {name: tuple(mask.sum(dim=1).tolist()) for name, (_, mask) in tokens.views.items()}
    with torch.inference_mode():
        np.testing.assert_allclose(classifier.fuse(packed, counts).logits.numpy(), expected, atol=2e-4)
        classifier.load_tensors(classifier.plugin_tensors())
        classifier.scale = None
        np.testing.assert_allclose(classifier.fuse(packed, counts).logits.numpy(), expected, atol=2e-4)


def test_a_run_that_stands_still_is_a_logistic_regression_on_class_tokens(journey, tmp_path):
    """Somebody else's answer, from scans to plugin; two logits share a weight, so half their decay is theirs."""
    still = ["train.start=frozen", "train.lora_lr=0", "train.head_lr=0", "train.epochs=1", "fusion=mean"]
    plugin = load_plugin(fit(read_task(journey.task, still), tmp_path / "run", device="cpu", quiet=True))
    decay = plugin.card.training["frozen_start"]["weight_decay"]
    rows = read_table(tmp_path / "run" / "manifest.csv")
    tokens = {row["case"]: class_token_mean(row, journey) for row in rows if row["split"] != "test"}
    train = [row for row in rows if row["split"] == "train"]
    scaler = StandardScaler().fit([tokens[row["case"]] for row in train])
    theirs = LogisticRegression(C=2 / (decay * len(train)), tol=1e-10, max_iter=5000)
    theirs.fit(scaler.transform([tokens[row["case"]] for row in train]), [int(row["block"]) for row in train])
    for row in read_table(tmp_path / "run" / "predictions.val.csv"):
        expected = theirs.decision_function(scaler.transform([tokens[row["case"]]]))[0]
        assert float(row["logit.block"]) == pytest.approx(expected, abs=0.05), row["case"]


def class_token_mean(row, journey):
    from anymc3d.data.dataset import CaseSet, prepare_all
    from anymc3d.data.manifest import read_manifest
    from anymc3d.models.classifier import Encoding, to_backbone_input

    task = read_task(journey.task)
    (case,) = [case for case in read_manifest(task.data.manifest).cases if case.id == row["case"]]
    cache = Cache(home.cache_folder())
    slices = CaseSet([case], prepare_all([case], task.views, cache), task.views, cache).load(0)["image"]
    backbone = find_backbone("tiny-random")
    encoding = Encoding(mean=backbone.card.mean, std=backbone.card.std)
    images = to_backbone_input(torch.from_numpy(slices), backbone.module.patch_size, encoding)
    with torch.inference_mode():
        return backbone.module(images).tokens[:, 0].mean(dim=0).numpy()


def run_of(journey, folder, *overrides):
    """The plugin of a run, and its log."""
    fit(read_task(journey.task, [*FROZEN, *overrides]), folder, device="cpu", quiet=True)
    return load_plugin(folder / "plugin.safetensors"), read_table(folder / "log.csv")


STILL = ["train.lora_lr=0", "train.head_lr=0"]


def test_epoch_0_is_in_the_log_and_kept_where_nothing_beats_it(journey, tmp_path):
    plugin, log = run_of(journey, tmp_path / "run", *STILL)
    assert [row["epoch"] for row in log] == ["0", "1", "2"]
    assert log[0]["train_loss"] == "" and {row["val_loss"] for row in log} == {log[0]["val_loss"]}
    assert {row["best_epoch"] for row in log} == {"0"}
    training = plugin.card.training
    assert (training["start"], training["best_epoch"], training["standardise"]) == ("frozen", 0, True)
    assert all(not tensor.any() for name, tensor in plugin.tensors.items() if name.endswith(".B")), "LoRA does nothing"


def test_what_is_kept_lies_part_of_the_way_from_the_start_to_what_was_trained(journey, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "beats_start", lambda *_: True)
    once = ("train.epochs=1", "train.precision=fp32", "train.lora_lr=0.02", "train.head_lr=0.02")
    half = {"atol": 2e-3, "rtol": 2e-3}  # files hold half precision
    start, trained, part, usual = (
        run_of(journey, tmp_path / str(number), *once, *own)[0].tensors
        for number, own in enumerate((STILL, ["train.trained_share=1"], ["train.trained_share=0.25"], []))
    )
    for name, tensor in part.items():
        torch.testing.assert_close(tensor, torch.lerp(start[name], trained[name], 0.25), **half)
        torch.testing.assert_close(usual[name], torch.lerp(start[name], trained[name], 0.5), **half)
    moved = max(float((trained[name] - start[name]).abs().max()) for name in start)
    assert moved > 0.05, "there is a way to go"


def test_validation_and_test_cases_take_no_part_in_the_solution(journey, tmp_path, monkeypatch):
    seen = []

    def spy(*args, **options):
        seen.append(args)
        return solve(*args, **options)

    monkeypatch.setattr(frozen_start, "solve", spy)
    run_of(journey, tmp_path / "run", "train.epochs=1")
    ((_, targets, patients, *_),) = seen
    train = [row for row in read_table(tmp_path / "run" / "manifest.csv") if row["split"] == "train"]
    assert patients == [row["case"] for row in train]
    assert targets[:, 0].tolist() == [float(row["block"]) for row in train]


def test_tokens_that_are_too_many_are_pooled_case_by_case(journey, tmp_path, monkeypatch):
    monkeypatch.setattr(frozen_start, "MOST_NUMBERS", 10)
    plugin, _ = run_of(journey, tmp_path / "run", "train.epochs=1", *STILL)
    assert plugin.card.training["frozen_start"]["fusion"] == "mean"
    assert not plugin.tensors["task_query"].any()


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["train.start=frozen", "fusion=lstm"], "and not fusion: lstm; take train.start=random"),
        (["train.start=frozen", "train.standardise=false"], "train.start: frozen needs it; leave it out"),
        (["train.standardise=true", "fusion=mst"], "leave it out, or take fusion: query"),
    ],
)
def test_what_cannot_start_so_is_refused_before_anything_is_read(journey, overrides, said):
    with pytest.raises(UsageError, match=said):
        check_task(read_task(journey.task, overrides))


def test_from_random_values_there_is_no_way_to_keep_a_share_of(journey):
    with pytest.raises(TaskFileError, match=r"it needs train.start=frozen, or leave it out"):
        read_task(journey.task, ["train.trained_share=0.5"])


@pytest.mark.parametrize("fusion", ["lstm", "transformer", "max"])
def test_other_fusions_are_trained_on_standardised_slices_from_random_values(journey, tmp_path, fusion):
    task = read_task(journey.task, ["train.standardise=true", f"fusion={fusion}", "train.epochs=1"])
    plugin = load_plugin(fit(task, tmp_path / "run", device="cpu", quiet=True))
    assert (plugin.card.training["start"], plugin.card.training["standardise"]) == ("random", True)
    assert "frozen_start" not in plugin.card.training


def test_the_papers_recipe_is_the_same_run_as_before_there_were_starts(journey):
    """Null rates mean the paper's, and folders of older runs are known again."""
    plain = settings_of_run(read_task(journey.task, ["train.lora_lr=null", "train.head_lr=null"]))["train"]
    assert (plain["lora_lr"], plain["head_lr"]) == (1e-4, 1e-3)
    assert not {"start", "standardise", "warmup", "clip", "trained_share"} & plain.keys()
    other = settings_of_run(read_task(journey.task, FROZEN))["train"]
    assert (other["start"], other["clip"]) == ("frozen", "group")
    task = read_task(journey.task)
    assert settings_of_run(task) == settings_of_run(replace(task, train=replace(task.train, warmup=0.0, clip="joint")))
