"""Names and combinations that cannot work are refused before anything is read."""

import pytest

from anymc3d.errors import AnyMC3DError, ManifestError, TaskFileError
from anymc3d.settings.task_file import read_task
from anymc3d.train.fit import fit
from anymc3d.train.task_checks import unused

TASK = """\
format: 1
name: tiny
labels: {columns: [y], kind: multiclass, classes: [a, b, c]}
data: {manifest: absent.csv}
views: {image: {size: [28, 28, 400]}}
backbone: absent
"""


@pytest.fixture
def task(tmp_path):
    (tmp_path / "task.yaml").write_text(TASK)
    return lambda *overrides: read_task(tmp_path / "task.yaml", overrides)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("fusion=qerry", "fusion: unknown name 'qerry', did you mean 'query'"),
        ("fusion=transformer", r"views\.image\.size: fusion: transformer takes at most 256 slices, got 400"),
        ("train.loss=focall", r"train\.loss: unknown name 'focall', did you mean 'focal'"),
        ("train.loss=weighted-bce", "a multiclass task has neither"),
        ("augmentation=flip", "did you mean 'flips'"),
        ("method=frosen", "frozen"),
    ],
)
def test_a_task_that_cannot_work_is_refused_before_anything_is_opened(task, tmp_path, override, expected):
    with pytest.raises(AnyMC3DError, match=expected):
        fit(task(override), tmp_path / "run", device="cpu", quiet=True)


@pytest.mark.parametrize("overrides", [(), ("fusion=mst",)])
def test_a_good_task_passes_and_the_manifest_is_looked_at_next(task, tmp_path, overrides):
    with pytest.raises(ManifestError, match=r"absent\.csv"):
        fit(task(*overrides), tmp_path / "run", device="cpu", quiet=True)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.samplng=balanced", "train.samplng: unknown key, did you mean 'sampling'"),
        ("train.sampling=ballanced", "did you mean 'balanced'"),
        ("train.accumulate=0", "train.accumulate: expected 1 to 4096, got 0"),
        ("train.view_dropout=1.0", "train.view_dropout: expected 0 to below 1"),
        ("views.image.input=neighbors", "did you mean 'neighbours'"),
        ("labels.kind=ordinl", "did you mean 'ordinal'"),
    ],
)
def test_settings_out_of_range_are_named_with_the_nearest_right_one(task, override, expected):
    with pytest.raises(TaskFileError, match=expected):
        task(override)


def test_three_windows_leave_no_channel_for_neighbours(task):
    with pytest.raises(TaskFileError, match="neighbours needs one channel"):
        task(
            "views.image.input=neighbours",
            "views.image.normalise=window",
            "views.image.windows=[[0, 1], [0, 2], [0, 3]]",
        )


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], []),
        (["segmentation.lr=0.1", "segmentation.weight=2"], ["segmentation.weight", "segmentation.lr"]),
        (["segmentation.decoder=nnunet", "segmentation.lr=0.1"], []),
        (["method=deepcntd", "segmentation.decoder=own", "segmentation.lr=0.1"], ["segmentation.lr"]),
        (["method=rsna2023-coat", "segmentation.decoder=own", "segmentation.lr=0.1"], []),
        (
            ["method=rsna2023-coat", "segmentation.decoder=own", "segmentation.queries=9", "fusion=mean"],
            ["fusion", "segmentation.queries"],
        ),
    ],
)
def test_settings_that_say_nothing_are_named(task, overrides, expected):
    assert unused(task(*overrides)) == expected
