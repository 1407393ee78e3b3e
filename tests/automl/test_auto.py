"""The whole way on tiny scans."""

import csv
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from anymc3d.automl import amount, candidates, lora, scoring, sights, steps
from anymc3d.automl import run as auto_run
from anymc3d.automl.clock import Clock
from anymc3d.automl.folder import AutoFolder, Remembered
from anymc3d.automl.leaderboard import COLUMNS, NUMBER_COLUMNS
from anymc3d.automl.run import auto
from anymc3d.automl.settings import AutoSettings
from anymc3d.automl.work import Work
from anymc3d.cli.main import main
from anymc3d.errors import InterruptedRunError, ManifestError, UsageError
from anymc3d.files.tables import read_table
from anymc3d.plugins import load_plugin
from anymc3d.plugins.evidence import doubts_of
from anymc3d.predict.predictor import load
from anymc3d.settings.config import DataSettings, LabelSettings, TaskSettings
from anymc3d.settings.views import ViewSettings
from anymc3d.train.quick.crossval import Pool
from anymc3d.train.quick.heads import stack_tokens

SETTINGS = AutoSettings(outer_folds=2, least_cases=4, train=False)


def write_manifest(journey, path, *, label=lambda index, cell: cell):
    rows = read_table(journey.data / "manifest.csv")
    for index, row in enumerate(rows):
        own = {"image": str(journey.data / row["image"]), "block": label(index, row["block"])}
        row |= own | {"split": "test" if index > 15 else "train", "site": "ab"[index // 2 % 2]}
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def search(manifest, out, **options):
    return auto(manifest, "block", out, minutes=60, backbone="tiny-random", device="cpu", quiet=True, **options)


@pytest.fixture(scope="module")
def one_look():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sights, "LOOKS", sights.LOOKS[:1])
        patch.setattr(steps, "stored_records", list)
        yield patch


@pytest.fixture(scope="module")
def done(journey, one_look, tmp_path_factory):
    folder = tmp_path_factory.mktemp("auto")
    manifest = write_manifest(journey, folder / "manifest.csv")
    return folder, manifest, search(manifest, folder / "best", settings=SETTINGS)


def test_the_leaderboard_is_best_first_and_has_every_candidate(done):
    folder, _, found = done
    rows = read_table(folder / "best" / "leaderboard.csv")
    assert tuple(rows[0]) == COLUMNS
    values = [float(row["auroc"]) for row in rows]
    assert values == sorted(values, reverse=True)
    assert len(rows) == found["candidates"] + 1
    weights = {row["candidate"]: float(row["weight"]) for row in rows if row["candidate"] != "auto"}
    assert sum(weights.values()) == pytest.approx(1)
    assert {one["candidate"]: one["weight"] for one in found["members"]} == pytest.approx(
        {name: weight for name, weight in weights.items() if weight}
    )


def test_every_case_outside_the_test_split_is_answered_once(done):
    rows = read_table(done[0] / "best" / "oof.csv")
    assert [row["case"] for row in rows] == [f"case{index:02d}" for index in range(16)]
    assert {row["fold"] for row in rows} == {"0", "1"}


def test_the_plugin_predicts_what_the_test_split_was_told(done, journey):
    predictor = load(done[0] / "best" / "plugin.safetensors", device="cpu")
    rows = read_table(done[0] / "best" / "test" / "predictions.csv")
    assert done[2]["test"]["not_answered"] == 0
    assert [row["case"] for row in rows] == [f"case{index:02d}" for index in range(16, 20)]
    again = predictor.predict(journey.data / "scans" / f"{rows[0]['case']}.nii.gz")
    assert again.logits["block"] == pytest.approx(float(rows[0]["logit.block"]), abs=1e-5)
    assert load_plugin(done[0] / "best" / "plugin.safetensors").card.holds_calibration


def test_each_site_is_left_out_once_and_the_page_says_what_won(done):
    folder, _, found = done
    assert {name: one["n"] for name, one in found["sites"]["sites"].items()} == {"a": 8, "b": 8}
    page = (folder / "best" / "report.html").read_text()
    assert "The simple method wins" in page or "weight" in page
    assert found["verdict"].split(":")[0] in page.replace("&#x27;", "'")


def test_B16_labels_of_the_test_split_change_no_byte_of_the_plugin(done, journey, tmp_path, one_look):
    flipped = write_manifest(journey, tmp_path / "m.csv", label=lambda i, cell: cell if i < 16 else str(1 - int(cell)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steps, "MOST_FOR_TEST", 0.0)
        patch.setattr(auto_run, "OVERRUN", -2.0)
        found = search(flipped, tmp_path / "best", settings=SETTINGS)
    assert found["test"] is None
    (note,) = [line for line in found["notes"] if line.startswith("test split: left out")]
    assert "--split test" in note
    assert len(read_table(tmp_path / "best" / "test" / "predictions.csv")) <= scoring.FEW
    for name in ("plugin.safetensors", "oof.csv"):
        assert (tmp_path / "best" / name).read_bytes() == (done[0] / "best" / name).read_bytes(), name


def test_a_finished_run_does_nothing_and_a_stopped_one_goes_on(done, tmp_path, one_look):
    folder, manifest, found = done
    assert search(manifest, folder / "best", settings=SETTINGS) == json.loads(
        (folder / "best" / "auto.json").read_text()
    )

    def stopped(*_, **__):
        raise InterruptedRunError("stopped")

    for place, name in ((steps, "_look"), (scoring.TestCases, "scored")):
        with pytest.MonkeyPatch.context() as patch, pytest.raises(InterruptedRunError):
            patch.setattr(place, name, stopped)
            search(manifest, tmp_path / "again", settings=SETTINGS)
    assert (tmp_path / "again" / "plugin.safetensors").exists(), "the first answer is there"
    again = search(manifest, tmp_path / "again", settings=SETTINGS)
    assert {**again, "seconds": 0} == {**found, "seconds": 0}
    for name in ("plugin.safetensors", "oof.csv", "metrics.csv", "test/predictions.csv"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / "best" / name).read_bytes(), name
    one, other = (read_table(path / "leaderboard.csv") for path in (tmp_path / "again", folder / "best"))
    assert [row | {"seconds": ""} for row in one] == [row | {"seconds": ""} for row in other]


@pytest.mark.parametrize(
    ("columns", "outputs"),
    [
        ({"grade": lambda i: "abc"[i % 3]}, ("grade=a", "grade=b", "grade=c")),
        ({"one": lambda i: i % 2, "two": lambda i: "" if i == 4 else int(i % 4 < 2)}, ("one", "two")),
    ],
    ids=["several classes", "several labels"],
)
def test_several_classes_and_several_labels(done, tmp_path, one_look, columns, outputs):
    rows = read_table(done[1])
    path = tmp_path / "m.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["image", "split", *columns])
        writer.writeheader()
        for index, row in enumerate(rows):
            kept = {name: row[name] for name in ("image", "split")}
            writer.writerow(kept | {name: cell(index) for name, cell in columns.items()})
    options = {"minutes": 60, "backbone": "tiny-random", "device": "cpu", "quiet": True, "settings": SETTINGS}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steps, "SIMPLEST", ("foreground",))
        found = auto(path, list(columns), tmp_path / "best", **options)
    card = load_plugin(tmp_path / "best" / "plugin.safetensors").card
    assert card.labels.output_names == outputs
    assert {f"logit.{name}" for name in outputs} <= set(read_table(tmp_path / "best" / "oof.csv")[0])
    assert found["auroc"]["of"] == "mean over labels"
    assert found["auroc"]["value"] is not None
    assert found["test"]["value"] is not None


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (lambda index, cell: "1" if index == 3 else "0", r"block = '1': expected 10 patients .* got 1"),
        (lambda index, cell: "1", "every label is '1'; two classes are needed"),
    ],
)
def test_too_few_cases_end_it_before_anything_is_computed(journey, tmp_path, label, message):
    manifest = write_manifest(journey, tmp_path / "m.csv", label=label)
    with pytest.raises(ManifestError, match=message):
        search(manifest, tmp_path / "best")
    assert not (tmp_path / "best").exists()


def test_a_budget_that_reads_no_scan_and_a_column_that_is_not_there_are_refused(journey, tmp_path, one_look):
    manifest = write_manifest(journey, tmp_path / "m.csv")
    with pytest.raises(UsageError, match=r"too small for one candidate: .* give at least --minutes"):
        auto(manifest, "block", tmp_path / "best", minutes=1e-5, backbone="tiny-random", settings=SETTINGS, quiet=True)
    assert not {"run.json", "progress.json"} & {path.name for path in (tmp_path / "best").iterdir()}, (
        "--minutes can be raised"
    )
    with pytest.raises(UsageError, match="--leave-out: no column 'sites', did you mean 'site'"):
        search(manifest, tmp_path / "other", leave_out="sites", settings=SETTINGS)
    with pytest.raises(UsageError, match="expected a number above 0"):
        replace(SETTINGS, minutes=0)


def test_the_command_prints_what_won(done, monkeypatch, capsys):
    monkeypatch.setattr(auto_run, "auto", lambda *_, **__: done[2])
    assert main(["auto", str(done[1]), "--labels", "block", "-o", "best"]) == 0
    shown, warned = capsys.readouterr()
    assert done[2]["verdict"] in shown
    card = load_plugin(done[0] / "best" / "plugin.safetensors").card
    assert card.out_of_fold and done[2]["doubts"] == list(doubts_of(card))
    assert warned.count("warning: the plugin: ") == len(done[2]["doubts"])
    assert "test split, scored once" in shown


@pytest.fixture(scope="module")
def trained(done, one_look, tmp_path_factory):
    out = tmp_path_factory.mktemp("trained") / "best"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(amount, "MOST_EPOCHS", 1)
        patch.setattr(amount, "LEAST_EPOCHS", 1)
        # Any gain is enough here: what an epoch of noise learns is not what is tested.
        return out, search(done[1], out, settings=replace(SETTINGS, train=True, margin=-1e9))


def test_trained_members_are_on_the_leaderboard_and_in_the_plugin(trained):
    out, found = trained
    (row,) = [row for row in read_table(out / "leaderboard.csv") if row["lora"]]
    assert (row["lora"], row["members"], row["features"]) == ("rank 8, last 2 blocks", "2", "class")
    card = load_plugin(out / "plugin.safetensors").card
    adapted = [member for member in card.members if member.card.method.blocks == 2]
    assert len(adapted) == (2 if float(row["weight"]) else 0)
    assert sum(member.weight for member in adapted) == pytest.approx(float(row["weight"]))
    assert sum(member.weight for member in card.members) == pytest.approx(1)
    assert found["trained"]["weight"] == pytest.approx(float(row["weight"]))
    starts = [(out / "lora" / f"fold_{n}_random" / "run" / "plugin.safetensors").exists() for n in (0, 1)]
    assert starts == [True, True], "there was time for both"


def test_the_cases_of_a_fold_are_answered_by_the_training_without_them(trained):
    out = trained[0]
    for number in (0, 1):
        held_out = {row["case"] for row in read_table(out / "lora" / f"fold_{number}" / "held_out" / "predictions.csv")}
        cases = {row["case"]: row["split"] for row in read_table(out / "lora" / f"fold_{number}" / "cases.csv")}
        assert held_out == {case for case, split in cases.items() if split == "test"}
        assert not set(cases) & {row["case"] for row in read_table(out / "test" / "predictions.csv")}


def test_a_trained_member_that_brings_nothing_stays_out():
    rng = np.random.default_rng(1)
    labels = LabelSettings(columns=("y",), kind="binary", classes=("0", "1"))
    targets = (np.arange(200) % 2).astype(float)[:, None]
    patients = [str(i) for i in range(200)]
    good = np.stack([np.zeros(200), 2 * targets[:, 0] - 1 + rng.normal(size=200)], axis=1)
    noise = np.stack([np.zeros(200), rng.normal(size=200)], axis=1)
    assert lora.choose_share(good, noise, targets, labels, patients, SETTINGS) == lora.Share(1.0, 0.0)
    other = np.stack([np.zeros(200), 2 * targets[:, 0] - 1 + rng.normal(size=200)], axis=1)
    other[0] = np.nan  # a case without an answer has no vote
    share = lora.choose_share(good, other, targets, labels, patients, SETTINGS)
    assert share.trained > 0
    assert share.frozen > 0


def test_of_two_starts_the_second_is_taken_where_the_kept_cases_show_it():
    rng = np.random.default_rng(1)
    labels = LabelSettings(columns=("y",), kind="binary", classes=("0", "1"))
    signs = np.where(np.arange(120) % 2, 1.0, -1.0)
    pool = Pool(tuple(map(str, range(120))), (signs[:, None] + 1) / 2, labels, np.zeros(120, dtype=int), ("0",))
    rows = np.arange(120)

    def fold(strength, scale):
        score = scale * (strength * signs + rng.normal(size=120))
        head = np.stack([np.zeros(120), score], axis=1)
        return lora.TrainedFold(None, None, "s", rows, head, rows, head)

    weak, strong, unsure = fold(0.2, 1.0), fold(2.0, 1.0), fold(2.0, 0.05)
    assert lora.better_start(weak, strong, pool, SETTINGS) is strong
    assert lora.better_start(strong, weak, pool, SETTINGS) is strong
    assert lora.better_start(weak, unsure, pool, SETTINGS) is unsure, "how sure it is does not matter"
    assert lora.better_start(strong, strong, pool, SETTINGS) is strong


def test_more_time_trains_longer_and_deeper_and_a_dearer_sight_less():
    job = amount.Job(seconds=10, pass_s=0.1, answer_s=0.1, cases=100, folds=5, depth=12)
    fits = [amount.amount_that_fits(replace(job, seconds=seconds)) for seconds in (10, 120, 160, 280, 1e6)]
    assert fits[0] is None
    assert fits[1].blocks == 2 and fits[1].copies == 1 and amount.LEAST_EPOCHS <= fits[1].epochs < amount.ENOUGH_EPOCHS
    assert fits[2].blocks == 2 and fits[2].copies == 2 and fits[2].epochs >= amount.ENOUGH_EPOCHS
    assert fits[3].blocks == 3 and fits[3].epochs >= amount.ENOUGH_EPOCHS
    assert fits[4] == amount.Amount(max(amount.DEPTHS), amount.MOST_EPOCHS)
    for dearer in ({"pass_s": 1.0}, {"answer_s": 1.0}, {"sights": 5}):
        assert amount.amount_that_fits(replace(job, seconds=130, **dearer)) is None


def test_sights_that_were_left_out_for_training_have_their_turn_after_it(tmp_path, monkeypatch):
    """Those that fit what training left, and only those that were left out before; their notes go."""
    task = SimpleNamespace(views={"image": None})
    first, small, large = (sights.Sight(name, task, sights.LOOKS[0]) for name in ("first", "small", "large"))
    clock, folder, data = Clock(100.0, now=lambda: 0.0), AutoFolder(tmp_path), SimpleNamespace(cases=[0] * 10)
    work = Work(folder, AutoSettings(minutes=100 / 60), clock, Remembered.read(folder.progress), data, None, {})
    costs = {"first": 0.1, "small": 3.0, "large": 9.0}
    monkeypatch.setattr(Work, "tokens", lambda self, sight: costs[sight.name])
    monkeypatch.setattr(Work, "answer_s", lambda self, sight: 0.0)
    monkeypatch.setattr(steps, "_sights", lambda work, backbone: [first, small, large])
    monkeypatch.setattr(steps, "_share_of_sights", lambda work, backbone: 0.2)
    monkeypatch.setattr(steps, "_say_best", lambda work: None)
    looked = []
    monkeypatch.setattr(steps, "_look", lambda work, sight, step, draw_s: looked.append(sight.name))
    for name in ("read", "pass"):
        work.paces[name].measured(0.0 if name == "read" else 1.0, 1.0)
    steps.further_candidates(work, "tiny")
    assert not looked and [note.partition(":")[0] for note in work.notes] == ["small", "large"]
    steps.late_candidates(work, "tiny")
    assert looked == ["small"] and [note.partition(":")[0] for note in work.notes] == ["large"]


@pytest.mark.parametrize("fusion", ["concat", "mean", "max"])
def test_every_pooling_answers_as_its_file_with_and_without_a_view(fusion):
    """Head and pooling of a frozen candidate, as a plugin holds them, give the logits that were compared."""
    rng = np.random.default_rng(0)
    cases = [
        {v: None if v == "b" and i % 3 == 0 else rng.normal(size=(2, 8)).astype(np.float32) for v in "ab"}
        for i in range(24)
    ]
    tokens = stack_tokens(cases, ("a", "b"))
    labels = LabelSettings(columns=("y",), kind="binary", classes=("0", "1"))
    targets = (np.arange(24) % 2).astype(float)[:, None]
    pool = Pool(tuple(map(str, range(24))), targets, labels, np.arange(24) % 2, ("0", "1"))
    views = {name: ViewSettings(size=(14, 14, 2)) for name in "ab"}
    task = TaskSettings(name="t", labels=labels, data=DataSettings(manifest="m.csv"), views=views)
    sight = sights.Sight("s", task, sights.LOOKS[0])
    one = candidates._frozen(sight, "class", fusion, tokens, (), pool, (), None, 0.0)
    train = np.arange(20)
    assert one.fitted(train).logits(np.arange(24)) == pytest.approx(one.answers(train, np.arange(24)), abs=5e-3)


def with_columns(journey, path):
    """The same manifest with a number and two clinical columns, one of which knows most of the label."""
    rows = read_table(write_manifest(journey, path))
    rng = np.random.default_rng(2)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], "years", "bmi", "smoker"])
        writer.writeheader()
        for index, row in enumerate(rows):
            label = int(row["block"])
            bmi = "" if index == 3 else f"{25 + 5 * label + 5 * rng.normal():.1f}"
            years = f"{40 + 20 * label + 4 * rng.normal():.2f}"
            writer.writerow(row | {"years": years, "bmi": bmi, "smoker": "ny"[index // 3 % 2]})
    return path


@pytest.fixture(scope="module")
def only_plain(one_look):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steps, "_look", lambda *_: None)
        patch.setattr(steps, "SIMPLEST", ("scan-statistics", "foreground"))
        yield patch


@pytest.mark.parametrize(("column", "kind"), [("block", None), ("years", "regression")])
def test_clinical_columns_and_numbers(journey, tmp_path, only_plain, column, kind):
    manifest, out = with_columns(journey, tmp_path / "m.csv"), tmp_path / "best"
    options = {"minutes": 60, "backbone": "tiny-random", "device": "cpu", "quiet": True, "settings": SETTINGS}
    found = auto(manifest, column, out, covariates="bmi, smoker", kind=kind, **options)
    told = found["covariates"]
    assert (told["of"], told["metric"]) == (["bmi", "smoker"], "MAE" if kind else "AUROC")
    assert [one["what"] for one in told["answers"]] == ["both", "image alone", "covariates alone"]
    assert len(told["differences"]) == 3
    assert set(told["chosen_per_fold"]) == {"0", "1"}
    rows = read_table(out / "leaderboard.csv")
    assert tuple(rows[0]) == (NUMBER_COLUMNS if kind else COLUMNS)
    assert {"auto", "auto, image alone", "clinical columns: bmi, smoker"} <= {row["candidate"] for row in rows}
    assert "Clinical columns (bmi, smoker) and the image" in (out / "report.html").read_text()
    card = load_plugin(out / "plugin.safetensors").card
    assert card.covariate_names == (() if told["chosen"] == "image" else ("bmi", "smoker"))
    case = read_table(manifest)[16]
    given = {name: case[name] for name in card.covariate_names}
    again = load(out / "plugin.safetensors", device="cpu").predict(case["image"], covariates=given)
    value = again.values["years"] if kind else again.logits["block"]
    (answer, *_) = read_table(out / "test" / "predictions.csv")
    assert value == pytest.approx(float(answer["value.years" if kind else "logit.block"]), rel=1e-5)
    assert found["test"]["value"] is not None
    if kind:
        (row,) = [row for row in rows if row["candidate"] == "auto"]
        assert found["r2"]["value"] == pytest.approx(float(row["r2"]))
        pairs = zip(read_table(out / "oof.csv"), read_table(manifest), strict=False)
        errors = [abs(float(own["value.years"]) - float(true["years"])) for own, true in pairs]
        assert found["numbers"]["mae"]["value"] == pytest.approx(np.mean(errors), rel=1e-4)


def test_a_column_that_names_the_label_is_refused(journey, tmp_path):
    path = tmp_path / "m.csv"
    rows = read_table(write_manifest(journey, path))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], "diagnosis"])
        writer.writeheader()
        writer.writerows(row | {"diagnosis": "ill" if row["block"] == "1" else "well"} for row in rows)
    with pytest.raises(UsageError, match="covariates: diagnosis repeats the label block"):
        search(path, tmp_path / "best", covariates=["diagnosis"], settings=SETTINGS)
    assert not (tmp_path / "best").exists()
