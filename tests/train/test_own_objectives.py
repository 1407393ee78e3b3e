"""Networks with an objective of their own in training: masks, repeated labels, several views; resumed to the bit."""

from __future__ import annotations

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch

from anymc3d.cli.main import main
from anymc3d.errors import ManifestError
from anymc3d.files.tables import read_table
from anymc3d.models.baseline import BaselineClassifier
from anymc3d.models.classifier import Encoding, PackedSlices
from anymc3d.models.decoders.interface import MaskTarget
from anymc3d.models.lessons import learn, teaches_itself
from anymc3d.models.zoo.convnext import ConvNeXt
from anymc3d.models.zoo.deepcntd import DeepCNTD
from anymc3d.models.zoo.efficientnet import EfficientNet, Stage
from anymc3d.models.zoo.objective import Answers
from anymc3d.models.zoo.rsna2022 import CHANNELS, rsna2022, rsna2022_patient
from anymc3d.models.zoo.rsna2023 import rsna2023_efficientnet
from anymc3d.models.zoo.rsna2024 import rsna2024_efficientnet
from anymc3d.models.zoo.table import ZOO
from anymc3d.models.zoo.volumes import Sizes
from anymc3d.plugins import load_plugin
from anymc3d.settings.task_file import read_task
from anymc3d.settings.training import TrainSettings
from anymc3d.train import loop
from anymc3d.train.fit import fit
from anymc3d.train.losses import Loss, loss_of_answers
from anymc3d.train.optimisation import build_optimizer
from masked_scans import LABELS, masked_task, write_masked_scans


def encoder(channels=3):
    stages = (
        Stage(kind="conv", depth=1, stride=1, expansion=1, width=8),
        Stage(kind="edge", depth=1, stride=2, expansion=2, width=8),
    )
    return EfficientNet(channels, stages=stages, stem=8, embed_dim=16)


def convnext():
    return ConvNeXt(2, CHANNELS, depths=(1, 1, 1, 1), widths=(4, 4, 8, 8), drop_path=0.0)


def deepcntd(num_logits, channels, _):
    return DeepCNTD(num_logits, channels, widths=(4, 4, 8, 8), depths=(1, 1, 1, 1), growth=4, stem=8)


NARROW = {
    "rsna2022": lambda k, c, g: rsna2022(k, encoder=encoder(CHANNELS), hidden=8),
    "rsna2022-patient": lambda k, c, g: rsna2022_patient(k, encoder=convnext(), hidden=8),
    "rsna2023-efficientnet": lambda k, c, g: rsna2023_efficientnet(k, c, encoder=encoder()),
    "rsna2024-efficientnet": lambda k, c, g: rsna2024_efficientnet(k, c, g, encoder=encoder()),
    "deepcntd": deepcntd,
}
RATES = ("train.lora_lr=0.0001", "train.head_lr=0.001")
FIVE = [*LABELS, 21, 22, 23]
"""Of the five kinds of haemorrhage two are there; nobody looked for the others."""
ON_MASKS = ("rsna2023-efficientnet", "rsna2024-efficientnet", "deepcntd")


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    """Under the names of the real networks narrow ones, so that a run takes a second or two."""
    for name, builder in NARROW.items():
        monkeypatch.setitem(ZOO, name, replace(ZOO[name], builder=builder))
    monkeypatch.setattr(DeepCNTD, "sizes", Sizes(rule="pad", least=(16, 16, 16)))


@pytest.fixture(scope="module")
def masked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    add_mask_classes(write_masked_scans(folder))
    return folder


def add_mask_classes(manifest):
    """Say of every mask that both labels of the block were looked for."""
    header, *rows = manifest.read_text().splitlines()
    looked = [f"{row},{'' if row.endswith(',') else '3 7'}" for row in rows]
    manifest.write_text("\n".join([f"{header},mask_classes", *looked]) + "\n")


def train(folder, run, name, decoder, *overrides, **settings):
    if name == "deepcntd" and decoder == "own":
        settings["classes"] = FIVE
    (folder / f"{run}.yaml").write_text(masked_task(decoder, **settings))
    words = (f"method={name}", "method.weights=random", *RATES, *overrides)
    return load_plugin(fit(read_task(folder / f"{run}.yaml", words), folder / run, device="cpu", quiet=True))


@pytest.mark.parametrize("name", ON_MASKS)
def test_masks_are_learned_beside_the_labels_and_nothing_of_it_is_in_the_plugin(masked, name):
    plugin = train(masked, name, name, "own", "train.lr=0.003", "train.epochs=3")
    log = read_table(masked / name / "log.csv")
    assert float(log[-1]["seg_loss"]) < float(log[0]["seg_loss"])
    assert not log[0]["val_dice"], "no maps are drawn, so there is no Dice"
    assert plugin.card.segmentation.decoder == "own" and not plugin.card.decodes
    weights = {"rsna2023-efficientnet": 0.3, "rsna2024-efficientnet": 0.1, "deepcntd": 1.0}
    assert read_task(masked / name / "task.yaml").segmentation.weight == weights[name]
    assert plugin.card.segmentation.classes == (tuple(FIVE) if name == "deepcntd" else LABELS)
    assert {key.split(".")[0] for key in plugin.tensors} == {"network"}
    assert set(plugin.tensors) == set(train(masked, f"{name}-plain", name, "none", "train.epochs=1").tensors)
    words = ["predict", "-p", str(masked / name / "plugin.safetensors"), "-o", str(masked / name / "out"), "--quiet"]
    assert main([*words, "-i", str(masked / name / "manifest.csv"), "--device", "cpu"]) == 0
    own = {row["case"]: row["logit.block"] for row in read_table(masked / name / "out" / "predictions.csv")}
    for row in read_table(masked / name / "predictions.val.csv"):
        assert float(own[row["case"]]) == pytest.approx(float(row["logit.block"]), abs=1e-4)


@pytest.mark.parametrize("name", NARROW)
def test_C1_a_run_stopped_in_a_step_ends_bit_identical(masked, monkeypatch, name):
    """Shuffled orders, dropout, batch norm and optimiser of network and branch come back as they would have been."""
    decoder = "own" if name in ON_MASKS else "none"
    few = ("train.epochs=1",) if name == "deepcntd" else ()  # its steps are slow
    train(masked, f"calm-{name}", name, decoder, *few)
    step, calls = loop._step, []

    def stopped(*args):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return step(*args)

    monkeypatch.setattr(loop, "_step", stopped)
    monkeypatch.setattr(loop, "SAVE_EVERY_S", -1.0)
    with pytest.raises(KeyboardInterrupt):
        train(masked, f"torn-{name}", name, decoder, *few)
    train(masked, f"torn-{name}", name, decoder, *few)
    for file in ("plugin.safetensors", "predictions.val.csv"):
        torn, calm = ((masked / f"{run}-{name}" / file).read_bytes() for run in ("torn", "calm"))
        assert torn == calm, file


REFUSED = [
    (
        ["method=rsna2022", "segmentation=own"],
        "method rsna2022 learns from no masks; with segmentation: own do rsna2023-coat",
    ),
    (["segmentation=own"], "segmentation: own is for networks such as method: rsna2023-coat; anymc3d has nnunet, eomt"),
    (["method=rsna2023-coat", "segmentation=eomt-2d"], "eomt-2d is AnyMC3D's; method rsna2023-coat has its own"),
    (["method=deepcntd", "segmentation.decoder=own", "segmentation.keep=true"], "deepcntd draws no maps"),
    (["segmentation=onw"], "did you mean 'own'"),
    (
        ["method=rsna2023-coat", "segmentation=own", "labels.kind=multiclass", "labels.classes=['0', '1', '2']"],
        "a multiclass task has no such class; use ordinal",
    ),
    (["method=deepcntd", "segmentation=own"], "name the labels of these in this order, those that nobody looked for"),
    (
        ["method=deepcntd", "segmentation.decoder=own", "segmentation.classes=[6,7,8]"],
        "structure 4; 5, 8 or 12 of them, got 3",
    ),
    (
        ["method=deepcntd", "method.weights=random", "segmentation.decoder=own", "segmentation.classes=[1,2,3,4,5]"],
        "none of 10 has one",
    ),
]


@pytest.mark.parametrize(("words", "expected"), REFUSED, ids=[" ".join(words) for words, _ in REFUSED])
def test_what_cannot_work_is_one_line(journey, tmp_path, capsys, words, expected):
    assert main(["train", str(journey.task), "-o", str(tmp_path / "run"), *words, "--device", "cpu", "--quiet"]) == 2
    said = capsys.readouterr().err
    assert expected in said and "Traceback" not in said


LOSS = Loss(TrainSettings(loss="cross-entropy"), softmax=True)
TARGETS = torch.tensor([[1.0], [0.0], [float("nan")]])


def test_an_answer_costs_its_label_as_far_as_it_sees_the_region_and_nothing_there_for_the_rest():
    logits = torch.randn(4, 2, generator=torch.Generator().manual_seed(1))
    answers = Answers(
        logits, torch.tensor([0, 0, 1, 2]), torch.tensor([0.5, 0.5, 1, 1]), torch.tensor([1.0, 0.25, 0.5, 0.5])
    )
    log_p = logits.log_softmax(dim=1)
    soft = -(0.25 * log_p[1, 1] + 0.75 * log_p[1, 0])
    expected = 0.5 * -log_p[0, 1] + 0.5 * soft - log_p[2, 0]
    found = loss_of_answers(LOSS, answers, TARGETS)
    assert found.count == 2, "a missing label counts nothing"
    torch.testing.assert_close(found.total, expected)


def test_with_cross_entropy_a_half_seen_yes_is_the_loss_of_the_label_one_half():
    """As binary cross-entropy with soft labels has it: torch's own, on the log-odds."""
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(2))
    targets = torch.randint(0, 2, (5, 3), generator=torch.Generator().manual_seed(3)).float()
    share = torch.rand(5, generator=torch.Generator().manual_seed(4))
    answers = Answers(logits, torch.arange(5), torch.ones(5), share)
    found = loss_of_answers(Loss(TrainSettings(loss="cross-entropy"), softmax=False), answers, targets)
    soft = targets * share.unsqueeze(1)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, soft, reduction="sum")
    torch.testing.assert_close(found.total, expected)


def test_answers_of_whole_cases_cost_what_their_logits_cost():
    logits = torch.randn(3, 2, generator=torch.Generator().manual_seed(5))
    plain, rows = LOSS(logits, TARGETS), loss_of_answers(LOSS, Answers.of_cases(logits), TARGETS)
    assert plain.count == rows.count
    torch.testing.assert_close(plain.total, rows.total)


def classifier(name, views=("image",), head="linear", num_structures=0):
    channels = dict.fromkeys(views, 1)
    return BaselineClassifier(
        ZOO[name], channels=channels, num_logits=3, head=head, num_structures=num_structures, seed=1
    ).eval()


def packed(counts, masks=()):
    generator = torch.Generator().manual_seed(sum(counts))
    return PackedSlices(torch.rand(sum(counts), 1, 20, 24, generator=generator), counts, masks)


@pytest.mark.parametrize("head", ["linear", "ordinal"])
@pytest.mark.parametrize("name", NARROW)
def test_a_lesson_answers_as_the_classifier_does_also_where_views_are_missing(name, head):
    own = classifier(name, ("a", "b"), head)
    batch = {"a": packed((4, 0, 4)), "b": packed((5, 3, 0))}
    with torch.no_grad():
        torch.testing.assert_close(learn(own, batch, Encoding()).logits, own(None, batch, Encoding()).logits)
    assert teaches_itself(own) and not teaches_itself(torch.nn.Identity())


def test_the_answers_of_views_share_the_weight_of_their_case():
    own = classifier("rsna2022", ("a", "b"))
    answers = learn(own, {"a": packed((4, 0, 4)), "b": packed((5, 3, 0))}, Encoding()).answers
    assert answers.logits.shape[0] == 4 + 4 + 5 + 3, "every slice of every view"
    weights = torch.zeros(3).index_add(0, answers.case, answers.weight)
    assert weights.tolist() == pytest.approx([1, 1, 1])


def test_2024_trains_the_mean_of_its_views_and_each_of_them_by_a_tenth():
    own = classifier("rsna2024-efficientnet", ("a", "b"))
    batch = {"a": packed((4, 0)), "b": packed((5, 3))}
    lesson = learn(own, batch, Encoding())
    answers = lesson.answers
    assert answers.case.tolist() == [0, 1, 0, 0, 1]
    assert answers.weight.tolist() == pytest.approx([1, 1, 0.05, 0.05, 0.1])
    torch.testing.assert_close(answers.logits[:2], lesson.logits)
    torch.testing.assert_close(answers.logits[[2, 3]].mean(dim=0), lesson.logits[0])
    single = learn(classifier("rsna2024-efficientnet"), {"image": packed((4, 2))}, Encoding()).answers
    assert single.weight.tolist() == [1, 1]


@pytest.mark.parametrize("name", ["rsna2023-efficientnet", "deepcntd"])
def test_without_masks_the_mean_of_the_views_is_trained_as_it_answers(name):
    own = classifier(name, ("a", "b"))
    lesson = learn(own, {"a": packed((4, 0, 4)), "b": packed((5, 3, 0))}, Encoding())
    assert lesson.answers.case.tolist() == [0, 1, 2] and lesson.answers.weight.tolist() == [1, 1, 1]
    torch.testing.assert_close(lesson.answers.logits, lesson.logits)


def test_a_case_with_a_mask_in_one_view_is_trained_on_its_triplets_there_and_on_the_answer_of_the_other():
    own = classifier("rsna2023-efficientnet", ("a", "b"), num_structures=1)
    mask = MaskTarget(torch.ones(6, 20, 24, dtype=torch.uint8), (1,))
    batch = {"a": packed((6, 3), (mask, None)), "b": packed((3, 3), (None, None))}
    lesson = learn(own, batch, Encoding())
    assert lesson.answers.case.tolist() == [0, 0, 0, 1], "two triplets and the other view; the case without a mask"
    assert lesson.answers.weight.tolist() == pytest.approx([0.25, 0.25, 0.5, 1])
    torch.testing.assert_close(lesson.answers.logits[3], lesson.logits[1])
    alone = own.networks["b"](*own_volume(own, "b", batch["b"]))
    torch.testing.assert_close(lesson.answers.logits[2], alone[0])


def own_volume(own, view, packed_slices):
    ((_, volume, mask),) = own.volumes(view, packed_slices)
    return volume, mask


def test_the_loss_of_a_cases_masks_is_the_mean_over_its_views():
    own = classifier("rsna2024-efficientnet", ("a", "b"), num_structures=1)
    masks = [MaskTarget(torch.ones(count, 20, 24, dtype=torch.uint8), (1,)) for count in (4, 5)]
    of = {}
    for views in (("a",), ("b",), ("a", "b")):
        batch = {
            view: packed((count, 2), (mask if view in views else None, None))
            for view, count, mask in zip("ab", (4, 5), masks, strict=True)
        }
        of[views] = learn(own, batch, Encoding()).mask_losses
    assert of["a", "b"].keys() == {0}
    torch.testing.assert_close(of["a", "b"][0], (of["a",][0] + of["b",][0]) / 2)


def test_a_mask_in_which_nothing_was_looked_for_is_none():
    own = classifier("rsna2024-efficientnet", num_structures=1)
    batch = {"image": packed((4,), (MaskTarget(torch.ones(4, 20, 24, dtype=torch.uint8), ()),))}
    assert not learn(own, batch, Encoding()).mask_losses


def test_what_learns_from_masks_has_its_own_rate_where_one_is_set():
    own = classifier("rsna2023-efficientnet", num_structures=2)
    for asked, expected in ((None, 2e-4), (5e-3, 5e-3)):
        groups = build_optimizer(own, TrainSettings(), asked).param_groups
        rates = {id(p): group["base_lr"] for group in groups for p in group["params"]}
        assert {rates[id(p)] for p in own.decoder.parameters()} == {expected}
        assert {rates[id(p)] for p in own.networks.parameters()} == {2e-4}


def test_a_batch_without_a_known_label_costs_nothing():
    answers = Answers.of_cases(torch.randn(2, 2, requires_grad=True))
    found = loss_of_answers(LOSS, answers, torch.full((2, 1), float("nan")))
    assert (found.count, found.total.item()) == (0, 0.0)


def test_a_structure_that_nobody_looked_for_keeps_its_place(masked, tmp_path, capsys):
    """DeepCNTD draws in a fixed order: labels 1, 2 and 9 stand for what no ``mask_classes`` names. Networks that draw
    what they find would learn nothing of them, and so would they where everything was looked for."""
    write_masked_scans(tmp_path)
    words = ("method.weights=random", "train.epochs=1", *RATES)

    def trained(run, method, classes):
        (tmp_path / "task.yaml").write_text(masked_task("own", classes=classes))
        task = read_task(tmp_path / "task.yaml", (f"method={method}", *words))
        return load_plugin(fit(task, tmp_path / run, device="cpu", quiet=True))

    with pytest.raises(ManifestError, match="no training mask holds label 1"):
        trained("looked-for", "deepcntd", [1, 2, 3, 7, 9])
    add_mask_classes(tmp_path / "manifest.csv")
    assert trained("run", "deepcntd", [1, 2, 3, 7, 9]).card.segmentation.classes == (1, 2, 3, 7, 9)
    with pytest.raises(ManifestError, match="no training mask holds label 1"):
        trained("other", "rsna2024-efficientnet", [1, 3, 7])


def test_a_region_that_no_mask_shows_whole_is_refused(tmp_path):
    """Each case was looked at for one of the two structures: nobody knows where all of the region is."""
    write_masked_scans(tmp_path)
    for index in range(1, 20, 2):
        path = tmp_path / f"masks/case{index:02d}.nii.gz"
        if path.exists():
            image = nib.load(path)
            labels = np.where(np.asanyarray(image.dataobj) > 0, LABELS[index // 2 % 2], 0).astype(np.uint8)
            nib.save(nib.Nifti1Image(labels, image.affine), path)
    header, *rows = (tmp_path / "manifest.csv").read_text().splitlines()
    ones = [f"{row},{'' if row.endswith(',') else LABELS[i // 2 % 2]}" for i, row in enumerate(rows)]
    (tmp_path / "manifest.csv").write_text("\n".join([f"{header},mask_classes", *ones]) + "\n")
    (tmp_path / "task.yaml").write_text(masked_task("own", classes=list(LABELS)))
    words = ("method=rsna2024-efficientnet", "method.weights=random", *RATES)
    with pytest.raises(ManifestError, match=r"in which all of \[3, 7\] were looked for"):
        fit(read_task(tmp_path / "task.yaml", words), tmp_path / "run", device="cpu", quiet=True)
