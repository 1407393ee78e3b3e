"""A task file says what it means; a fault in it is named with its place and the way out."""

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anymc3d.errors import TaskFileError
from anymc3d.settings.config import DataSettings, LabelSettings, TaskSettings
from anymc3d.settings.plain import from_plain, to_plain
from anymc3d.settings.task_file import format_task, read_task, write_task
from anymc3d.settings.training import BackboneSettings, MethodSettings, TrainSettings
from anymc3d.settings.views import ViewSettings

MINIMAL = """\
format: 1
name: liver
labels: {columns: [tumour], kind: binary, classes: ['0', '1']}
data: {manifest: data/m.csv}
views:
  image: {size: [98, 98, 12]}
"""


@pytest.fixture
def task_path(tmp_path):
    path = tmp_path / "task.yaml"
    path.write_text(MINIMAL)
    return path


def faults(path, text, overrides=()) -> str:
    path.write_text(text)
    with pytest.raises(TaskFileError) as caught:
        read_task(path, overrides)
    return "\n".join(caught.value.problems)


def test_a_minimal_file_takes_the_defaults(task_path, tmp_path):
    task = read_task(task_path)
    assert task.train == TrainSettings()
    assert task.backbone == BackboneSettings()
    assert task.views == {"image": ViewSettings(size=(98, 98, 12))}
    assert task.data.manifest == str(tmp_path / "data" / "m.csv")


def test_A12_every_fault_is_named_in_one_pass_with_its_place(tmp_path):
    text = MINIMAL.replace("98, 12", "98, twelve") + (
        "train: {epoch: 3, lora_lr: fast, batch_size: 2.0, recompute: 1, precision: fp16, patience: soon}\n"
        "method: {rang: 4}\nbackbon: x\n"
    )
    found = faults(tmp_path / "task.yaml", text)
    for expected in (
        "train.epoch: unknown key, did you mean 'epochs'?",
        "train.lora_lr: expected a number or null, got text 'fast'",
        "train.batch_size: expected an integer, got 2.0",
        "train.recompute: expected true or false, got 1",
        "train.precision: expected one of auto, fp32, bf16, got text 'fp16', did you mean 'bf16'?",
        "train.patience: expected an integer or null, got text 'soon'",
        "views.image.size[2]: expected an integer or null, got text 'twelve'",
        "method.rang: unknown key, did you mean 'rank'?",
        "backbon: unknown key, did you mean 'backbone'?",
    ):
        assert expected in found, found
    assert len(found.splitlines()) == 9


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("name: liver\n", "", "name: missing; expected text"),
        ("name: liver", "name: 7", "name: expected text, got 7; write it in quotes: '7'"),
        ("['0', '1']", "[0, 1]", "labels.classes[0]: expected text, got 0; write it in quotes: '0'"),
        ("kind: binary", "kind: binari", "got text 'binari', did you mean 'binary'?"),
        ("[98, 98, 12]", "[98, 98]", "views.image.size: expected a list of 3 (an integer, an integer,"),
        ("[98, 98, 12]", "[98, 0, 12]", "views.image.size[1]: expected 1 to 1024, got 0"),
        ("{size: [98, 98, 12]}", "3", "views.image: expected keys and values, got 3"),
        ("  image:", "  axial:", "views: the view of a single-view task is called 'image', got 'axial'"),
        ("format: 1", "format: 2", "format: this version reads task files of format 1, got 2"),
        ("['0', '1']", "['0']", "labels.classes: kind binary needs exactly 2 classes"),
        ("{manifest: data/m.csv}", "{manifest: m, fractions: [0.5, 0.5, 0.5]}", "data.fractions: expected three parts"),
    ],
)
def test_A12_a_wrong_value_names_key_value_and_what_is_expected(tmp_path, old, new, expected):
    assert old in MINIMAL
    assert expected in faults(tmp_path / "task.yaml", MINIMAL.replace(old, new))


@pytest.mark.parametrize("text", ["", "just text", "[1, 2]", "a: b: c", "\x00", "a: 1\na: 2"])
def test_a_file_that_is_no_task_is_a_clean_error(tmp_path, text):
    assert faults(tmp_path / "task.yaml", text)


def test_a_missing_or_foreign_file_is_a_clean_error(tmp_path):
    with pytest.raises(TaskFileError, match="anymc3d plan"):
        read_task(tmp_path / "none.yaml")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TaskFileError, match="not UTF-8"):
        read_task(tmp_path / "b.yaml")


@pytest.mark.parametrize(
    "line",
    ["_target_: os.system", "$import: os", "train: {_target_: x}", "backbone: !!python/name:os.system x"],
)
def test_A11_a_task_file_runs_nothing(tmp_path, line):
    found = faults(tmp_path / "task.yaml", MINIMAL + line + "\n")
    assert "unknown key" in found or "tags" in found


def test_overrides_reach_every_depth(task_path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path.parent)
    task = read_task(
        task_path,
        ["train.epochs=3", "train.lora_lr=1e-3", "backbone=../x", "views.image.size=[56, 70, null]", "train.patience=5",
         "method=frozen", "name=a=b"],
    )  # fmt: skip
    assert (task.train.epochs, task.train.lora_lr, task.train.patience) == (3, 1e-3, 5)
    assert task.backbone.name == str(tmp_path.parent.parent / "x")
    assert task.views["image"].size == (56, 70, None)
    assert (task.method.name, task.name) == ("frozen", "a=b")


def test_a_bad_override_is_named(task_path):
    found = faults(task_path, MINIMAL, ["train.epoch=3", "epochs", "train.epochs=many", "train.lora_lr=[1"])
    assert "train.epoch: unknown key, did you mean 'epochs'?" in found
    assert "override 'epochs': expected key=value" in found
    assert "train.epochs: expected an integer, got text 'many'" in found
    assert "override 'train.lora_lr=[1': " in found


def test_an_override_of_the_backbone_keeps_its_position_rule(task_path):
    task_path.write_text(MINIMAL + "backbone: {name: dinov2-base, positions: hf}\n")
    assert read_task(task_path, ["backbone=dinov2-small"]).backbone == BackboneSettings(positions="hf")


def test_backbone_paths_are_relative_to_the_file_and_names_stay_names(task_path, tmp_path):
    task_path.write_text(MINIMAL + "backbone: ./weights\n")
    assert read_task(task_path).backbone.name == str(tmp_path / "weights")
    task_path.write_text(MINIMAL + "backbone: dinov2-base\n")
    assert read_task(task_path).backbone.name == "dinov2-base"


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
numbers = st.floats(1e-9, 1e9)
views = st.builds(
    ViewSettings,
    size=st.tuples(st.integers(1, 999), st.integers(1, 999), st.none() | st.integers(1, 99)),
    image=texts,
    plane=st.sampled_from(["auto", "axial", "coronal"]),
    field_of_view=st.none() | st.tuples(numbers, numbers, numbers),
    normalise=st.just("window"),
    windows=st.sampled_from([((-150.0, 250.0),), ((0.0, 1.0), (-1e-7, 2.5), (3.0, 1e8))]),
)
tasks = st.builds(
    TaskSettings,
    name=texts,
    labels=st.builds(
        lambda column, classes: LabelSettings(columns=(column,), kind="multiclass", classes=tuple(classes)),
        texts,
        st.lists(texts | st.sampled_from(["0", "1e-3", "no", "null", "~", "- a", "#"]), min_size=2, unique=True),
    ),
    data=st.builds(DataSettings, manifest=st.just("/data/some folder/m.csv"), split_seed=st.integers(-9, 9)),
    views=st.builds(lambda view, other: {"image": view, "2nd_view": other}, views, views),
    backbone=st.builds(BackboneSettings, name=st.sampled_from(["dinov2-base", "/weights", "/a b/c"])),
    method=st.builds(MethodSettings, rank=st.integers(1, 256), alpha=numbers),
    train=st.builds(TrainSettings, epochs=st.integers(1, 10**9), lora_lr=numbers, patience=st.none() | st.just(9)),
)


@settings(max_examples=60)
@given(tasks, st.booleans(), st.text(max_size=200))
def test_what_is_written_is_read_back(tmp_path_factory, task, complete, reason):
    path = tmp_path_factory.mktemp("task") / "task.yaml"
    reason = "".join(letter for letter in reason if letter.isprintable())
    reasons = {"name": reason, "views.image.size": reason, "train.seed": reason}
    path.write_text(format_task(task, reasons, base=path.parent, complete=complete))
    assert read_task(path) == task


@given(tasks)
def test_the_plain_form_survives_json(task):
    problems = []
    assert from_plain(TaskSettings, json.loads(json.dumps(to_plain(task))), problems) == task and not problems


def test_the_file_fits_one_screen_and_shows_its_reasons(task_path, tmp_path):
    task = read_task(task_path)
    view = task.views["image"]
    task = replace(task, views={name: replace(view, plane=name) for name in ("axial", "coronal", "sagittal")})
    path = tmp_path / "runs" / "task.yaml"
    reasons = {"views.axial.size": "median of 260 scans", "backbone": "the default", "data.manifest": "r" * 150}
    write_task(path, task, reasons)
    text = path.read_text()
    assert len(text.splitlines()) <= 45
    assert "    size: [98, 98, 12]  # median of 260 scans\n" in text
    assert "backbone: dinov2-small  # the default\n" in text
    assert "manifest: ../data/m.csv\n" in text
    assert max(len(line) for line in text.splitlines() if "rrr" not in line) <= 118
    write_task(path, task, complete=True)
    assert "focal_gamma: 2.0" in path.read_text()
