"""Plugins that cannot be explained: one clear line, exit code 2, nothing written."""

import json

import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from anymc3d.cli.main import main
from anymc3d.errors import UsageError
from anymc3d.explain.heatmaps import check_has_attention
from anymc3d.plugins import load_plugin


def changed(source, path, **values):
    """The plugin with other values in its card."""
    with safe_open(source, "np") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
    card = json.loads(metadata["anymc3d"]) | values
    save_file(tensors, path, metadata={**metadata, "anymc3d": json.dumps(card)})
    return path


@pytest.mark.parametrize("command", ["explain", "report", "predict"])
def test_a_plugin_without_views_is_refused_in_one_line(journey, tmp_path, capsys, command):
    plugin = changed(journey.plugin, tmp_path / "none.safetensors", preprocessing={})
    out = tmp_path / ("r.html" if command == "report" else "out")
    assert main([command, "-p", str(plugin), "-i", str(journey.scans[0]), "-o", str(out)]) == 2
    error = capsys.readouterr().err
    assert "expected at least one view, got none" in error
    assert error.count("\n") == 1 and "Traceback" not in error
    assert not out.exists()


def test_a_baseline_has_no_attention_to_draw(journey):
    from dataclasses import replace

    card = replace(load_plugin(journey.plugin).card, kind="baseline", backbone=None)
    with pytest.raises(UsageError, match=r"'block': .* has no backbone .*; explain a plugin"):
        check_has_attention(card)
    check_has_attention(load_plugin(journey.plugin).card)
