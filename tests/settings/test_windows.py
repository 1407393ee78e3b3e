"""CT windows by name: the numbers are what is kept, and an unknown name is refused with the nearest known one."""

import pytest

from anymc3d.errors import TaskFileError, UsageError
from anymc3d.settings.plain import to_plain
from anymc3d.settings.task_file import format_task, read_task
from anymc3d.settings.windows import WINDOWS, parse_windows, window, window_names

TASK = """\
name: t
labels: {{columns: [y], kind: binary, classes: ['0', '1']}}
data: {{manifest: m.csv, modality: {modality}}}
views:
  image: {{size: [28, 28, 4], normalise: window, windows: {windows}}}
"""


@pytest.fixture
def read(tmp_path):
    def read(windows, modality="CT", overrides=()):
        path = tmp_path / "task.yaml"
        path.write_text(TASK.format(windows=windows, modality=modality))
        return read_task(path, overrides)

    return read


def test_the_windows_that_the_paper_prints():
    assert window("abdomen") == (-150, 250)
    assert window("lung") == (-1000, 400)
    assert window("ct-rate-wide") == (-1000, 1000)


@pytest.mark.parametrize("name", WINDOWS)
def test_every_window_is_a_range_of_hounsfield_units_with_a_source(name):
    low, high = window(name)
    assert -1024 <= low < high <= 3071
    assert WINDOWS[name].source
    assert name == name.lower()


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("[lung]", ((-1000, 400),)),
        ("lung", ((-1000, 400),)),
        ("[bleeding, tissue, bone]", ((-20, 180), (0, 80), (-800, 2000))),
        ("[ct-rate-wide, [-150, 250], lung]", ((-1000, 1000), (-150, 250), (-1000, 400))),
        ("[[-5, 5]]", ((-5, 5),)),
    ],
)
def test_names_and_numbers_mix_and_only_numbers_are_kept(read, written, expected):
    task = read(written)
    assert task.views["image"].windows == expected
    assert all(type(edge) is float for pair in task.views["image"].windows for edge in pair)
    assert to_plain(task)["views"]["image"]["windows"] == [list(pair) for pair in expected]


def test_an_override_may_use_a_name(read):
    assert read("[abdomen]", overrides=["views.image.windows=[lung]"]).views["image"].windows == ((-1000, 400),)
    assert read("[abdomen]", overrides=["views.image.windows=bone"]).views["image"].windows == ((-800, 2000),)


@pytest.mark.parametrize("complete", [False, True])
def test_the_record_of_a_run_has_the_numbers_and_the_names_beside_them(read, tmp_path, complete):
    text = format_task(read("[ct-rate-wide, abdomen, lung]"), base=tmp_path, complete=complete)
    line = next(line for line in text.splitlines() if "windows:" in line)
    assert line.strip() == (
        "windows: [[-1000.0, 1000.0], [-150.0, 250.0], [-1000.0, 400.0]]  # ct-rate-wide, abdomen, lung"
    )


def test_a_reason_that_was_given_stays(read, tmp_path):
    text = format_task(read("[lung]"), {"views.image.windows": "because"}, base=tmp_path)
    assert "# because" in text
    assert "# lung" not in text


def test_numbers_of_no_hounsfield_scan_are_not_named(read, tmp_path):
    assert "# brain" not in format_task(read("[[0, 80]]", "MR"), base=tmp_path)


@pytest.mark.parametrize(
    ("windows", "modality", "words"),
    [
        ("[lungs]", "CT", r"views\.image\.windows\[0\]: no window is called 'lungs', did you mean 'lung'"),
        ("[abdomen, lung, 3]", "CT", r"views\.image\.windows\[2\]: expected a list of 2"),
        ("[lung, bone]", "CT", "expected one window or three, got 2"),
        ("[lung]", "MR", "data.modality is MR; write numbers"),
        ("[Lung]", "CT", "did you mean 'lung'"),
        ("{lung: 1}", "CT", r"views\.image\.windows: expected a list"),
        ("5", "CT", r"views\.image\.windows: expected a list"),
    ],
)
def test_A12_a_wrong_window_is_one_clear_line(read, windows, modality, words):
    with pytest.raises(TaskFileError, match=words) as caught:
        read(windows, modality)
    assert len(caught.value.problems) == 1


def test_all_wrong_names_are_told_at_once(read):
    with pytest.raises(TaskFileError) as caught:
        read("[lungs, bones, tissues]")
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lung", ((-1000, 400),)),
        ("-150:250", ((-150, 250),)),
        ("ct-rate-wide, -150:250 ,lung", ((-1000, 1000), (-150, 250), (-1000, 400))),
        ("0:1.5", ((0, 1.5),)),
    ],
)
def test_windows_of_the_command_line(text, expected):
    assert parse_windows(text) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("lnug", "did you mean 'lung'"),
        ("250:-150", "low must be below high"),
        ("5:5", "low must be below high"),
        ("1:b", "expected NAME or LOW:HIGH"),
        ("nan:5", "expected NAME or LOW:HIGH"),
        ("lung,bone", "got 2"),
        ("", "got 0"),
    ],
)
def test_wrong_windows_of_the_command_line_are_refused(text, words):
    with pytest.raises(UsageError, match=words):
        parse_windows(text)


def test_equal_numbers_are_called_by_the_first_name():
    assert window_names([(-150.0, 250.0)]) == "abdomen"
    assert window_names([(-1.0, 2.0)]) == ""
    assert window_names([(-1000.0, 400.0), (-1.0, 2.0)]) == "lung, [-1, 2]"
