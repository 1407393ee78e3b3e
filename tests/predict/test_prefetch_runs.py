"""A cohort read ahead by processes: the same bytes as without any, one row for a lost process, nothing left behind."""

import os
import signal
import struct
import sys
from contextlib import contextmanager
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from safetensors.numpy import load_file

from anymc3d.cli.main import main
from anymc3d.data.cache import Cache
from anymc3d.data.dataset import prepare_all
from anymc3d.data.manifest import read_manifest
from anymc3d.data.prefetch.process import Reader
from anymc3d.embed.folder import embed_cohort
from anymc3d.embed.source import EmbedSettings, of_plugin
from anymc3d.errors import ManifestError
from anymc3d.explain.folder import ExplainSettings, explain_cohort
from anymc3d.files.tables import read_table
from anymc3d.plugins import load_plugin
from anymc3d.predict.cohort import predict_cohort, read_journal
from anymc3d.predict.predictor import load
from anymc3d.settings.views import ViewSettings

KEPT = (".safetensors", ".json")
"""What the cache of slices holds."""


@pytest.fixture(scope="module")
def predictor(journey):
    return load(journey.plugin, device="cpu")


@pytest.fixture(scope="module")
def cases(journey, tmp_path_factory):
    """Five that are well, one cut off in the middle, and one that is not there."""
    good = read_manifest(journey.data / "manifest.csv").cases[:5]
    cut = tmp_path_factory.mktemp("cut") / "cut.nii.gz"
    content = journey.scans[2].read_bytes()
    cut.write_bytes(content[: len(content) // 2])
    bad = [
        replace(good[0], id="cut", images={"image": str(cut)}),
        replace(good[0], id="gone", images={"image": "/g.nii"}),
    ]
    return [good[0], bad[0], *good[1:4], bad[1], good[4]]


@pytest.fixture(scope="module")
def calm(predictor, cases, tmp_path_factory):
    """The table of a run that reads in its own process."""
    out = tmp_path_factory.mktemp("calm")
    assert predict_cohort(predictor, cases, out, quiet=True).exit_code == 3
    return content(out)


def content(out):
    return (out / "predictions.csv").read_bytes()


@contextmanager
def watched():
    """The readers of the block; none of their processes is there after it."""
    asked, seen = Reader._started, {}

    def started(self):
        found = asked(self)
        seen[found.pid] = self
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Reader, "_started", started)
        yield seen
    for pid in seen:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@pytest.fixture
def large(cases, tmp_path):
    """A scan of 256 MB as float32, most of it a hole in its file."""
    path = tmp_path / "large.nii"
    with path.open("wb") as file:
        file.write(nib.Nifti1Image(np.zeros((1, 1, 1), np.int16), np.eye(4)).to_bytes()[:352])
        file.seek(42)
        file.write(struct.pack("<3h", 512, 512, 256))
        file.truncate(352 + 2 * 512 * 512 * 256)
    return replace(cases[0], id="large", images={"image": str(path)})


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit of memory is one of Linux")
def test_the_table_has_the_same_bytes_with_any_number_of_processes(
    predictor, cases, calm, large, tmp_path, monkeypatch
):
    """Also with ``--case-memory``: a case above the limit costs itself alone, in a process that goes on."""
    monkeypatch.setattr(predictor, "case_memory", 200_000_000)
    with watched() as readers:
        result = predict_cohort(predictor, [*cases, large], tmp_path / "two", workers=2, quiet=True)
    lines = content(tmp_path / "two").splitlines(keepends=True)
    assert b"".join(lines[:-1]) == calm and result.exit_code == 3 and len(readers) == 2
    assert lines[-1].startswith(b'large,error,"more than 0.2 GB of memory needed (--case-memory)')
    keys = {name: entry["inputs"] for name, entry in read_journal(tmp_path / "two" / "journal.jsonl").items()}
    assert keys["cut"] is not None and keys["gone"] is None
    again = predict_cohort(predictor, cases, tmp_path / "two", quiet=True)
    assert again.computed == 2, (
        "what was read ahead is known again by who reads by himself, and the two are tried again"
    )


def test_C10_C11_a_killed_process_costs_its_case_and_a_killed_run_nothing(
    predictor, cases, calm, tmp_path, monkeypatch
):
    victim, ask, predict = cases[3].id, Reader.ask, type(predictor).predict_case

    def killed(self, name, arguments, **options):
        if arguments["case"].id == victim:
            os.kill(self._started().pid, signal.SIGKILL)
        return ask(self, name, arguments, **options)

    def stopped(self, case, **options):
        if case.id == "gone":
            raise KeyboardInterrupt
        return predict(self, case, **options)

    with watched() as readers, monkeypatch.context() as patch:
        patch.setattr(Reader, "ask", killed)
        patch.setattr(type(predictor), "predict_case", stopped)
        with pytest.raises(KeyboardInterrupt):
            predict_cohort(predictor, cases, tmp_path, workers=1, quiet=True)
    assert len(readers) == 2, "the one that was killed and the one in its place"
    done = read_journal(tmp_path / "journal.jsonl")
    assert list(done) == [case.id for case in cases[:5]]
    (row,) = done[victim]["rows"]
    assert row["status"] == "error" and "SIGKILL" in row["message"] and done[victim]["inputs"] is None
    result = predict_cohort(predictor, cases, tmp_path, quiet=True)
    assert content(tmp_path) == calm and result.reused == 3


def files(folder):
    """Every file below but those that say what it cost and when."""
    beside = (".lock", "journal.jsonl")
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name not in beside]
    return {str(path.relative_to(folder)): tensors(path) for path in paths}


def tensors(path):
    """The bytes of a file; of tensors those of each, for their header has its facts in any order."""
    if path.suffix != ".safetensors":
        return path.read_bytes()
    return {name: (value.dtype, value.shape, value.tobytes()) for name, value in load_file(path).items()}


def test_heatmaps_and_embeddings_have_the_same_bytes(predictor, cases, journey, tmp_path):
    few, heat = cases[:3], ExplainSettings(methods=("attention",))
    source = of_plugin(
        load_plugin(journey.plugin), backbone=None, device="cpu", precision="fp32", chunk_size=64, segmenters=()
    )
    for workers in (0, 1):
        with watched() as readers:
            explained = explain_cohort(predictor, few, tmp_path / f"e{workers}", heat, workers=workers, quiet=True)
            out = tmp_path / f"m{workers}"
            embedded = embed_cohort(source, few, out, EmbedSettings(), workers=workers, quiet=True)
        assert explained.exit_code == embedded.exit_code == 3 and len(readers) == 2 * workers
    assert files(tmp_path / "e0") == files(tmp_path / "e1") and files(tmp_path / "m0") == files(tmp_path / "m1")
    assert explain_cohort(predictor, few, tmp_path / "e1", heat, quiet=True).computed == 1
    assert embed_cohort(source, few, tmp_path / "m1", EmbedSettings(), quiet=True).computed == 1


def test_the_preparation_of_training_has_the_same_bytes(cases, tmp_path):
    views = {"image": ViewSettings(size=(28, 28, 4))}
    good = [case for case in cases if case.id not in ("cut", "gone")]
    told = []
    found = [
        prepare_all(good, views, Cache(tmp_path / str(workers)), workers=workers, progress=told.append)
        for workers in (0, 2)
    ]
    assert len(told) == 2 * len(good)
    for one, other in zip(*found, strict=True):
        assert one == other and not one.views
        assert {name: value.tobytes() for name, value in one.measures.items()} == {
            name: value.tobytes() for name, value in other.measures.items()
        }
    entries = [
        {path.name: tensors(path) for path in (tmp_path / name).rglob("*.*") if path.is_file() and path.suffix in KEPT}
        for name in "02"
    ]
    assert entries[0] == entries[1] and len(entries[0]) == 2 * len(good)
    problems = []
    for workers in (0, 1):
        with pytest.raises(ManifestError) as error:
            prepare_all(cases, views, Cache(tmp_path / "0"), workers=workers)
        problems.append(error.value.problems)
    assert problems[0] == problems[1] and len(problems[0]) == 2


def test_a_number_that_makes_no_sense_is_refused(journey, tmp_path, capsys):
    words = ["predict", "-p", str(journey.plugin), "-i", str(journey.scans[0]), "-o", str(tmp_path / "o")]
    assert main([*words, "--workers", "-1"]) == 2
    assert "--workers: expected 0 to 256, got -1" in capsys.readouterr().err
    with watched() as readers:
        assert main([*words, "--quiet"]) == 0
    assert not readers, "one scan starts no process"
    assert read_table(tmp_path / "o" / "predictions.csv")[0]["status"] == "ok"
