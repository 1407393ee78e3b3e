"""The demo runs the whole main job; here with a tiny random backbone and a dozen cases."""

import json

from anymc3d.cli.main import main
from anymc3d.demo.journey import run_demo, summary
from anymc3d.files.tables import read_table


def small(out, **options):
    return run_demo(
        out, backbone="tiny-random", device="cpu", quiet=True, num_train=8, num_val=4, num_test=4, epochs=1, **options
    )


def test_the_journey_makes_everything_it_names_and_goes_on_where_it_stopped(tmp_path, drawn, monkeypatch, capsys):
    said = []
    result = small(tmp_path / "demo", say=said.append)
    assert [line[:3] for line in said] == [f"{i}/7" for i in range(1, 8)]
    assert all(path.is_file() and path.stat().st_size > 0 for path in result.files.values())
    assert {path.suffix for path in result.files.values()} >= {".csv", ".png", ".yaml", ".safetensors", ".html"}
    assert {path.parent.parent.name for path in result.files.values() if "ring.fused" in path.name} == {"heat"}
    study = result.files["report of a case"].read_text()
    assert "Attention along the slices" in study and "viewer-data" in study
    assert "Most confident errors" in result.files["report of the training"].read_text()
    assert {row["status"] for row in read_table(result.files["predictions"])} <= {"ok", "warn"}
    assert 0 <= result.auroc <= 1
    assert result.interval[0] <= result.auroc <= result.interval[1] if result.interval else "no interval" in result.note
    text = "\n".join(summary(result))
    assert "lesion volume" in text and "the test cases chose nothing" in text
    assert str(result.files["plugin"]) in text
    before = result.files["plugin"].stat().st_mtime_ns
    again = small(tmp_path / "demo", say=said.append)
    assert again == result
    assert again.files["plugin"].stat().st_mtime_ns == before
    monkeypatch.setattr("anymc3d.demo.journey.run_demo", lambda *_args, **_options: result)
    assert main(["demo", "-o", str(tmp_path / "demo"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["auroc"] == result.auroc


def test_without_weights_it_says_which_ways_there_are(tmp_path, monkeypatch, capsys):
    from anymc3d.errors import BackboneError

    def no_index(name):
        raise BackboneError(f"{name}: pip could not fetch it; other ways: backbone import PATH")

    monkeypatch.setattr("anymc3d.demo.journey.get_backbone", no_index)
    assert main(["demo", "-o", str(tmp_path / "demo"), "--json"]) == 2
    captured = capsys.readouterr()
    assert "backbone import" in captured.err
    assert captured.out == ""
