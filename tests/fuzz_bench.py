"""What is changed at random: plugins of several kinds and task files with all keys, made from one small journey."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from anymc3d.evaluate.calibration import Calibration
from anymc3d.evaluate.operating_points import OperatingPoint
from anymc3d.evaluate.task_calibration import TaskCalibration
from anymc3d.models.build import build_classifier
from anymc3d.models.store import find_backbone
from anymc3d.plugins import Plugin, load_plugin, save_plugin
from anymc3d.plugins.ensemble import make_ensemble
from anymc3d.settings.config import LabelSettings, TaskSettings
from anymc3d.settings.plain import to_plain
from anymc3d.settings.task_file import read_task
from anymc3d.settings.views import RoiSettings, ViewSettings
from strangers import canary


@dataclass(frozen=True)
class Bench:
    """A folder with everything that is used; commands may write below its ``out`` alone."""

    folder: Path
    plugins: tuple[Path, ...]
    tasks: tuple[Mapping[str, Any], ...]
    scan: Path
    started: Path
    """Is there once the program beside it was started."""
    answers: dict[Path, dict[str, str]] = field(default_factory=dict)
    """Of the plugins as they were, by column."""

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def watched(self) -> list[tuple[str, int, int]]:
        """Everything that no command may touch."""
        found = [path for path in self.folder.rglob("*") if path.relative_to(self.folder).parts[0] != "out"]
        return sorted((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in found)


def make_bench(folder: Path, plugin: Path, task: Path) -> Bench:
    """From a trained plugin and its task file, which lies beside its scans: plugins calibrated in each way, one with
    two views and several classes, an ensemble; task files with all keys written out."""
    shutil.copytree(task.parent / "scans", folder / "scans")
    shutil.copy(task.parent / "manifest.csv", folder)
    first = load_plugin(plugin)
    knots = ((-3.0, -2.0), (0.0, -0.5), (0.5, -0.5), (2.0, 1.5))
    made = [
        first,
        _calibrated(first, Calibration(kind="platt", slope=0.7, threshold=-0.1, n=40, n_positive=20)),
        _calibrated(first, Calibration(kind="isotonic", knots=knots, n=40, n_positive=20)),
        _of_two_views(first),
        replace(first, tensors={name: tensor + 0.01 for name, tensor in first.tensors.items()}),
    ]
    paths = [folder / f"plugin{number}.safetensors" for number in range(len(made))]
    for path, one in zip(paths, made, strict=True):
        save_plugin(path, one.card, one.tensors)
    ensemble = folder / "ensemble.safetensors"
    save_plugin(ensemble, *make_ensemble([load_plugin(paths[0]), load_plugin(paths.pop())]))
    _, started = canary(folder / "bin", "segment.sh")
    return Bench(folder, (*paths, ensemble), _tasks(task), sorted((folder / "scans").iterdir())[0], started)


def _calibrated(plugin: Plugin, one: Calibration) -> Plugin:
    point = OperatingPoint(
        name="f1", criterion="f1", threshold=one.threshold, value=0.5, source_split="val", n=40, n_positive=20
    )
    maps = TaskCalibration(method=one.kind, criterion="f1", split="val", cases=40, maps={"block": one})
    return replace(plugin, card=replace(plugin.card, operating_points=(point.to_dict(),), calibration=maps))


def _of_two_views(plugin: Plugin) -> Plugin:
    windows = ((0.0, 100.0), (50.0, 150.0), (100.0, 250.0))
    near = RoiSettings(source="point", size_mm=(20.0, 20.0, 20.0))
    whole = ViewSettings(size=(28, 42, 3), normalise="window", windows=windows, field_of_view=(20.0, 30.0, 12.0))
    scaled = Calibration(kind="temperature", slope=0.8, n=40)
    card = replace(
        plugin.card,
        labels=LabelSettings(columns=("kind",), kind="multiclass", classes=("a", "b", "c")),
        preprocessing={
            "near": ViewSettings(size=(28, 28, 4), roi=near, input="neighbours", plane="sagittal"),
            "whole": whole,
        },
        operating_points=(),
        metrics=(),
        calibration=TaskCalibration(method="temperature", criterion="", split="val", cases=40, maps={"kind": scaled}),
    )
    backbone = find_backbone("tiny-random").module
    classifier = build_classifier(
        card.method, views=card.preprocessing, labels=card.labels, fusion="query", backbone=backbone
    )
    return replace(plugin, card=card, tensors=classifier.tensors())


def _tasks(task: Path) -> tuple[Mapping[str, Any], ...]:
    settings = read_task(task)
    full = to_plain(settings)
    full["data"]["manifest"] = "manifest.csv"
    rich = to_plain(replace(settings, views=_views(settings), calibration="f1")) | {"data": full["data"]}
    return full, rich, yaml.safe_load(task.read_text(encoding="utf-8"))


def _views(task: TaskSettings) -> dict[str, ViewSettings]:
    image = task.views["image"]
    window = replace(image, normalise="window", windows=((0.0, 200.0),), field_of_view=(20.0, 20.0, 20.0))
    return {"a": window, "b": replace(image, plane="coronal", input="neighbours")}
