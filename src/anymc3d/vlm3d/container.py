"""A folder from which the image of a submission is built: program, ensemble, backbone, Dockerfile, scripts.

The network is needed to build the image (Python packages), never to run it.
"""

from __future__ import annotations

import json
import shutil
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import as_file, files
from pathlib import Path

from anymc3d.errors import PackageError, PluginError, UsageError
from anymc3d.files import atomic
from anymc3d.files.folders import claim, locked
from anymc3d.models.store import LoadedBackbone, find_backbone, find_by_fingerprint
from anymc3d.models.weight_files import file_sha256, weights_file
from anymc3d.plugins import load_plugin
from anymc3d.predict.predictor import Predictor
from anymc3d.version import __version__
from anymc3d.vlm3d.labels import check_labels

SCRIPTS = ("build.sh", "save.sh", "test.sh")
TEXTS = ("Dockerfile", "README.md", *SCRIPTS)
RECORD, MODEL, PROGRAM = "contents.json", "model", "anymc3d"
NEEDED = (
    "matplotlib",
    "pillow",
    "nibabel",
    "numpy",
    "pydicom",
    "python-gdcm",
    "pyyaml",
    "safetensors",
    "scikit-learn",
    "scipy",
    "SimpleITK",
    "torch",
    "tqdm",
)
"""The program's dependencies. Not asked of the installed package: an editable one remembers those of its first day."""


def write_container(out: Path, plugin: Path, *, backbone: str | None = None) -> list[str]:
    """Write the build context into ``out``, a new folder or one written from the same plugin; return warnings.

    Args:
        out: the folder.
        plugin: an ensemble (or one plugin) with the 18 labels.
        backbone: its weights: a folder, file or name; default: found by the plugin's fingerprint.

    Raises:
        UsageError, PluginError, BackboneError: other labels, other weights, or weights that are in no file.
        RunFolderError: ``out`` holds something else.
    """
    loaded = load_plugin(plugin)
    card = loaded.card
    check_labels(card.labels.output_names, f"plugin {card.name!r}")
    if card.backbone is None:
        raise UsageError(f"plugin {card.name!r} is a network without a backbone; a container takes AnyMC3D plugins")
    source = _weights_of(backbone, card.backbone.fingerprint, card.backbone.name, card.backbone.positions)
    identity = {
        "kind": "vlm3d container",
        "anymc3d": __version__,
        "plugin": loaded.hash,
        "plugin_sha256": file_sha256(plugin),
        "backbone": card.backbone.fingerprint,
        "backbone_sha256": file_sha256(source),
    }
    with locked(out):
        claim(out / RECORD, identity, "'anymc3d vlm3d container'")
        _copy(plugin, out / MODEL / "plugin.safetensors")
        _copy(source, out / MODEL / "backbone" / "model.safetensors")
        _copy_program(out / PROGRAM)
        atomic.write_text(out / "requirements.txt", "\n".join(requirements()) + "\n")
        for name in TEXTS:
            atomic.write_text(out / name, _text(name))
            (out / name).chmod(0o755 if name in SCRIPTS else 0o644)
        # What starts in the container is started once here, on the copies.
        Predictor(
            [load_plugin(out / MODEL / "plugin.safetensors")], backbone=str(out / MODEL / "backbone"), device="cpu"
        )
        _open_to_all(out)
    if not card.holds_calibration:
        return [f"plugin {card.name!r} is not calibrated: the challenge decides at 0.5, which then means nothing"]
    return []


def requirements() -> list[str]:
    """What the program needs, in the versions it runs with here; a build for one processor is left out of a version.

    Raises:
        UsageError: a package is not installed here, so that nobody knows which version works.
    """
    lines = []
    for name in NEEDED:
        try:
            lines.append(f"{name}=={version(name).partition('+')[0]}")
        except PackageNotFoundError:
            raise PackageError(f"expected the package {name} to be installed, it is not: pip install {name}") from None
    return lines


def _weights_of(backbone: str | None, fingerprint: str, name: str, positions: str) -> Path:
    """The file with the plugin's backbone.

    Raises:
        PluginError: the given weights are others.
        UsageError: the backbone is in no file, or in one that is not safetensors.
    """
    if backbone is None:
        loaded: LoadedBackbone = find_by_fingerprint(fingerprint, name, position_rule=positions)  # type: ignore[arg-type]
    else:
        loaded = find_backbone(backbone, position_rule=positions)  # type: ignore[arg-type]
    if loaded.fingerprint != fingerprint:
        raise PluginError(
            f"expected the backbone that the plugin was trained on, {name} ({fingerprint}), "
            f"but --backbone {backbone} is {loaded.fingerprint}"
        )
    path = Path(loaded.source)
    if not path.exists():
        raise UsageError(f"backbone {name} is in no file that could be copied; give --backbone FOLDER with its weights")
    file = weights_file(path)
    if file.suffix != ".safetensors":
        raise UsageError(f"{file}: expected a .safetensors file; 'anymc3d backbone import {file}' makes one")
    return file


def _copy(source: Path, target: Path) -> None:
    with atomic.replacing(target) as temporary:
        shutil.copyfile(source, temporary)


def _copy_program(target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    with as_file(files("anymc3d")) as package:
        shutil.copytree(package, target, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))


def _text(name: str) -> str:
    return (files("anymc3d.vlm3d") / "container" / name).read_text(encoding="utf-8")


def _open_to_all(folder: Path) -> None:
    """The user of the image is another one: nothing here is private, and all of it must be readable."""
    folder.chmod(0o755)
    for path in folder.rglob("*"):
        if path.is_dir():
            path.chmod(0o755)
        elif path.suffix != ".sh" and path.name != ".lock":
            path.chmod(0o644)


def contents(out: Path) -> dict[str, str]:
    """The hashes of a written folder."""
    return dict(json.loads((out / RECORD).read_text(encoding="utf-8")))
