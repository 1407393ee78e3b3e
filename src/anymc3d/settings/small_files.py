"""Small YAML files beside the task file, such as rules and codes: strict, and every fault in one message."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from anymc3d.errors import UsageError
from anymc3d.settings.plain import from_plain
from anymc3d.settings.strict_yaml import MAX_YAML_BYTES, load_yaml

_MOST_NAMED = 10


def read_settings(cls: type, path: Path, option: str) -> Any:
    """A YAML file as settings of a class; ``option`` named it.

    Raises:
        UsageError: with every fault: unknown keys and the nearest known one, wrong types, values out of range.
    """
    try:
        if path.stat().st_size > MAX_YAML_BYTES:
            raise UsageError(f"{path.stat().st_size} bytes, the limit is {MAX_YAML_BYTES}")
        plain = load_yaml(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise UsageError(f"{option} {path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{option} {path}: not UTF-8 text (byte {error.start})") from None
    except UsageError as error:
        raise UsageError(f"{option} {path}: {error}") from None
    problems: list[str] = []
    try:
        settings = from_plain(cls, plain, problems)
    except UsageError as error:
        problems.append(str(error))
    if problems:
        raise UsageError(f"{option} {path}: {'; '.join(problems[:_MOST_NAMED])}")
    return settings
