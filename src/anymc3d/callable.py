"""Packages that are also functions: ``anymc3d.plan(…)`` beside ``from anymc3d.plan import plan_task``.

A command and the package that holds its parts share one name. Importing a package makes it an attribute of its parent,
so whichever of the two stands there would hide the other; a package that can be called is both.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from types import ModuleType
from typing import Any

FUNCTIONS = "anymc3d.cli.functions"


class _CallablePackage(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._function(*args, **kwargs)

    @property
    def _function(self) -> Any:
        return getattr(importlib.import_module(FUNCTIONS), self.__name__.rpartition(".")[2])

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self._function)


def answer_calls(package: str) -> None:
    """Let a package be called as the command of its name is."""
    sys.modules[package].__class__ = _CallablePackage
