"""The wheel that a user installs: built, installed into a fresh environment, and used from outside the clone."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SMALL_DEMO = """
from pathlib import Path
from anymc3d.demo.journey import run_demo
few = {"num_train": 6, "num_val": 4, "num_test": 4, "epochs": 1}
made = run_demo(Path("demo"), backbone="tiny-random", device="cpu", quiet=True, **few)
assert all(path.is_file() for path in made.files.values())
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder with the source archive and the wheel, both built from a copy of the sources, without a network."""
    source, out = tmp_path_factory.mktemp("source") / "anymc3d", tmp_path_factory.mktemp("dist")
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        source.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    shutil.copytree(ROOT / "src", source / "src", ignore=ignored)
    code = f"import setuptools.build_meta as m; m.build_sdist({str(out)!r}); m.build_wheel({str(out)!r})"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """The wheel in a fresh environment; its dependencies are those of this one, and the clone is not among them."""
    home = tmp_path_factory.mktemp("fresh")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
    python = home / "bin/python"
    (wheel,) = built.glob("*.whl")
    into = [sys.executable, "-m", "pip", "--python", str(python)]  # this environment's pip: a second one takes seconds
    subprocess.run(
        [*into, "install", "--quiet", "--no-deps", "--no-index", str(wheel)], check=True, capture_output=True
    )
    site = subprocess.run(
        [str(python), "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"], capture_output=True, text=True
    )
    # A folder that is named in a .pth file does not have its own .pth files read: the editable clone stays out.
    (Path(site.stdout.strip()) / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return home


def run(home, *words, cwd):
    outside = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    return subprocess.run(
        [str(home / "bin" / words[0]), *words[1:]], cwd=cwd, env=outside, capture_output=True, text=True
    )


def test_archives_hold_the_package_its_data_and_its_licence(built):
    (wheel,), (archive,) = built.glob("*.whl"), built.glob("*.tar.gz")
    names = zipfile.ZipFile(wheel).namelist()
    kinds = (".py", ".html", ".css", ".js")
    inside = (path for path in (ROOT / "src/anymc3d").rglob("*") if path.suffix in kinds)
    sources = {path.relative_to(ROOT / "src").as_posix() for path in inside}
    assert sources <= set(names)
    assert {"anymc3d/py.typed", "anymc3d/vlm3d/recipe.yaml"} <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    with tarfile.open(archive) as file:
        assert any(name.endswith("pyproject.toml") for name in file.getnames())


def test_metadata_says_who_what_and_where_it_runs(built):
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        (name,) = [name for name in file.namelist() if name.endswith(".dist-info/METADATA")]
        found = Parser().parsestr(file.read(name).decode())
    assert found["Author"] and found["License-Expression"] == "Apache-2.0" and found["Requires-Python"] == ">=3.11"
    assert any("arxiv.org" in url for url in found.get_all("Project-URL"))
    versions = {line.rpartition(" ")[2] for line in found.get_all("Classifier") if "Python :: 3." in line}
    assert versions == {"3.11", "3.12", "3.13", "3.14"}
    assert {"all", "dicom", "roi"} <= set(found.get_all("Provides-Extra"))
    assert found.get_payload().startswith("# anymc3d")


def test_the_installed_program_runs_outside_the_clone(installed, tmp_path):
    version = run(installed, "anymc3d", "--version", cwd=tmp_path)
    assert version.returncode == 0 and version.stdout.startswith("anymc3d ")
    where = run(installed, "python", "-c", "import anymc3d; print(anymc3d.__file__)", cwd=tmp_path)
    assert where.stdout.startswith(str(installed))
    assert run(installed, "anymc3d", "doctor", "--json", cwd=tmp_path).returncode == 0
    made = run(installed, "python", "-c", SMALL_DEMO, cwd=tmp_path)
    assert made.returncode == 0, made.stderr[-2000:]
    assert (tmp_path / "demo/report.html").is_file()
