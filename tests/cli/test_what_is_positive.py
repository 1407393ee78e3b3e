"""B14: every command that shows a decision says once which value 1 stands for; a guess is a line of its own."""

from dataclasses import replace

import pytest

from anymc3d.cli.main import main
from anymc3d.plugins import load_plugin, save_plugin
from anymc3d.settings.config import LabelSettings
from anymc3d.settings.decision_text import what_is_positive

MEANS = "Decision 1 (positive) means block = not injured"


@pytest.fixture(scope="module")
def named(journey, tmp_path_factory):
    """The journey's plugin, manifest and task with texts for classes, the negated one positive: as one who swapped."""
    folder = tmp_path_factory.mktemp("named")
    plugin = load_plugin(journey.plugin)
    labels = LabelSettings(columns=("block",), kind="binary", classes=("injured", "not injured"))
    save_plugin(folder / "plugin.safetensors", replace(plugin.card, labels=labels), plugin.tensors)
    other = {name: tensor * 1.01 for name, tensor in plugin.tensors.items()}
    save_plugin(folder / "other.safetensors", replace(plugin.card, labels=labels), other)
    rows = [line.split(",") for line in (journey.data / "manifest.csv").read_text().splitlines()]
    texts = {"block": "block", "0": "injured", "1": "not injured"}
    lines = [
        ",".join([f"{journey.data}/{row[0]}" if number else row[0], texts[row[1]], row[2]])
        for number, row in enumerate(rows)
    ]
    (folder / "m.csv").write_text("\n".join(lines) + "\n")
    task = (journey.data / "task.yaml").read_text().replace("['0', '1']", "['injured', 'not injured']")
    (folder / "task.yaml").write_text(task.replace("manifest.csv", str(folder / "m.csv")))
    return folder


def printed(capsys, *words):
    code = main([str(word) for word in words])
    return code, capsys.readouterr().out


def test_B14_each_command_says_once_what_1_stands_for(named, capsys):
    plugin, manifest, task = named / "plugin.safetensors", named / "m.csv", named / "task.yaml"
    first = next(line.split(",")[0] for line in manifest.read_text().splitlines()[1:])
    predict = ("predict", "-p", plugin, "-i", manifest, "-o", named / "out", "--device", "cpu")
    table = named / "out" / "predictions.csv"
    for words in (
        ("plugin", "show", plugin),
        predict,
        ("evaluate", table, manifest, "-o", named / "eval", "--task", task),
        ("calibrate", "-p", plugin, table, manifest, "-o", named / "new.safetensors"),
        ("explain", "-p", plugin, "-i", first, "-o", named / "heat", "--no-pictures", "--device", "cpu"),
        ("ensemble", plugin, named / "other.safetensors", "-o", named / "two.safetensors"),
    ):
        code, out = printed(capsys, *words)
        assert code == 0 and out.count(MEANS) == 1, words
    assert (named / "eval" / "table.md").read_text().count(MEANS) == 1
    for words in (("report", named / "eval"), ("report", named / "heat" / "case00")):
        page = named / f"{len(words[1].parts)}.html"
        assert printed(capsys, *words, "-o", page)[0] == 0
        assert page.read_text().count(MEANS) == 1, words


def test_B14_plan_says_it_and_a_guess_is_a_line_of_its_own(named, capsys):
    for pair, guess in ((("not injured", "injured"), False), (("HGG", "LGG"), True)):
        manifest = named / f"{pair[0]}.csv"
        text = (named / "m.csv").read_text().replace("not injured", "\0").replace("injured", pair[0])
        manifest.write_text(text.replace("\0", pair[1]))
        out = named / f"{pair[0]}.yaml"
        assert main(["plan", str(manifest), "--labels", "block", "-o", str(out), "--backbone", "tiny-random"]) == 0
        seen = capsys.readouterr()
        assert seen.out.count(
            f"(positive) means block = {pair[1]}"
        ) == 1 and f"classes: [{pair[0]}, {pair[1]}]" in seen.out.replace("'", "")
        told = [line for line in seen.err.splitlines() if "is a guess" in line]
        assert bool(told) is guess and (not guess or "'LGG' is positive and 'HGG' negative" in told[0])
        checks = [line for line in out.read_text().splitlines() if "CHECK:" in line]
        assert any("is a guess" in line for line in checks) is guess


def test_the_line_of_every_kind_of_task():
    several = LabelSettings(columns=("a", "b"), kind="multilabel")
    assert what_is_positive(several) == (
        "a, b: decision 1 (positive) means that the label is 1; decision 0 (negative) that it is 0"
    )
    grades = LabelSettings(columns=("g",), kind="ordinal", classes=("0", "1", "2"))
    assert what_is_positive(grades) == (
        "g: the class with the largest probability, of 0, 1, 2, has decision 1; the others have 0"
    )
    odd = LabelSettings(columns=("x",), kind="binary", classes=("n", "\x1b[2Jy"))
    assert "\x1b" not in what_is_positive(odd)
