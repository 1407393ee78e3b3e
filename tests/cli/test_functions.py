"""The commands as functions of the package: names, defaults and results are those of the commands."""

import importlib
import inspect

import pytest

import anymc3d
from anymc3d.cli import functions
from anymc3d.cli.main import parser_of
from anymc3d.errors import UsageError

COMMAND = {name: name for name in ("plan", "doctor", "evaluate", "explain", "calibrate", "ensemble", "report")}
COMMAND["quick"] = "train"


@pytest.mark.parametrize("name", COMMAND)
def test_every_argument_has_the_name_and_default_of_the_command(name):
    actions = {action.dest: action for action in parser_of(COMMAND[name])._actions}
    for argument, parameter in inspect.signature(getattr(functions, name)).parameters.items():
        action = actions[argument]
        if parameter.default is inspect.Parameter.empty:
            assert action.required
        else:
            expected = action.default if action.default != [] else ()
            assert parameter.default == (() if argument == "overrides" else expected), argument


def test_the_package_names_them_and_says_so():
    assert set(COMMAND) <= set(dir(anymc3d)) == set(anymc3d.__all__)
    importlib.import_module("anymc3d.plan")  # the package of this name must not hide the function

    assert inspect.signature(anymc3d.plan) == inspect.signature(functions.plan)
    assert callable(anymc3d.plan)
    assert anymc3d.plan.plan_task is not None


def test_arguments_become_the_words_of_the_command():
    words = functions._words(
        parser_of("evaluate"),
        {"predictions": "p.csv", "manifest": "m.csv", "out": "o", "groups": ["site", "sex"], "task": ["a", "b"]}
        | {"overwrite": True, "quiet": False, "resamples": 2000, "seed": 3},
    )
    assert words[:2] == ["p.csv", "m.csv"]
    assert sorted(words[2:]) == sorted(
        ["--out=o", "--groups=site,sex", "--task=a", "--task=b", "--overwrite", "--seed=3"]
    )


def test_a_result_is_what_json_prints(tmp_path, capsys):
    manifest, predictions = tmp_path / "m.csv", tmp_path / "p.csv"
    rows = [(f"c{i}", i % 2, (i % 2) - 0.5 + 0.3 * (i % 3)) for i in range(12)]
    manifest.write_text("case,image,y,split\n" + "".join(f"{c},{c}.nii.gz,{y},test\n" for c, y, _ in rows))
    predictions.write_text(
        "case,split,plugin,status,message,logit.y,probability.y,decision.y\n"
        + "".join(f"{c},test,p,ok,,{z},0.5,{int(z > 0)}\n" for c, _, z in rows)
    )
    found = anymc3d.evaluate(predictions, manifest, tmp_path / "out", resamples=100)
    assert capsys.readouterr().out == ""
    assert (found.exit_code, found["split"]) == (0, "test")
    assert any(row["metric"] == "auroc" for row in found["metrics"])
    assert (tmp_path / "out" / "metrics.csv").exists()
    assert "<table>" in found._repr_html_()
    assert len(repr(found)) < 200
    with pytest.raises(UsageError, match="resamples"):
        anymc3d.evaluate(predictions, manifest, tmp_path / "other", resamples=3)


def test_heatmaps_show_the_scan_and_its_map_in_a_notebook(tmp_path):
    """From what lies in the folder; a picture that is none, or lies elsewhere, is not shown."""
    folder = tmp_path / "maps" / "c1"
    folder.mkdir(parents=True)
    (folder / "y.image.m.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"0" * 20)
    (folder / "other.png").write_bytes(b"<script>")
    names = ["y.image.m.nii.gz", "y.image.m.png", "other.png"]
    heatmap = {"label": "<b>y", "view": "image", "method": "m", "files": names}
    record = {"case": "c1", "status": "ok", "message": "", "probabilities": {"<b>y": 0.25}, "heatmaps": [heatmap]}
    record["plugin_doubts"] = ["not shown to be better than chance"]
    failed = {"case": "c2", "status": "error", "message": "no file", "heatmaps": []}
    found = functions.Result("explain", 3, {"found": [record, failed]}, tmp_path / "maps")
    shown = found._repr_html_()
    assert shown.count("<img") == 1 and 'src="data:image/png;base64,' in shown
    assert "&lt;b&gt;y 0.250" in shown and "<b>y" not in shown and "No answer: no file" in shown
    assert "not shown to be better than chance" in shown and "Research use only" in shown
    heatmap["files"] = ["../../elsewhere.png"]
    with pytest.raises(UsageError):
        found._repr_html_()
