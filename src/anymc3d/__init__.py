"""anymc3d: 3D medical image classification with one small plugin per task on a frozen 2D foundation model.

>>> import anymc3d
>>> prediction = anymc3d.load("plugin.safetensors").predict("scan.nii.gz")  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from anymc3d.no_probe import install
from anymc3d.version import __version__

if TYPE_CHECKING:
    from anymc3d.automl.run import auto
    from anymc3d.cli.functions import calibrate, doctor, ensemble, evaluate, explain, plan, quick, report
    from anymc3d.data.embeddings import load_embeddings
    from anymc3d.data.readers import register_reader
    from anymc3d.models.fusion import register_fusion
    from anymc3d.models.heads import register_head
    from anymc3d.models.own_backbones import register_backbone
    from anymc3d.plugins import Plugin, load_plugin
    from anymc3d.predict.prediction import Prediction
    from anymc3d.predict.predictor import Predictor, load
    from anymc3d.settings.task_file import read_task
    from anymc3d.train.callbacks import Callback
    from anymc3d.train.fit import fit
    from anymc3d.train.losses import register_loss

_PUBLIC = {
    "Callback": "anymc3d.train.callbacks",
    "Plugin": "anymc3d.plugins",
    "Prediction": "anymc3d.predict.prediction",
    "Predictor": "anymc3d.predict.predictor",
    "auto": "anymc3d.automl.run",
    "calibrate": "anymc3d.cli.functions",
    "ensemble": "anymc3d.cli.functions",
    "fit": "anymc3d.train.fit",
    "load": "anymc3d.predict.predictor",
    "load_embeddings": "anymc3d.data.embeddings",
    "load_plugin": "anymc3d.plugins",
    "quick": "anymc3d.cli.functions",
    "read_task": "anymc3d.settings.task_file",
    "register_backbone": "anymc3d.models.own_backbones",
    "register_fusion": "anymc3d.models.fusion",
    "register_head": "anymc3d.models.heads",
    "register_loss": "anymc3d.train.losses",
    "register_reader": "anymc3d.data.readers",
}

_CALLABLE = ("doctor", "evaluate", "explain", "plan", "report")
"""Packages that are also functions (see anymc3d.callable)."""

__all__ = [
    "Callback",
    "Plugin",
    "Prediction",
    "Predictor",
    "__version__",
    "auto",
    "calibrate",
    "doctor",
    "ensemble",
    "evaluate",
    "explain",
    "fit",
    "load",
    "load_embeddings",
    "load_plugin",
    "plan",
    "quick",
    "read_task",
    "register_backbone",
    "register_fusion",
    "register_head",
    "register_loss",
    "register_reader",
    "report",
]

install()


def __getattr__(name: str) -> Any:
    """Import the public names when they are first used: a bare ``import anymc3d`` needs no torch."""
    if name in _CALLABLE:
        return importlib.import_module(f"anymc3d.{name}")
    if name not in _PUBLIC:
        raise AttributeError(f"module 'anymc3d' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
