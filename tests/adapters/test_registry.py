"""The table of layouts: complete, documented, and careful about options."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from anymc3d.adapters import ADAPTERS, AdaptOptions, adapt
from anymc3d.adapters.public_sets import PUBLIC_SETS
from anymc3d.errors import UsageError
from anymc3d.recipes.table import RECIPES

PAGE = Path(__file__).resolve().parents[2] / "docs" / "data-sets.md"


def test_every_layout_and_large_set_is_on_its_page():
    text = PAGE.read_text(encoding="utf-8")
    for name in ADAPTERS:
        assert f"| `{name}` | `anymc3d data adapt {name} " in text
    for entry in PUBLIC_SETS.values():
        assert entry.layout in ADAPTERS
        assert entry.file is not None or f"| `{entry.layout}` | {entry.size} | {entry.licence}" in text


def test_options_of_an_entry_are_options():
    known = {field.name for field in dataclasses.fields(AdaptOptions)}
    for entry in ADAPTERS.values():
        assert set(entry.options) <= known


def test_an_option_of_another_layout_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"layout ratic takes no option num-checked; it takes partial"):
        adapt("ratic", tmp_path, AdaptOptions(num_checked=3))


def test_layouts_that_recipes_name_exist_and_write_their_labels():
    from anymc3d.adapters.ct_rate import FINDINGS
    from anymc3d.adapters.ratic import LABELS

    written = {"ratic": LABELS, "panorama": ("pdac",), "ct-rate": FINDINGS}
    named = [recipe for recipe in RECIPES.values() if recipe.adapter]
    assert named
    for recipe in named:
        assert set(recipe.labels.columns) <= set(written[recipe.adapter])


def test_published_files_have_a_secure_address_and_a_whole_hash():
    files = [entry.file for entry in PUBLIC_SETS.values() if entry.file]
    assert len(files) == 12 and len({file.md5 for file in files}) == 12
    for file in files:
        assert file.address.startswith("https://") and len(file.md5) == 32 and int(file.md5, 16)
