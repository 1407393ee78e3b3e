"""The task file: YAML of one screen, strict, with the reasons as comments.

Paths in it (``data.manifest``, a backbone folder or file, ``method.weights``) are relative to the file; in an override
they are relative to the current folder. In :class:`TaskSettings` they are absolute.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from anymc3d.errors import SettingError, TaskFileError, UsageError
from anymc3d.files import atomic
from anymc3d.settings.config import TaskSettings
from anymc3d.settings.plain import from_plain
from anymc3d.settings.strict_yaml import MAX_YAML_BYTES, load_yaml
from anymc3d.settings.task_text import SHORTHANDS, task_text
from anymc3d.settings.training import MethodSettings
from anymc3d.settings.views import ViewSettings
from anymc3d.settings.windows import window_names, with_numbers

ROI_FILES = ("model", "program")
"""Keys of a region that name files."""
WEIGHT_SUFFIXES = (".safetensors", ".onnx", ".bin")


def read_task(path: Path | str, overrides: Sequence[str] = ()) -> TaskSettings:
    """Read a task file and apply ``key=value`` overrides such as ``train.epochs=3`` or ``views.image.size=[98,98,12]``.

    Raises:
        TaskFileError: with every fault: unknown keys and the nearest known one, wrong types, values out of range.
    """
    path = Path(path)
    try:
        plain = load_yaml(read_settings_text(path))
    except UsageError as error:
        raise TaskFileError(str(path), [str(error)]) from error
    problems: list[str] = []
    if isinstance(plain, dict):
        plain = _with_absolute_paths(_expanded(plain), path.absolute().parent)
        _apply_overrides(plain, overrides, problems)
    return _build(plain, str(path), problems)


def write_task(
    path: Path, settings: TaskSettings, reasons: Mapping[str, str] | None = None, *, complete: bool = False
) -> None:
    """Write a task file atomically; :func:`read_task` gives ``settings`` back (with absolute paths).

    Args:
        path: the YAML file; paths in it are written relative to its folder.
        settings: what to write.
        reasons: comments by dotted key, for instance ``{"views.image.size": "median of 260 scans"}``.
        complete: write every key, defaults too (the record of a run), instead of one screen.
    """
    atomic.write_text(path, format_task(settings, reasons, base=path.absolute().parent, complete=complete))


def format_task(
    settings: TaskSettings, reasons: Mapping[str, str] | None = None, *, base: Path, complete: bool = False
) -> str:
    """The text that :func:`write_task` writes for a file in the folder ``base``."""
    manifest = os.path.relpath(settings.data.manifest, base)
    settings = replace(settings, data=replace(settings.data, manifest=manifest))
    if is_path(settings.backbone.name):
        name = os.path.relpath(settings.backbone.name, base)
        # A folder beside the file needs its ./ to be seen as a path when it is read back.
        name = name if is_path(name) else f"./{name}"
        settings = replace(settings, backbone=replace(settings.backbone, name=name))
    settings = replace(settings, method=_with_relative_weights(settings.method, base))
    views = {name: _with_relative_roi(view, base) for name, view in settings.views.items()}
    settings = replace(settings, views=views)
    return task_text(settings, _window_comments(settings) | dict(reasons or {}), complete=complete)


def _with_relative_weights(method: MethodSettings, base: Path) -> MethodSettings:
    if method.weights is None or not is_path(method.weights):
        return method
    return replace(method, weights=f"./{os.path.relpath(method.weights, base)}")


def _with_relative_roi(view: ViewSettings, base: Path) -> ViewSettings:
    if view.roi is None:
        return view
    named = {key: getattr(view.roi, key) for key in ROI_FILES if _is_roi_path(key, getattr(view.roi, key))}
    # The leading ./ keeps a program beside the file a path.
    return replace(view, roi=replace(view.roi, **{k: f"./{os.path.relpath(path, base)}" for k, path in named.items()}))


def _window_comments(settings: TaskSettings) -> dict[str, str]:
    """The names of windows that have one: the file holds their numbers."""
    modality = settings.data.modality
    names = {f"views.{name}.windows": window_names(view.windows, modality) for name, view in settings.views.items()}
    return {key: text for key, text in names.items() if text}


def is_path(backbone: str) -> bool:
    """Whether a backbone is named by a folder or file: it has a slash, starts with a dot, or ends like weights."""
    return "/" in backbone or backbone.startswith((".", "~")) or backbone.endswith(WEIGHT_SUFFIXES)


def programs_named(overrides: Sequence[str]) -> list[str]:
    """The programs that overrides of the command line name, such as ``views.image.roi.program=TotalSegmentator``: the
    person at the keyboard named them, which no file can do."""
    pairs = [override.partition("=") for override in overrides]
    named = [load_yaml(text) for dotted, _, text in pairs if dotted.strip().endswith(".roi.program")]
    return [name for name in named if isinstance(name, str)]


def read_settings_text(
    path: Path, *, advice: str = "`anymc3d plan MANIFEST.csv --labels COLUMN -o task.yaml` writes one"
) -> str:
    """The text of a YAML file of settings.

    Raises:
        SettingError: it is not there (``advice``: how to come by one), too large, or no UTF-8.
    """
    if not path.is_file():
        raise SettingError(f"no such file; {advice}")
    if path.stat().st_size > MAX_YAML_BYTES:
        raise SettingError(f"{path.stat().st_size} bytes, the limit for a task file is {MAX_YAML_BYTES}")
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SettingError(f"not UTF-8 text (byte {error.start})") from error


def _build(plain: Any, source: str, problems: list[str]) -> TaskSettings:
    if isinstance(plain, dict):
        plain = with_numbers(_expanded(plain), problems)
    settings = from_plain(TaskSettings, plain, problems)
    if problems:
        raise TaskFileError(source, problems)
    return settings


def _expanded(plain: dict) -> dict:
    named = {key: {name: plain[key]} for key, name in SHORTHANDS.items() if isinstance(plain.get(key), str)}
    return plain | named


def _with_absolute_paths(plain: dict, base: Path) -> dict:
    data, backbone = plain.get("data"), plain.get("backbone")
    if isinstance(data, dict) and isinstance(data.get("manifest"), str):
        plain = plain | {"data": data | {"manifest": _absolute(data["manifest"], base)}}
    if isinstance(backbone, dict) and isinstance(backbone.get("name"), str) and is_path(backbone["name"]):
        plain = plain | {"backbone": backbone | {"name": _absolute(backbone["name"], base)}}
    method = plain.get("method")
    if isinstance(method, dict) and isinstance(method.get("weights"), str) and is_path(method["weights"]):
        plain = plain | {"method": method | {"weights": _absolute(method["weights"], base)}}
    views = plain.get("views")
    if isinstance(views, dict):
        plain = plain | {"views": {name: _with_absolute_roi(view, base) for name, view in views.items()}}
    return plain


def _with_absolute_roi(view: Any, base: Path) -> Any:
    roi = view.get("roi") if isinstance(view, dict) else None
    return view | {"roi": with_absolute_files(roi, base)} if isinstance(roi, dict) else view


def with_absolute_files(roi: Mapping[str, Any], base: Path) -> dict[str, Any]:
    """A ``roi`` section whose files are relative to the folder ``base``, with absolute paths."""
    return {**roi, **{key: _absolute(roi[key], base) for key in ROI_FILES if _is_roi_path(key, roi.get(key))}}


def _is_roi_path(key: str, value: Any) -> bool:
    """A model is a file unless it is named by hash; a program without a slash is looked for on the search path."""
    if not isinstance(value, str):
        return False
    return not value.startswith("sha256:") if key == "model" else "/" in value or value.startswith("~")


def _absolute(text: str, base: Path) -> str:
    return os.path.normpath(os.path.join(base, os.path.expanduser(text)))


def _apply_overrides(plain: dict, overrides: Sequence[str], problems: list[str]) -> None:
    for override in overrides:
        dotted, equals, text = override.partition("=")
        keys = dotted.strip().split(".")
        if not equals or not all(keys):
            problems.append(f"override {override!r}: expected key=value, such as train.epochs=3")
            continue
        if len(keys) == 1 and keys[0] in SHORTHANDS and not text.strip().startswith("{"):
            keys.append(SHORTHANDS[keys[0]])
        try:
            value = load_yaml(text)
        except UsageError as error:
            problems.append(f"override {override!r}: {error}")
            continue
        is_file = keys == ["data", "manifest"] or (keys[2:-1] == ["roi"] and _is_roi_path(keys[-1], value))
        named = keys in (["backbone", "name"], ["method", "weights"])
        if isinstance(value, str) and (is_file or (named and is_path(value))):
            value = _absolute(value, Path.cwd())
        place = plain
        for key in keys[:-1]:
            if not isinstance(place.get(key), dict):
                place[key] = {}
            place = place[key]
        place[keys[-1]] = value
