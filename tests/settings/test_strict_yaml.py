"""YAML is plain data here, and never more."""

import time

import pytest

from anymc3d.errors import UsageError
from anymc3d.settings.strict_yaml import load_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("1E5", 1e5),
        (".5", 0.5),
        ("-7", -7),
        ("010", 10),
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ("0x10", "0x10"),
        ("1_000", "1_000"),
        (".nan", ".nan"),
        (".inf", ".inf"),
        ("true", True),
        ("~", None),
        ("", None),
        ("'1'", "1"),
        ("${HOME}", "${HOME}"),
    ],
)
def test_A12_scalars_follow_yaml_1_2(text, value):
    read = load_yaml(f"key: {text}")["key"]
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: 2\na: 3\n", "line 3: key 'a' appears twice"),
        ("a:\n  x: 1\n  x: 1\n", "line 3: key 'x' appears twice"),
        ("a: &x 1\nb: *x\n", "line 1: anchors"),
        ("a: !!python/object/apply:os.system ['true']\n", "line 1: tags"),
        ("a: !!str 1\n", "line 1: tags"),
        ("1: a\n", "line 1: a key must be text"),
        ("[1]: a\n", "line 1: a key must be text"),
        ("a: 1\n---\nb: 2\n", "second document"),
        ("a: [1\n", "not valid YAML"),
        ("a: \x07\n", "not valid YAML"),
        ("a: 1e999\n", "too large"),
        (f"a: {'9' * 5000}\n", "5000 digits"),
    ],
)
def test_A11_A12_what_plain_data_never_needs_is_refused_with_its_line(text, expected):
    with pytest.raises(UsageError) as caught:
        load_yaml(text)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_merge_keys_are_ordinary_text():
    assert load_yaml("'<<': {a: 1}\nb: 2\n") == {"<<": {"a": 1}, "b": 2}
    assert load_yaml("<<: {a: 1}\n") == {"<<": {"a": 1}}


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(12)
)


@pytest.mark.parametrize(
    "text",
    [BOMB, "[" * 100_000, "a: " + "[" * 51 + "]" * 51, "".join(" " * i + f"k{i}:\n" for i in range(60)), "x" * 2**21],
    ids=["aliases", "brackets", "depth", "indent", "size"],
)
def test_A13_bombs_are_refused_at_once(text):
    start = time.process_time()  # not the clock on the wall, which shows what else the machine does
    with pytest.raises(UsageError):
        load_yaml(text)
    assert time.process_time() - start < 5
