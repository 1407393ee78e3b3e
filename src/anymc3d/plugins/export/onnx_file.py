"""``anymc3d plugin export --onnx``: one ONNX file, compared with the plugin before it is put in place."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from anymc3d.errors import PackageError, PluginError
from anymc3d.files import atomic
from anymc3d.models.store import LoadedBackbone, find_backbone, find_by_fingerprint
from anymc3d.plugins.card import INTENDED_USE
from anymc3d.plugins.card_text import card_to_json
from anymc3d.plugins.export.network import MORE, CaseNetwork, check_exportable
from anymc3d.plugins.file import HEADER_KEY, Plugin

TOLERANCE = 1e-4
"""Largest difference of a logit between the file in onnxruntime and the plugin."""
OUTPUT = "logits"
MOST_BYTES = 1_900_000_000
"""Of the weights: protobuf ends at 2 GiB."""


def export_onnx(plugin: Plugin, path: Path, *, backbone: str | None = None) -> float:
    """Write the network of a plugin to ``path``; the largest difference of a logit that was seen.

    Inputs: per view the prepared slices (S, C, H, W) float32, S free; output: the raw logits (L,) of
    ``predictions.csv``. The plugin's card goes along as metadata: preprocessing, calibration and all else that the
    network leaves to who calls it.

    Raises:
        PluginError: the plugin is of another kind, cannot be expressed, or the file answers something else.
        PackageError: a package is missing.
    """
    network_of = _backbone(plugin, backbone)
    if network_of is None:
        check_exportable(plugin.card)
        raise PluginError(f"{plugin.card.name!r} has no backbone; only plugins that have one can be exported")
    network = CaseNetwork(plugin, network_of)
    size = sum(tensor.numel() * 4 for tensor in network.backbones.state_dict().values())
    if size > MOST_BYTES:
        raise PluginError(f"{plugin.card.name!r}: {size} bytes of weights, and ONNX files end at {MOST_BYTES}")
    program = _program(network)
    program.model.metadata_props.update(_metadata(plugin))
    with atomic.replacing(path, needed=size) as temporary:
        program.save(str(temporary), external_data=False)
        difference = largest_difference(temporary, network, network_of.module)
        if not difference <= TOLERANCE:
            what = f"the exported network differs by {difference:.2g}, more than {TOLERANCE:g}"
            raise PluginError(f"{plugin.card.name!r}: {what}; not written")
    return difference


def largest_difference(path: Path, network: CaseNetwork, backbone: torch.nn.Module) -> float:
    """Between the file in onnxruntime and what ``predict`` computes, over one, few and more slices.

    Raises:
        PackageError: onnxruntime is not installed.
    """
    try:
        import onnxruntime
    except ImportError:
        raise PackageError(NEEDED) from None
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    largest = 0.0
    for count in (1, 2, MORE):
        slices = network.examples(count, seed=count)
        inputs = {view: view_slices.numpy() for view, view_slices in zip(network.card.views, slices, strict=True)}
        answer = torch.from_numpy(session.run([OUTPUT], inputs)[0])
        largest = max(largest, float((answer - network.as_predicted(backbone, slices)).abs().max()))
    return largest


NEEDED = "exporting to ONNX needs onnx, onnxscript and onnxruntime; pip install 'anymc3d[onnx]'"


def _program(network: CaseNetwork) -> Any:
    try:
        import onnxscript  # noqa: F401 - torch's exporter stands on it
    except ImportError:
        raise PackageError(NEEDED) from None
    views = network.card.views
    shapes = tuple({0: torch.export.Dim(f"slices_{place}", min=1, max=4096)} for place in range(len(views)))
    options = {"input_names": list(views), "output_names": [OUTPUT], "dynamic_shapes": (shapes,), "verbose": False}
    with _quiet(), torch.inference_mode(False):
        try:
            return torch.onnx.export(network, network.examples(), dynamo=True, **options)
        except Exception as error:
            how = f"fusion {network.card.fusion} on {type(next(iter(network.backbones.values()))).__name__}"
            raise PluginError(
                f"{network.card.name!r} cannot be exported: torch's exporter does not know how to write {how} "
                f"({type(error).__name__})"
            ) from error


def _backbone(plugin: Plugin, backbone: str | None) -> LoadedBackbone | None:
    record = plugin.card.backbone
    if record is None:
        return None
    if backbone is not None:
        return find_backbone(backbone, position_rule=record.positions)
    return find_by_fingerprint(record.fingerprint, record.name, position_rule=record.positions)


def _metadata(plugin: Plugin) -> dict[str, str]:
    return {
        HEADER_KEY: card_to_json(plugin.card),
        "plugin_hash": plugin.hash,
        "outputs": ", ".join(plugin.card.labels.output_names),
        "intended_use": INTENDED_USE,
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter warns of packages that nobody needs, and of its own past."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
