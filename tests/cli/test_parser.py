"""Every help page, and what a wrong call is answered with."""

import shlex

import pytest

from anymc3d.cli.completion import whole_parser
from anymc3d.cli.examples import EXAMPLES
from anymc3d.cli.main import COMMANDS, GROUPS, main, parse, parser_of
from anymc3d.cli.parser import DEBUG, QUIET, VERBOSE
from anymc3d.cli.setting_hints import setting_keys
from anymc3d.settings.config import TaskSettings

PAGES = [
    (*command.split(), *action)
    for command in COMMANDS
    for action in [(), *((name,) for name in parser_of(command).actions())]
]


def said(capsys, *words):
    code = main(list(words))
    return code, capsys.readouterr()


@pytest.mark.parametrize("words", PAGES, ids=" ".join)
def test_every_help_page_says_what_it_takes_and_ends_with_examples(words, capsys):
    with pytest.raises(SystemExit) as ended:
        main([*words, "--help"])
    text = capsys.readouterr().out
    assert ended.value.code == 0
    examples = text.partition("examples:\n")[2].strip().splitlines()
    assert 1 <= len(examples) <= 4 and all("anymc3d " + words[0] in line for line in examples)
    if not parser_of(words[0]).actions() or len(words) > 1:
        page = " ".join(text.split())
        assert QUIET in page and VERBOSE in page and DEBUG in page
    assert "(6)" not in text and "may be given often" not in text


@pytest.mark.parametrize("line", [line for lines in EXAMPLES.values() for line in lines])
def test_every_example_is_taken(line):
    words = shlex.split(line.partition("$(")[2].rstrip(')"') or line.partition(" >")[0])
    assert words[0] == "anymc3d"
    parse(words[1], words[2:])


def test_examples_are_of_commands_that_are():
    known = {"", *COMMANDS, *(" ".join(words) for words in PAGES)}
    assert set(EXAMPLES) == known


def test_the_first_page_has_groups_and_every_command(capsys):
    code, shown = said(capsys, "help")
    assert code == 0
    assert all(f"{title}:\n" in shown.out for title in GROUPS) and all(f"  {name} " in shown.out for name in COMMANDS)
    assert said(capsys, "--help")[1].out == shown.out and said(capsys)[0] == 2


def test_help_of_a_command_is_its_help_page(capsys):
    pages = []
    for words in (["help", "data", "split"], ["data", "split", "--help"], ["data", "--help", "split"]):
        with pytest.raises(SystemExit):
            main(words)
        pages.append(capsys.readouterr().out)
    assert len(set(pages)) == 1


def test_version_is_a_word_and_an_option(capsys):
    assert said(capsys, "version")[1].out == said(capsys, "--version")[1].out


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("train", "missing: task.yaml, -o/--out"),
        ("train -o run", "missing: task.yaml;"),
        ("plan", "missing: MANIFEST.csv, -o/--out"),
        ("evaluate --quiet", "missing: PREDICTIONS.csv, MANIFEST.csv, -o/--out"),
        ("evaluate a.csv", "missing: MANIFEST.csv, -o/--out"),
        ("ensemble", "missing: PLUGIN, -o/--out"),
        ("data adapt folders", "missing: FOLDER, -o/--out"),
        ("plugin", "missing: one of show, verify"),
        ("train t.yaml -o run --quikc", "unknown option '--quikc', did you mean '--quick'?"),
        ("predict -p a -i b -o c --devise cpu", "unknown option '--devise', did you mean '--device'?"),
        ("predict -p a -i b -o c --split tset", "got 'tset', did you mean 'test'?"),
        ("backbone gte x", "unknown action 'gte', did you mean 'get'?"),
        ("vlm3d trian", "unknown action 'trian', did you mean 'train'?"),
        ("hlep", "unknown command 'hlep', did you mean 'help'?"),
        ("train t.yaml -o run --epochs 3", "--epochs: settings are key=value: train.epochs=…"),
        ("train t.yaml -o run --train.epochs=3", "settings are key=value: train.epochs=…"),
        ("train t.yaml -o run --lora-lr 3", "settings are key=value: train.lora_lr=…"),
        ("version x", None),
    ],
)
def test_a_wrong_call_is_answered_with_all_that_is_missing_or_the_nearest_word(line, message, capsys):
    code, shown = said(capsys, *line.split())
    if message is None:
        return
    assert code == 2 and message in shown.err and len(shown.err.strip().splitlines()) == 1


@pytest.mark.parametrize("line", ["backbone --debug --json list", "backbone list --debug --json"])
def test_options_stand_on_either_side_of_an_action(line):
    command, *words = line.split()
    parsed = parse(command, words)
    assert (parsed.action, parsed.debug, parsed.json) == ("list", True, True)


def test_options_and_words_come_in_any_order():
    one = parse("train", ["-o", "run", "t.yaml", "--quiet", "train.epochs=3", "seed=1"])
    other = parse("train", ["t.yaml", "train.epochs=3", "-o", "run", "seed=1", "--quiet"])
    assert one == other and one.overrides == ["train.epochs=3", "seed=1"]


def test_backbone_is_an_option_and_a_setting(tmp_path, capsys):
    (tmp_path / "t.yaml").write_text("format: 1\nnope: 1\n")
    errors = []
    for word in ("backbone=nowhere", "--backbone=nowhere"):
        assert main(["train", str(tmp_path / "t.yaml"), "-o", str(tmp_path / "run"), word]) == 2
        errors.append(capsys.readouterr().err)
    assert errors[0] == errors[1]


def test_hints_know_every_setting():
    keys = setting_keys()
    assert {"train.epochs", "data.manifest", "labels.columns", "backbone.name"} <= set(keys)
    assert {key.partition(".")[0] for key in keys} == set(TaskSettings.__dataclass_fields__)


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_the_completion_script_knows_every_command(shell, capsys):
    pytest.importorskip("shtab")
    code, shown = said(capsys, "completion", shell)
    assert code == 0 and all(name in shown.out for name in COMMANDS)
    assert whole_parser().parse_args(["data", "split", "m.csv", "-o", "n.csv"]).action == "split"
