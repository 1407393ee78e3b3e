"""The documentation keeps its word: commands parse, snippets run, every key and column is described, links lead on."""

from __future__ import annotations

import ast
import dataclasses
import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import get_args, get_origin, get_type_hints

import pytest
import yaml

from anymc3d.cli.main import COMMANDS, parse
from anymc3d.errors import AnyMC3DError
from anymc3d.settings.config import TaskSettings
from anymc3d.settings.views import ViewSettings

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    page for page in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").glob("*.md"))
)
FENCE = re.compile(r"^(?P<mark><!-- runnable -->\n)?```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)[^)]*\)")
SHELLS = ("sh", "bash", "console")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def doc(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def blocks(page: Path, *kinds: str) -> Iterator[re.Match[str]]:
    return (found for found in FENCE.finditer(page.read_text(encoding="utf-8")) if found["kind"] in kinds)


def command_lines(page: Path) -> list[str]:
    """Every line of a shell block that starts anymc3d, continued lines joined and prompts cut off."""
    lines = [line for block in blocks(page, *SHELLS) for line in block["text"].replace("\\\n", " ").splitlines()]
    stripped = [re.sub(r"^\s*(\$ )?", "", line) for line in lines]
    return [line for line in stripped if line.startswith("anymc3d ")]


COMMAND_LINES = [(name_of(page), line) for page in PAGES for line in command_lines(page)]
SNIPPETS = [
    page for page in PAGES if page.parent.name != "how-to" and any(block["mark"] for block in blocks(page, "python"))
]


def test_every_command_line_parses(capsys):
    refused = []
    for page, line in COMMAND_LINES:
        words = shlex.split(line, comments=True)[1:]
        if words[0] in ("--help", "--version"):
            continue
        assert words[0] in COMMANDS, f"{page}: {line}"
        try:
            parse(words[0], words[1:])
        except (SystemExit, AnyMC3DError) as error:
            refused.append(f"{page}: {line}: {error} {capsys.readouterr().err}")
    assert len(COMMAND_LINES) > 200 and refused == []


def test_commands_named_in_a_sentence_exist():
    """The roadmap alone may name what does not exist yet."""
    for page in PAGES:
        if page.name != "roadmap.md":
            named = set(re.findall(r"`anymc3d ([a-z][a-z0-9]*)[^`]*`", page.read_text(encoding="utf-8")))
            assert named <= {*COMMANDS, "help", "version"}, name_of(page)


@pytest.fixture
def snippet_folder(journey, tmp_path, monkeypatch):
    """What the snippets name: scans, manifest, task file, run folder, and a plugin of another name."""
    from anymc3d.plugins import load_plugin, save_plugin
    from anymc3d.testing import tables_as_before

    for path in journey.data.iterdir():
        (tmp_path / path.name).symlink_to(path)
    plugin = load_plugin(journey.plugin)
    save_plugin(tmp_path / "other" / "plugin.safetensors", replace(plugin.card, name="other"), plugin.tensors)
    monkeypatch.chdir(tmp_path)
    with tables_as_before():
        yield tmp_path


@pytest.mark.parametrize("page", SNIPPETS, ids=name_of)
def test_runnable_snippets_run(page, snippet_folder, capsys):
    """The marked blocks of a page run one after the other, as a reader would paste them, and print what they show."""
    namespace: dict[str, object] = {}
    for block in blocks(page, "python"):
        code = compile(block["text"], name_of(page), "exec")
        if block["mark"]:
            exec(code, namespace)
            assert bool(capsys.readouterr().out.strip()) == ("print(" in block["text"]), block["text"]


def test_there_are_runnable_snippets():
    assert ROOT / "docs" / "python-api.md" in SNIPPETS


def leaves(cls: type, place: str = "") -> Iterator[tuple[str, object]]:
    """(dotted key, default) of every setting; MISSING where it must be given."""
    hints = get_type_hints(cls)
    for field in dataclasses.fields(cls):
        dotted, kind = f"{place}{field.name}", hints[field.name]
        choices = get_args(kind)
        inner = [choice for choice in choices if dataclasses.is_dataclass(choice) and type(None) in choices]
        if dataclasses.is_dataclass(kind):
            yield from leaves(kind, f"{dotted}.")
        elif inner:  # a section that may be null
            yield dotted, field.default
            yield from leaves(inner[0], f"{dotted}.")
        elif isinstance(get_origin(kind), type) and issubclass(get_origin(kind), Mapping):
            yield from leaves(ViewSettings, f"{dotted}.<view>.")
        else:
            yield dotted, field.default


def key_rows(text: str) -> dict[str, list[str]]:
    """First cell without backticks -> the other cells, of all tables that begin with a column ``key``."""
    rows: dict[str, list[str]] = {}
    is_of_keys = False
    for line in text.splitlines():
        if not line.startswith("|"):
            is_of_keys = False
            continue
        first, *others = (cell.strip() for cell in line.strip("|").split(" | "))
        is_of_keys = is_of_keys or first == "key"
        if is_of_keys:
            rows[first.strip("`")] = others
    return rows


def test_every_task_file_key_is_described_with_its_default():
    rows = key_rows(doc("task-file.md") + doc("task-file-training.md"))
    wanted = dict(leaves(TaskSettings))
    assert not [key for key in wanted if key not in rows]
    assert not [key for key in rows if "." in key and key not in wanted]
    for key, default in wanted.items():
        told = rows[key][1].strip("`")
        if default is dataclasses.MISSING:
            assert told == "required", key
        elif isinstance(default, str):
            assert told == default, key
        elif isinstance(default, float):
            assert float(told) == default, key
        else:
            plain = list(default) if isinstance(default, tuple) else default
            assert json.loads(told) == plain, key


def test_every_name_of_the_tables_is_described():
    from anymc3d.data.augmentation.recipes import AUGMENTATIONS
    from anymc3d.evaluate.task_calibration import CHOICES
    from anymc3d.models.fusion import FUSIONS
    from anymc3d.settings.windows import WINDOWS
    from anymc3d.train.losses import LOSSES

    text = doc("task-file.md") + doc("task-file-training.md")
    for name in (*FUSIONS, *LOSSES, *AUGMENTATIONS, *CHOICES, *WINDOWS):
        assert f"`{name}`" in text, name


def test_every_key_of_a_plugin_is_described():
    from anymc3d.plugins.card import BackboneRecord, Member, PluginCard

    text = doc("plugin-format.md")
    for cls in (PluginCard, BackboneRecord, Member):
        for field in dataclasses.fields(cls):
            assert f"`{field.name}`" in text, field.name


def test_every_column_and_metric_is_described():
    from anymc3d.evaluate.metrics import DECISION_METRICS, PROBABILITY_METRICS, RANKING_METRICS
    from anymc3d.evaluate.operating_points import CRITERIA
    from anymc3d.evaluate.study_rows import COLUMNS

    text = doc("predictions.md") + doc("metrics.md")
    for name in (*COLUMNS, *RANKING_METRICS, *DECISION_METRICS, *PROBABILITY_METRICS, *CRITERIA):
        assert f"`{name}" in text, name


def test_every_reserved_manifest_column_is_described():
    from anymc3d.data.case import PER_VIEW, RESERVED
    from anymc3d.data.readers import FORMATS

    text = doc("manifest.md")
    for name in (*RESERVED, *(f"{family}.<view>" for family in PER_VIEW)):
        assert f"`{name}`" in text, name
    for suffix in FORMATS:
        assert not suffix.startswith(".") or suffix in text, suffix


def test_links_lead_to_files():
    links = [(page, target) for page in PAGES for target in LINK.findall(page.read_text(encoding="utf-8"))]
    lost = [(page, target) for page, target in links if "://" not in target and not (page.parent / target).exists()]
    assert lost == []


def test_every_page_has_one_place_in_the_site_and_a_line_in_the_index():
    sections = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    placed = [page for section in sections for pages in section.values() for page in pages]
    found = [*(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "how-to").glob("*.md")]
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in found} | {"decisions/README.md"}
    assert sorted(placed) == sorted(pages), "mkdocs.yml: nav"
    assert pages - {"index.md"} <= set(LINK.findall(doc("index.md")))


def test_no_page_holds_a_path_of_one_machine():
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"(?<![\w.])/(tmp|work|home|root|Users)/", text), name_of(page)


def test_words_that_mean_something_else_in_this_field_are_not_used():
    """An artefact is a fault of an image, figures are pictures; a program says or reports, options can be repeated."""
    everywhere = re.compile(r"\bartefacts?\b|given often", re.I)
    in_pages = re.compile(r"\btells\b|\btold apart\b|all figures|figures (?:are|of the)\b", re.I)
    for path in (*(ROOT / "src").rglob("*.py"), *(ROOT / "docs").rglob("*.md")):
        text = path.read_text(encoding="utf-8")
        assert not everywhere.findall(text), path
        assert path.suffix == ".py" or not in_pages.findall(text), path


@cache
def ids_in_tests() -> set[str]:
    """The ids of promises in the names and docstrings of all tests."""
    texts = [
        text
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module)
        for text in (getattr(node, "name", "").replace("_", " "), ast.get_docstring(node) or "")
    ]
    return set(re.findall(r"\b[A-I]\d{1,2}\b", " ".join(texts)))


def test_I2_a_promise_that_is_called_kept_has_a_test():
    rows = re.findall(
        r"^\| ((?:[A-I]\d+(?:, )?)+) \| .* \| (kept|partly|not yet) \| (.*) \|$", doc("reliability.md"), re.M
    )
    ids = [(one, state) for cell, state, _ in rows for one in cell.split(", ")]
    assert len(ids) > 60
    assert not [one for one, state in ids if state != "not yet" and one not in ids_in_tests()]
    named = set(re.findall(r"`(?:tests/)?([a-z/_0-9]+\.py)`", doc("reliability.md")))
    assert not [name for name in named if not (ROOT / "tests" / name).is_file()]
