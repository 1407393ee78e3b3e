"""Shared by all tests: a home folder of their own, and one small journey from scans to a plugin."""

from __future__ import annotations

import gc
import os
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import settings

from tiny_scans import TASK, write_scans

# A busy machine is no fault of an example, and a run is not red by the luck of its draws: the same examples every time.
# Others are drawn with --hypothesis-profile explore.
settings.register_profile("anymc3d", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None)
settings.load_profile("anymc3d")


SLOW = (
    "serve/test_kills.py",
    "engines/test_clusters.py",
    "test_package.py",
    "serve/test_page.py",
    "serve/test_orthanc.py",
    "demo/test_journey.py",
    "test_site.py",
    "serve/test_hospital.py",
    "serve/test_openapi.py",
    "serve/test_sessions.py",
    "parts/test_simulated_cohort.py",
    "train/test_processes.py",
    "train/test_resume.py",
    "test_notebooks.py",
    "test_how_to.py",
    "test_fuzz_files.py",
)
"""Files whose tests wait for programs, or are few and long."""


def pytest_collection_modifyitems(items):
    """What takes long begins first, so that at the end no processor waits for one file."""
    places = {Path(__file__).parent / name: place for place, name in enumerate(SLOW)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


def pytest_collection_finish():
    """What was imported and collected stays to the end: a full collection of rubbish need not look at it each time."""
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def home(tmp_path_factory):
    """No test reads or writes the user's own home folder, or downloads anything."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANYMC3D_HOME", str(folder))
        patch.setenv("HF_HUB_OFFLINE", "1")
        # Dozens of tests start Python: what the first of them compiled, the others need not compile again.
        patch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
        yield folder


@pytest.fixture(autouse=True)
def same_umask():
    """Programs that run in a test's own process set the umask for good, as the processes they are."""
    before = os.umask(0o022)
    os.umask(before)
    yield
    os.umask(before)


@pytest.fixture(autouse=True, scope="session")
def untimed():
    """``plan`` measures how long training takes here, with a whole backbone; its own tests alone do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("anymc3d.plan.training_time.training_time", lambda *arguments, **options: None)
        yield


@pytest.fixture(autouse=True, scope="session")
def alone():
    """A test starts reading processes only where it asks for them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("anymc3d.data.prefetch.queue.FEW_CASES", 10**9)
        yield


@pytest.fixture(autouse=True, scope="session")
def undrawn():
    """Curves are drawn where a test looks at them (``drawn``): that takes longer than all else of a tiny run."""
    from PIL import Image

    from anymc3d.evaluate import command
    from anymc3d.files import atomic
    from anymc3d.train import log
    from anymc3d.train.quick import results

    empty = BytesIO()
    Image.new("L", (8, 8), 255).save(empty, "png")

    def empty_picture(where, *_, **__):
        atomic.write_bytes(getattr(where, "curves", where), empty.getvalue())

    with pytest.MonkeyPatch.context() as patch:
        places = (log, "draw_curves"), (command, "draw_curves"), (results, "draw_curve")
        real = [(module, name, getattr(module, name)) for module, name in places]
        for module, name in places:
            patch.setattr(module, name, empty_picture)
        yield real


@pytest.fixture
def drawn(undrawn, monkeypatch):
    """The curves of training, of ``--quick`` and of an evaluation are drawn for this test."""
    for module, name, draw in undrawn:
        monkeypatch.setattr(module, name, draw)


@pytest.fixture(scope="session")
def shared():
    """The folder of real data and weights beside the repository; tests that need it skip without it."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not (folder / "data").is_dir():
        pytest.skip("needs the real scans and weights in ../shared, which are not part of the repository")
    return folder


@dataclass(frozen=True)
class Journey:
    """A finished run: its data folder, task file and run folder."""

    data: Path
    task: Path
    run: Path

    @property
    def plugin(self) -> Path:
        return self.run / "plugin.safetensors"

    @property
    def scans(self) -> list[Path]:
        return sorted((self.data / "scans").glob("*.nii.gz"))


@pytest.fixture(scope="session")
def journey(tmp_path_factory, home):
    """Twenty tiny scans, trained for two epochs on a tiny random backbone."""
    from anymc3d.settings.task_file import read_task
    from anymc3d.train.fit import fit

    data = tmp_path_factory.mktemp("journey")
    write_scans(data)
    task = data / "task.yaml"
    task.write_text(TASK)
    run = data / "run"
    fit(read_task(task), run, device="cpu", quiet=True)
    return Journey(data, task, run)
