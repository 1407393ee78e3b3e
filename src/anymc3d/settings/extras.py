"""THE table of optional parts: what each extra of the package is for, and what it imports."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass


@dataclass(frozen=True)
class Extra:
    """``purpose``: for people; ``modules``: importable where it is installed."""

    purpose: str
    modules: tuple[str, ...]

    @property
    def missing(self) -> tuple[str, ...]:
        """The modules that are not installed; nothing is imported."""
        return tuple(name for name in self.modules if not _is_there(name))


EXTRAS: dict[str, Extra] = {
    "fast": Extra(".nii.gz several times as fast", ("isal",)),
    "dicom": Extra("heatmaps and results as DICOM objects", ("highdicom",)),
    "roi": Extra("networks that find a region of interest", ("onnxruntime",)),
    "demo": Extra("the real anatomy of 'anymc3d demo'", ("nilearn",)),
    "parquet": Extra("manifests and tables as Parquet", ("pyarrow",)),
    "xlsx": Extra("Excel tables of public data sets", ("openpyxl",)),
    "remote": Extra("scans at https://, s3://, gs://", ("fsspec", "aiohttp", "s3fs", "gcsfs")),
    "hub": Extra("plugins to the Hugging Face Hub", ("huggingface_hub",)),
    "sign": Extra("plugins that are signed, signatures that are checked", ("cryptography",)),
    "onnx": Extra("the network of a plugin for other programs", ("onnx", "onnxscript", "onnxruntime")),
    "tensorboard": Extra("numbers of a training run for TensorBoard", ("tensorboard",)),
    "mlflow": Extra("numbers of a training run for MLflow", ("mlflow",)),
    "wandb": Extra("numbers of a training run for Weights & Biases", ("wandb",)),
    "energy": Extra("the energy counter of an NVIDIA graphics card", ("pynvml",)),
    "serve": Extra(
        "the resident service",
        ("fastapi", "highdicom", "prometheus_client", "pynetdicom", "python_multipart", "starlette", "uvicorn"),
    ),
    "mcp": Extra("tools for programs that drive tools", ("mcp",)),
    "slurm": Extra("parts and jobs on a Slurm cluster", ("submitit",)),
    "ray": Extra("parts and jobs on Ray", ("ray",)),
    "completion": Extra("completion of words in a shell", ("shtab",)),
    "docs": Extra("these pages as a site", ("mkdocs", "material", "mkdocstrings")),
}
"""In the order in which people look for them; the groups ``all``, ``test`` and ``benchmark`` are made of these."""


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False
