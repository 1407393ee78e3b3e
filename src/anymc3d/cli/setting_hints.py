"""``train --epochs 3``: the natural wrong call, answered with the setting that was meant."""

from __future__ import annotations

import dataclasses
import typing

from anymc3d.settings.config import TaskSettings


def setting_keys(kind: type = TaskSettings, before: str = "") -> list[str]:
    """Every dotted key of a task file that holds a value, such as ``train.epochs``."""
    keys = []
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        inside = hints[field.name]
        if dataclasses.is_dataclass(inside):
            keys += setting_keys(typing.cast(type, inside), f"{before}{field.name}.")
        else:
            keys.append(f"{before}{field.name}")
    return keys


def setting_hint(word: str) -> str | None:
    """What to write in place of an option that is the name of a setting; None where it is none."""
    name = word.lstrip("-").replace("-", "_")
    keys = [key for key in setting_keys() if name in (key, key.rpartition(".")[2])]
    return f"settings are key=value: {keys[0]}=…" if word.startswith("-") and keys else None
