"""A YAML file with the ``roi`` section of a task file alone: which region ``plan`` and ``auto`` are to crop to."""

from __future__ import annotations

from pathlib import Path

from anymc3d.errors import SettingError, TaskFileError, UsageError
from anymc3d.settings.plain import from_plain
from anymc3d.settings.strict_yaml import load_yaml
from anymc3d.settings.task_file import read_settings_text, with_absolute_files
from anymc3d.settings.views import RoiSettings

ADVICE = "expected mask, point, or a file with the keys of a task file's 'roi' section, such as 'source: onnx'"


def read_roi(path: Path) -> RoiSettings:
    """Read a region; the keys may stand under ``roi:`` as in a task file. A model's path is relative to the file.

    Raises:
        TaskFileError: with every fault.
    """
    try:
        plain = load_yaml(read_settings_text(path, advice=ADVICE))
        if isinstance(plain, dict) and set(plain) == {"roi"}:
            plain = plain["roi"]
        if not isinstance(plain, dict):
            raise SettingError(f"expected keys and values, got {type(plain).__name__}; {ADVICE}")
    except UsageError as error:
        raise TaskFileError(str(path), [str(error)]) from error
    problems: list[str] = []
    roi = from_plain(RoiSettings, with_absolute_files(plain, path.absolute().parent), problems)
    if problems:
        raise TaskFileError(str(path), problems)
    return roi
