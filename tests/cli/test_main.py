"""The command line: quick to answer, one clear line for every mistake, the promised exit codes."""

import json
import subprocess
import sys

import pytest

from anymc3d.cli.main import COMMANDS, main


def run(capsys, *words):
    code = main([str(word) for word in words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_help_imports_nothing_that_takes_time():
    """Half a second is promised; what takes longer is an import: of torch 1.5 s, of NumPy 0.1 s."""
    code = """
import sys
before = set(sys.modules)
from anymc3d.cli.main import main
main(["--help"])
new = {name for name in sys.modules if name not in before}
print(len(new), sorted({name.partition(".")[0] for name in new} - set(sys.stdlib_module_names)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *shown, imported = done.stdout.splitlines()
    count, foreign = imported.split(" ", 1)
    assert foreign == "['anymc3d']" and int(count) < 150
    assert all(name in "\n".join(shown) for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_needs_no_torch_for_it(name):
    code = f"import sys; from anymc3d.cli.main import main\ntry: main([{name!r}, '--help'])\nexcept SystemExit: pass\n"
    code += "print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("False")


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("anymc3d ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], "unknown command 'trian', did you mean 'train'?"),
        (["train"], "missing"),
        (["predict", "-p", "x"], "missing"),
        (["train", "absent.yaml", "-o", "x"], "absent.yaml"),
        (["predict", "-p", "absent.safetensors", "-i", "a.nii", "-o", "x"], "absent.safetensors"),
        (["evaluate", "absent.csv", "absent.csv", "-o", "x"], "absent.csv"),
        (["plan", "absent.csv", "--labels", "y", "-o", "t.yaml"], "absent.csv"),
        (["plugin", "show", "absent.safetensors"], "absent.safetensors"),
        (["backbone", "show", "dinov2-smal"], "dinov2-small"),
    ],
)
def test_D10_wrong_use_is_one_line_and_exit_code_2(capsys, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, *words)
    assert code == 2
    assert message in err
    assert "Traceback" not in err


def test_predict_and_plugin_commands_end_to_end(capsys, journey, tmp_path):
    code, out, _ = run(
        capsys, "predict", "-p", journey.plugin, "-i", *journey.scans[:2], "-o", tmp_path / "out", "--quiet", "--json"
    )
    assert code == 0
    assert [row["case"] for row in json.loads(out)] == ["case00", "case01"]
    code, out, _ = run(capsys, "plugin", "show", journey.plugin)
    assert code == 0
    assert "optimistic" in out
    assert "Research use only" in out
    assert run(capsys, "plugin", "verify", journey.plugin)[0] == 0
    assert run(capsys, "plugin", "export", journey.plugin, "-o", tmp_path / "peft")[0] == 0
    assert run(capsys, "plugin", "import", tmp_path / "peft", "-o", tmp_path / "again.safetensors")[0] == 0
    assert (tmp_path / "again.safetensors").read_bytes() == journey.plugin.read_bytes()


def test_some_failed_is_3_and_all_failed_is_4(capsys, journey, tmp_path):
    scans = [journey.scans[0], tmp_path / "absent.nii.gz"]
    assert run(capsys, "predict", "-p", journey.plugin, "-i", *scans, "-o", tmp_path / "a", "--quiet")[0] == 3
    assert run(capsys, "predict", "-p", journey.plugin, "-i", scans[1], "-o", tmp_path / "b", "--quiet")[0] == 4


def test_two_scans_of_one_name_need_a_manifest(capsys, journey, tmp_path):
    other = tmp_path / "case00.nii.gz"
    other.write_bytes(journey.scans[0].read_bytes())
    code, _, err = run(capsys, "predict", "-p", journey.plugin, "-i", journey.scans[0], other, "-o", tmp_path / "out")
    assert code == 2
    assert "inputs 1 and 2" in err and "case00" not in err


def test_an_internal_error_is_one_line_and_exit_code_1(capsys, monkeypatch, journey):
    def broken(*_args, **_kwargs):
        raise ZeroDivisionError("oh\nno")

    monkeypatch.setattr("anymc3d.plugins.load_plugin", broken)
    code, _, err = run(capsys, "plugin", "show", journey.plugin)
    assert code == 1
    line = "internal error: ZeroDivisionError: oh no (run again with --debug for the traceback) [E-internal]"
    assert err.strip() == line


def test_doctor_checks_the_installation(capsys):
    code, out, _ = run(capsys, "doctor", "--json")
    assert code == 0
    assert {check["what"] for check in json.loads(out)} >= {"torch", "device", "torchvision", "home folder"}
