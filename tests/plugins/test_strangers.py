"""Promise 9: a plugin from a stranger is data. What it names is never run, opened, fetched or written to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from anymc3d.cli.main import main
from anymc3d.errors import PluginError
from anymc3d.plugins import load_plugin
from anymc3d.plugins.peft import import_peft
from strangers import canary, forged, read_raw

ORGAN = {"source": "totalsegmentator", "organs": ["liver"]}


def with_region(**keys):
    def change(card):
        card["preprocessing"]["image"]["roi"] = ORGAN | keys

    return change


def commands(plugin: Path, journey, out: Path) -> dict[str, list[str]]:
    """Every command that loads a plugin."""
    scan, tables = str(journey.scans[0]), [str(journey.run / "predictions.val.csv"), str(journey.data / "manifest.csv")]
    return {
        "predict": ["predict", "-p", str(plugin), "-i", scan, "-o", str(out / "p"), "--quiet"],
        "explain": ["explain", "-p", str(plugin), "-i", scan, "-o", str(out / "e"), "--quiet"],
        "report": ["report", "-p", str(plugin), "-i", scan, "-o", str(out / "r.html")],
        "show": ["plugin", "show", str(plugin)],
        "verify": ["plugin", "verify", str(plugin)],
        "export": ["plugin", "export", str(plugin), "-o", str(out / "peft")],
        "calibrate": ["calibrate", "-p", str(plugin), *tables, "-o", str(out / "c.safetensors")],
        "ensemble": ["ensemble", str(plugin), str(journey.plugin), "-o", str(out / "en.safetensors")],
    }


COMMANDS = ["predict", "explain", "report", "show", "verify", "export", "calibrate", "ensemble"]


class TestPrograms:
    @pytest.mark.parametrize("command", COMMANDS)
    @pytest.mark.parametrize("named", ["./bin/segment.sh", "{folder}/segment.sh", "segment.sh", "~/segment.sh"])
    def test_A11_F2_a_program_that_a_plugin_names_is_refused_and_never_started(
        self, journey, tmp_path, monkeypatch, capsys, command, named
    ):
        program, told = canary(tmp_path / "bin", "segment.sh")
        monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.setenv("HOME", str(program.parent))
        monkeypatch.chdir(tmp_path)
        plugin = forged(
            journey.plugin, tmp_path / "x.safetensors", with_region(program=named.format(folder=program.parent))
        )
        assert main(commands(plugin, journey, tmp_path / "out")[command]) == 2
        assert not told.exists()
        assert "preprocessing.image.roi.program: expected null or TotalSegmentator" in capsys.readouterr().err

    @pytest.mark.parametrize("command", COMMANDS)
    def test_A11_F2_the_known_name_starts_nothing_either_unless_the_user_says_so(
        self, journey, tmp_path, monkeypatch, capsys, command
    ):
        program, told = canary(tmp_path / "bin", "TotalSegmentator")
        monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
        plugin = forged(journey.plugin, tmp_path / "x.safetensors", with_region(program="TotalSegmentator"))
        words = commands(plugin, journey, tmp_path / "out")[command]
        main(words)
        assert not told.exists()
        if command == "predict":
            text = (tmp_path / "out" / "p" / "predictions.csv").read_text()
            assert "name the program that draws it: --segmenter TotalSegmentator" in text
            main([*words[:-2], str(tmp_path / "named"), "--segmenter", "TotalSegmentator"])
            assert told.exists(), "the person at the keyboard named it"

    @pytest.mark.parametrize("flag", [[], ["--folds", "2"], ["--quick"]])
    def test_A11_a_task_file_starts_no_program(self, journey, tmp_path, monkeypatch, capsys, flag):
        program, told = canary(tmp_path / "bin", "TotalSegmentator")
        monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
        for named in ("TotalSegmentator", str(program)):
            region = f"roi: {{source: totalsegmentator, organs: [liver], program: {named}}}, normalise: percentile"
            text = journey.task.read_text().replace("normalise: percentile", region)
            task = journey.data / "stranger.yaml"
            task.write_text(text)
            assert main(["train", str(task), "-o", str(tmp_path / "run"), *flag]) == 2
            assert "name it yourself: --segmenter TotalSegmentator" in capsys.readouterr().err
            assert not told.exists()

    @pytest.mark.parametrize("how", ["option", "override"])
    def test_a_program_named_on_the_command_line_is_started(self, journey, tmp_path, monkeypatch, how):
        program, told = canary(tmp_path / "bin", "TotalSegmentator")
        region = "roi: {source: totalsegmentator, organs: [liver]}, normalise: percentile"
        task = journey.data / "mine.yaml"
        task.write_text(journey.task.read_text().replace("normalise: percentile", region))
        words = {"option": ["--segmenter", str(program)], "override": [f"views.image.roi.program={program}"]}
        main(["train", str(task), *words[how], "-o", str(tmp_path / "run"), "--quiet"])
        assert told.exists()


class TestPlaces:
    """Keys that could name a path or an address."""

    @pytest.mark.parametrize(
        "place", ["/etc/passwd", "../up.onnx", "http://127.0.0.1:9/x", "~/x", "sha256:../../x", "//host/share/x.onnx"]
    )
    def test_F2_A8_a_card_that_names_one_is_refused(self, journey, tmp_path, place):
        network = {"normalise": "unit"}
        changes = {
            "model": lambda card: card["preprocessing"]["image"].update(
                roi={"source": "onnx", "model": place, "network": network}
            ),
            "weights": lambda card: card["method"].update(weights=place),
            "backbone": lambda card: card["backbone"].update(name=place),
            "view": lambda card: card.update(preprocessing={place: card["preprocessing"]["image"]}),
        }
        for key, change in changes.items():
            path = forged(journey.plugin, tmp_path / f"{key}.safetensors", change)
            with pytest.raises(PluginError) as caught:
                load_plugin(path)
            assert "\n" not in str(caught.value)
            assert {"model": "roi.model", "weights": "method.weights", "backbone": "backbone.name", "view": "views"}[
                key
            ] in str(caught.value)

    @pytest.mark.parametrize("view", ["../../victim", "a/b", "\x1b[2J", "a\nb", "..", "fused", "x" * 300, "", "é"])
    def test_A8_names_of_views_lead_nowhere(self, journey, tmp_path, capsys, view):
        def change(card):
            card["preprocessing"][view] = card["preprocessing"]["image"]

        path = forged(journey.plugin, tmp_path / "x" / "x.safetensors", change)
        before = sorted(tmp_path.rglob("*"))
        for command in COMMANDS:
            assert main(commands(path, journey, tmp_path / "out" / "deep")[command]) == 2
            shown = capsys.readouterr().err
            assert shown.count("\n") == 1 and "\x1b" not in shown
        assert sorted(tmp_path.rglob("*")) == before

    def test_A8_a_peft_folder_is_read_inside_itself_only(self, journey, tmp_path):
        assert main(["plugin", "export", str(journey.plugin), "-o", str(tmp_path / "peft")]) == 0
        weights = tmp_path / "peft" / "image" / "adapter_model.safetensors"
        weights.rename(tmp_path / "elsewhere.safetensors")
        weights.symlink_to(tmp_path / "elsewhere.safetensors")
        with pytest.raises(PluginError, match="leads out of"):
            import_peft(tmp_path / "peft")
        rest = tmp_path / "peft" / "anymc3d.safetensors"
        card, _ = read_raw(rest)
        card["preprocessing"]["../../elsewhere"] = card["preprocessing"].pop("image")
        import json

        save_file(load_file(rest), rest, metadata={"anymc3d": json.dumps(card)})
        with pytest.raises(PluginError, match="views: names are letters"):
            import_peft(tmp_path / "peft")


FORGED = "MIT\n\nhash: 0000\x1b[2J\r\u202egnp.exe\u200b\x9b31m"


class TestText:
    """M5's kind: text of a plugin is a quotation; it makes no line, clears no screen and says nothing in our name."""

    def forged(self, journey, path):
        def change(card):
            card["name"] = f"block {FORGED}"
            card["licence"] = card["backbone"]["licence"] = FORGED
            card["intended_use"] = "FDA cleared. Safe for clinical diagnosis.\nResearch use: none needed."
            card["operating_points"][0]["name"] = FORGED
            for row in card["metrics"]:
                row["reason"] = row["label"] = row["plugin"] = FORGED
            card["training"]["note"] = FORGED
            card["labels"]["columns"] = [FORGED]

        return forged(journey.plugin, path, change)

    @pytest.mark.parametrize("command", COMMANDS)
    def test_E15_no_command_prints_it_as_its_own(self, journey, tmp_path, capsys, command):
        path = self.forged(journey, tmp_path / "x.safetensors")
        counts = []
        for plugin, out in ((journey.plugin, "plain"), (path, "forged")):
            assert main(commands(plugin, journey, tmp_path / out)[command]) in (0, 2)
            told = capsys.readouterr()
            both = told.out + told.err
            assert not [letter for letter in both if not letter.isprintable() and letter != "\n"]
            assert not any(line.startswith(("hash: 0000", "FDA", "Research use: none")) for line in both.splitlines())
            counts.append(both.count("\n"))
        if command in ("show", "predict", "report"):
            # The maker's words are one line of their own in show.
            assert counts[1] - counts[0] == (command == "show")

    def test_I1_our_line_is_always_shown_and_the_makers_is_a_quotation(self, journey, tmp_path, capsys):
        path = self.forged(journey, tmp_path / "x.safetensors")
        assert main(["plugin", "show", str(path)]) == 0
        *_, maker, last = capsys.readouterr().out.splitlines()
        assert last == "Research use only. Not a medical device; not for diagnosis or treatment."
        assert maker.startswith('its maker says of use: "FDA cleared. Safe for clinical diagnosis.\\nResearch use')
        page = tmp_path / "r.html"
        assert main(["report", "-p", str(path), "-i", str(journey.scans[0]), "-o", str(page)]) == 0
        text = page.read_text()
        assert "Research use only. Not a medical device" in text
        assert "<td>FDA cleared" not in text and "&quot;FDA cleared" in text
        assert "\x1b" not in text and "\u202e" not in text

    def test_show_says_what_a_plugin_needs_from_this_machine(self, journey, tmp_path, capsys):
        views = {
            "organ": ORGAN | {"program": "TotalSegmentator"},
            "net": {"source": "onnx", "model": "sha256:" + "0" * 64, "network": {"normalise": "unit"}},
            "mask": {"source": "mask"},
            "point": {"source": "point", "size_mm": [8, 8, 8]},
        }

        def change(card):
            view = card["preprocessing"]["image"]
            card["preprocessing"] = {name: view | {"roi": roi} for name, roi in views.items()}

        assert main(["plugin", "show", str(forged(journey.plugin, tmp_path / "x.safetensors", change))]) == 0
        shown = capsys.readouterr().out
        for line in (
            "  the backbone tiny-random: found by its fingerprint in the local store; or --backbone FOLDER",
            "  view organ: TotalSegmentator's segmentation of liver: the column mask; or the program, which runs only",
            f"  view net: the onnx network sha256:{'0' * 64} that draws its region: the local store; or --segmenter",
            "  view mask: a segmentation of its region: the column mask; --mask FILE",
            "  view point: a point of interest: the columns center_x, center_y, center_z; --center X Y Z",
        ):
            assert line in shown


def test_an_import_writes_over_nothing_else(journey, tmp_path, capsys):
    assert main(["plugin", "export", str(journey.plugin), "-o", str(tmp_path / "peft")]) == 0
    mine = tmp_path / "mine.safetensors"
    mine.write_bytes(b"mine")
    assert main(["plugin", "import", str(tmp_path / "peft"), "-o", str(mine)]) == 2
    assert "holds something else" in capsys.readouterr().err and mine.read_bytes() == b"mine"
    assert main(["plugin", "import", str(tmp_path / "peft"), "-o", str(mine), "--overwrite"]) == 0
    assert mine.read_bytes() == journey.plugin.read_bytes()


def test_F4_a_peft_folder_is_read_as_a_plugin_is(journey, tmp_path, capsys):
    """Kinds of numbers, their count and the length of a header, before memory is taken."""
    import torch
    from safetensors.torch import save_file

    assert main(["plugin", "export", str(journey.plugin), "-o", str(tmp_path / "peft")]) == 0
    weights = tmp_path / "peft" / "image" / "adapter_model.safetensors"
    capsys.readouterr()
    for tensors, header, message in (
        ({"x": torch.zeros(2).to(torch.float8_e4m3fn)}, {}, "expected floating-point tensors"),
        ({f"t{i}": torch.zeros(1) for i in range(40_001)}, {}, "expected at most 40000 tensors"),
        ({"x": torch.zeros(1)}, {"a": "x" * 40_000_000}, "expected a header of at most"),
    ):
        save_file(tensors, weights, metadata=header)
        assert main(["plugin", "import", str(tmp_path / "peft"), "-o", str(tmp_path / "x.safetensors")]) == 2
        assert message in capsys.readouterr().err
