"""``anymc3d data``: exit codes, one clear line for what cannot be, everything found on the screen or in JSON."""

from __future__ import annotations

import hashlib
import json
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from anymc3d.cli.main import main
from anymc3d.data.manifest import read_manifest
from anymc3d.files import home

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "adapters"))
from public_layouts import make_class_folders, write_nifti


def run(capsys, *words):
    code = main([str(word) for word in words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture
def classes(tmp_path):
    return make_class_folders(tmp_path / "classes")


def test_list_names_every_layout_and_every_set_with_its_licence(capsys):
    from anymc3d.adapters import ADAPTERS
    from anymc3d.adapters.public_sets import PUBLIC_SETS

    code, out, _ = run(capsys, "data", "list")
    assert code == 0 and all(name in out for name in (*ADAPTERS, *PUBLIC_SETS))
    code, out, _ = run(capsys, "data", "list", "--json")
    found = json.loads(out)
    assert {entry["name"] for entry in found["layouts"]} == set(ADAPTERS)
    for entry in found["sets"]:
        assert entry["licence"] and entry["citation"] and entry["size"] and entry["layout"] in ADAPTERS
        assert (entry["file"] is None) == bool(entry["get"])


def test_adapt_writes_a_manifest_that_plan_can_read(capsys, classes, tmp_path):
    code, out, err = run(capsys, "data", "adapt", "folders", classes, "-o", tmp_path / "m.csv", "--patient", r"^(p\d+)")
    assert (code, err) == (0, "")
    assert "9 cases of 5 patients" in out and "label label: 4 of 'healthy', 5 of 'lesion'" in out
    assert "anymc3d plan" in out
    assert len(read_manifest(tmp_path / "m.csv", labels=["label"]).cases) == 9


def test_adapt_with_a_fault_lists_it_writes_nothing_and_ends_with_2(capsys, classes, tmp_path):
    write_nifti(classes / "healthy" / "p1_s1.nii.gz", None)
    (classes / "lesion" / "p7_s1.nii.gz").write_bytes((classes / "healthy" / "p1_s1.nii.gz").read_bytes())
    code, out, err = run(capsys, "data", "adapt", "folders", classes, "-o", tmp_path / "m.csv", "--quiet")
    assert code == 2 and "error  one scan lies in two classes" in out and "p7_s1" in out
    assert "1 problem; no manifest was written" in err and not (tmp_path / "m.csv").exists()
    code, out, _ = run(capsys, "data", "adapt", "folders", classes, "-o", tmp_path / "m.csv", "--json")
    found = json.loads(out)
    assert code == 2 and found["manifest"] is None and any(one["level"] == "error" for one in found["findings"])


def test_long_lists_of_warnings_are_cut_on_the_screen_and_whole_in_json(capsys, classes, tmp_path):
    for number in range(30):
        (classes / "lesion" / f"note{number:02d}.txt").write_text("x")
    code, out, _ = run(capsys, "data", "adapt", "folders", classes, "-o", tmp_path / "m.csv")
    assert code == 0 and "note19.txt" in out and "note20.txt" not in out and "and 10 more" in out
    _, out, _ = run(capsys, "data", "adapt", "folders", classes, "-o", tmp_path / "m.csv", "--json", "--overwrite")
    assert "note29.txt" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["adapt", "bidz", "{d}", "-o", "{t}/m.csv"], "unknown layout 'bidz', did you mean 'bids'?"),
        (["adapt", "folders", "{t}/absent", "-o", "{t}/m.csv"], "there is no such folder; folders expects"),
        (["adapt", "folders", "{d}", "-o", "{t}/m.csv", "--release", "v2"], "takes no option release"),
        (["adapt", "folders", "{d}", "-o", "{t}/m.csv", "--patient", "("], "--patient '('"),
        (["adapt", "ct-rate", "{d}", "-o", "{t}/m.csv", "--check", "0"], "--check: expected 1 or more"),
        (["adapt", "folders", "{d}", "-o", "{d}"], "exists; --overwrite"),
        (["get", "adrenalmnist", "-o", "{t}"], "did you mean 'adrenalmnist3d"),
        (["get", "ratic", "-o", "{t}"], "needs a Kaggle account"),
        (["get", "ct-rate", "-o", "{t}"], "anymc3d data adapt ct-rate"),
        (["get", "panorama", "-o", "{t}"], "13715870"),
        (["split", "{t}/absent.csv", "-o", "{t}/n.csv"], "no such file"),
        (["cache", "--limit", "lots"], "expected a size such as 20GB"),
        (["cache", "--limit", "1GB", "--clear"], "not allowed with"),
    ],
)
def test_D10_wrong_use_is_one_line_and_exit_code_2(capsys, classes, tmp_path, words, message):
    code, _, err = run(capsys, "data", *[word.format(d=classes, t=tmp_path) for word in words])
    assert code == 2 and message in err and err.startswith("error: ")


@pytest.fixture
def table(capsys, classes, tmp_path):
    run(capsys, "data", "adapt", "folders", classes, "-o", tmp_path / "m.csv", "--patient", r"^(p\d+)")
    return tmp_path / "m.csv"


def test_split_writes_splits_and_shows_them(capsys, table, tmp_path):
    new = tmp_path / "s.csv"
    code, out, err = run(capsys, "data", "split", table, "-o", new, "--fractions", "0.6,0.2,0.2", "--labels", "label")
    assert code == 0 and "split train" in out and "healthy: " in out
    assert "2 patients with label = healthy cannot be in train, val and test: test gets none" in err
    assert read_manifest(new).has_splits
    code, _, err = run(capsys, "data", "split", new, "-o", tmp_path / "t.csv")
    assert code == 2 and "has a split column" in err
    code, _, err = run(capsys, "data", "split", table, "-o", tmp_path / "t.csv", "--fractions", "a,b")
    assert code == 2 and "three numbers" in err


def test_split_without_labels_says_that_nothing_is_stratified(capsys, table, tmp_path):
    code, out, err = run(capsys, "data", "split", table, "-o", tmp_path / "f.csv", "--folds", "2")
    assert code == 0 and "not stratified" in err and "--folds 2" in out
    assert {case.fold for case in read_manifest(tmp_path / "f.csv").cases} == {"0", "1"}


def test_cache_shows_bounds_and_clears(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("ANYMC3D_HOME", str(tmp_path / "home"))
    folder = home.cache_folder()
    code, out, _ = run(capsys, "data", "cache")
    assert code == 0 and "0 entries, 0 bytes" in out and not folder.exists()
    folder.mkdir(parents=True)
    for number in range(3):
        (folder / f"{number}.safetensors").write_bytes(bytes(1000))
    code, out, _ = run(capsys, "data", "cache", "--limit", "2kB")
    assert code == 0 and "removed 1 entries, 1.0 kB" in out and "2 entries, 2.0 kB" in out
    code, out, _ = run(capsys, "data", "cache", "--clear", "--json")
    assert json.loads(out)["num_removed"] == 2 and json.loads(out)["num_entries"] == 0


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path):
    """A local stand-in for the publisher."""
    (tmp_path / "www").mkdir()
    http = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "www")))
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    yield tmp_path / "www", f"http://127.0.0.1:{http.server_address[1]}"
    http.shutdown()
    http.server_close()
    thread.join()


def entry(address, content, name="tiny"):
    from anymc3d.adapters.public_sets import PUBLIC_SETS, PublicFile

    file = PublicFile(address, hashlib.md5(content, usedforsecurity=False).hexdigest(), 1 << 20)
    import dataclasses

    return dataclasses.replace(PUBLIC_SETS["adrenalmnist3d"], name=name, file=file)


def test_F7_what_is_fetched_is_the_published_file_or_nothing(server, tmp_path):
    from anymc3d.adapters.fetch import fetch_file
    from anymc3d.errors import UsageError

    www, address = server
    (www / "tiny.npz").write_bytes(b"content")
    known = entry(f"{address}/tiny.npz", b"content")
    path = fetch_file(known, known.file, tmp_path / "here")
    assert path.read_bytes() == b"content" and path.name == "tiny.npz"
    (www / "tiny.npz").unlink()
    assert fetch_file(known, known.file, tmp_path / "here") == path  # nothing is fetched twice
    (www / "tiny.npz").write_bytes(b"another")
    with pytest.raises(UsageError, match=r"expected md5 .* nothing was kept"):
        fetch_file(known, known.file, tmp_path / "there")
    assert list((tmp_path / "there").iterdir()) == []
    path.write_bytes(b"damaged")
    with pytest.raises(UsageError, match="is not the published file"):
        fetch_file(known, known.file, tmp_path / "here")


def test_F7_a_machine_without_a_network_is_told_in_one_line(tmp_path):
    from anymc3d.adapters.fetch import fetch_file
    from anymc3d.errors import UsageError

    known = entry("http://127.0.0.1:9/tiny.npz", b"x")
    with pytest.raises(UsageError, match=r"cannot be fetched: .*; fetch it elsewhere and put it at") as caught:
        fetch_file(known, known.file, tmp_path)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_parts_of_a_preparation_share_the_cache_and_training_reads_no_scan(journey, tmp_path, monkeypatch, capsys):
    from anymc3d.data.cache_size import cache_state

    monkeypatch.setenv("ANYMC3D_HOME", str(tmp_path / "home"))
    counts = [0]
    for part in ("1/2", "2/2"):
        code, out, _ = run(capsys, "data", "prepare", journey.task, "--part", part)
        assert code == 0 and f"cases are prepared, part {part}" in out
        counts.append(cache_state(home.cache_folder()).num_entries)
    assert counts[0] < counts[1] < counts[2] == 2 * 20, "the slices and the facts of each scan"
    monkeypatch.setattr("anymc3d.data.scan.read_volume", lambda *_, **__: pytest.fail("it is in the cache"))
    code, out, _ = run(capsys, "data", "prepare", journey.task, "--json")
    assert code == 0 and json.loads(out) == {"cases": 20, "failed": 0, "problems": []}


def test_a_preparation_names_what_cannot_be_used(journey, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        "anymc3d.data.scan.content_hash", lambda reference, **_: (_ for _ in ()).throw(OSError(5, "I/O"))
    )
    code, _, err = run(capsys, "data", "prepare", journey.task)
    assert code == 4 and err.count("\n") == 20 and "case 'case07': " in err
