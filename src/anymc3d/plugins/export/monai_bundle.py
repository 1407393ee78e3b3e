"""``anymc3d plugin export --monai-bundle``: the network as a bundle that MONAI's runner runs.

``models/model.onnx`` as :mod:`anymc3d.plugins.export.onnx_file` writes it, ``configs/metadata.json`` in MONAI's form,
and ``configs/inference.json``: from a folder of cases with prepared slices, ``CASE/<view>.npy`` (S, C, H, W), to
``logits.json``. Preparing the slices is not a transform of MONAI's and stays outside.
"""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

from anymc3d.errors import PluginError
from anymc3d.files import atomic
from anymc3d.files.containment import inside
from anymc3d.plugins.card import INTENDED_USE, PluginCard
from anymc3d.plugins.describe import describe
from anymc3d.plugins.export.network import shape_of
from anymc3d.plugins.export.onnx_file import OUTPUT, export_onnx
from anymc3d.plugins.file import Plugin
from anymc3d.settings.plain import to_plain
from anymc3d.version import __version__

MODEL, METADATA, INFERENCE = "model.onnx", "metadata.json", "inference.json"
MONAI = "1.5.0"
"""The version that the bundle is written for."""


def export_bundle(plugin: Plugin, plugin_path: Path, out: Path, *, backbone: str | None = None) -> float:
    """Write the bundle into a new or empty folder; the largest difference of a logit that was seen.

    Raises:
        PluginError: ``out`` holds files, or as :func:`export_onnx`.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise PluginError(f"{out}: expected a new or empty folder, found files in it")
    difference = export_onnx(plugin, inside(out, "models", MODEL), backbone=backbone)
    atomic.write_json(inside(out, "configs", METADATA), _metadata(plugin))
    atomic.write_json(inside(out, "configs", INFERENCE), _inference(plugin.card))
    atomic.write_text(inside(out, "docs", "README.md"), "\n".join([*describe(plugin, plugin_path), ""]))
    return difference


def _metadata(plugin: Plugin) -> dict[str, Any]:
    card = plugin.card
    packages = {name: importlib.metadata.version(name) for name in ("torch", "numpy", "onnxruntime")}
    return {
        "schema": "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/"
        "meta_schema_20240725.json",
        "version": __version__,
        "changelog": {__version__: f"exported from plugin {plugin.hash}"},
        "monai_version": MONAI,
        "pytorch_version": packages["torch"].partition("+")[0],
        "numpy_version": packages["numpy"],
        "required_packages_version": {"onnxruntime": packages["onnxruntime"]},
        "name": card.name,
        "task": f"{card.labels.kind} classification of 3D scans",
        "description": f"{INTENDED_USE} Plugin of anymc3d with its backbone, adapter merged.",
        "authors": "the plugin's makers",
        "copyright": card.licence,
        "intended_use": card.intended_use,
        "network_data_format": {
            "inputs": {view: _input(card, view) for view in card.views},
            "outputs": {OUTPUT: _output(card)},
        },
        "anymc3d": {
            "plugin_hash": plugin.hash,
            "preprocessing": to_plain(card.preprocessing),
            "calibration": to_plain(card.calibration),
            "operating_points": to_plain(card.operating_points),
            "number": to_plain(card.number),
            "covariates": to_plain(card.covariates),
        },
    }


def _input(card: PluginCard, view: str) -> dict[str, Any]:
    _, channels, height, width = shape_of(card, view, 1)
    return {
        "type": "image",
        "format": "prepared slices",
        "modality": card.modality,
        "num_channels": channels,
        "spatial_shape": ["n", height, width],
        "dtype": "float32",
        "value_range": [],
        "is_patch_data": False,
        "channel_def": {str(channel): f"channel {channel}" for channel in range(channels)},
    }


def _output(card: PluginCard) -> dict[str, Any]:
    names = card.labels.output_names
    return {
        "type": "probabilities",
        "format": "raw logits, not calibrated",
        "num_channels": len(names),
        "spatial_shape": [],
        "dtype": "float32",
        "value_range": [],
        "is_patch_data": False,
        "channel_def": {str(place): name for place, name in enumerate(names)},
    }


def _inference(card: PluginCard) -> dict[str, Any]:
    """Cases are folders of ``<view>.npy``; nothing but numbers is read from them."""
    paths = "{view: os.path.join(@dataset_dir, case, view + '.npy') for view in @views}"
    answer = "{view: np.asarray(item[view], dtype=np.float32) for view in @views}"
    return {
        "imports": ["$import json", "$import os", "$import numpy as np", "$import onnxruntime"],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/cases'",
        "output_file": "$@bundle_root + '/logits.json'",
        "views": list(card.views),
        "cases": "$sorted(os.listdir(@dataset_dir))",
        "network": "$onnxruntime.InferenceSession(@bundle_root + '/models/model.onnx', "
        "providers=['CPUExecutionProvider'])",
        "preprocessing": {"_target_": "LoadImaged", "keys": "@views", "reader": "NumpyReader"},
        "dataset": {"_target_": "Dataset", "data": f"$[{paths} for case in @cases]", "transform": "@preprocessing"},
        OUTPUT: f"$[@network.run(['{OUTPUT}'], {answer})[0].tolist() for item in @dataset]",
        "run": [f"$json.dump(dict(zip(@cases, @{OUTPUT})), open(@output_file, 'w'))"],
    }
