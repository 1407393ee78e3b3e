"""The plugin file: one ``.safetensors`` with a task's tensors and, in its header, everything needed to use them.

Tensors (METHODS 1.10): ``lora.<view>.<module path>.A`` and ``.B``, ``query.<view>``, ``task_query``,
``head.weight``, ``head.bias``. Header key ``anymc3d``: a JSON object, see :class:`PluginCard`. A plugin never holds the
backbone, a path, a case id or a patient; it names its backbone by fingerprint.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from anymc3d import atomic
from anymc3d.config import LabelSettings, MethodSettings, ViewSettings
from anymc3d.errors import PluginError
from anymc3d.models.classifier import VolumeClassifier
from anymc3d.settings_dict import from_plain, to_plain
from anymc3d.tensor_hash import tensors_hash
from anymc3d.types import Modality

PLUGIN_FORMAT = 1
HEADER_KEY = "anymc3d"
MAX_FILE_BYTES = 256 * 1024 * 1024
INTENDED_USE = "Research use only. Not a medical device; not for diagnosis or treatment."


@dataclass(frozen=True, kw_only=True)
class BackboneRecord:
    """Which frozen network a plugin belongs to. ``fingerprint`` decides; the name is for people."""

    name: str
    fingerprint: str
    positions: str
    embed_dim: int
    patch_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    licence: str


@dataclass(frozen=True, kw_only=True)
class PluginCard:
    """The header of a plugin file."""

    name: str
    labels: LabelSettings
    modality: Modality
    preprocessing: Mapping[str, ViewSettings]
    """View -> how its slices are made."""
    backbone: BackboneRecord
    method: MethodSettings
    fusion: str
    code_version: int
    """Of the preprocessing code; another version would prepare other slices."""
    intensities: Mapping[str, Any] = field(default_factory=dict)
    """Image column -> summary of the training scans' intensity profiles, in raw units."""
    operating_points: tuple[Mapping[str, Any], ...] = ()
    """One per label: name, criterion, threshold on the raw logit, the split it was chosen on and its counts."""
    calibration: Mapping[str, Any] | None = None
    metrics: tuple[Mapping[str, Any], ...] = ()
    """Rows of ``metrics.csv`` on the validation split."""
    split: Mapping[str, Any] = field(default_factory=dict)
    """Numbers of cases and patients per split, and the salted hash of the training split."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """The recipe, and the software it ran on."""
    tensors_sha256: str = ""
    """Of the tensors as stored; written when the file is."""
    licence: str = "unspecified"
    intended_use: str = INTENDED_USE
    kind: str = "plugin"
    format_version: int = PLUGIN_FORMAT

    @property
    def views(self) -> tuple[str, ...]:
        """View names in the order of the model."""
        return tuple(self.preprocessing)


@dataclass(frozen=True)
class Plugin:
    """A task, ready to be used with its backbone. ``hash`` identifies card and tensors together."""

    card: PluginCard
    tensors: Mapping[str, Tensor]
    hash: str

    def build(self, backbone: nn.Module, fingerprint: str) -> VolumeClassifier:
        """Build the classifier on ``backbone``, which stays as it is.

        Raises:
            PluginError: the backbone is another one, or the tensors do not fit the card.
        """
        record = self.card.backbone
        if fingerprint != record.fingerprint:
            raise PluginError(
                f"plugin {self.card.name!r} belongs to backbone {record.name} ({record.fingerprint}), "
                f"but was given one with fingerprint {fingerprint}; use the weights it was trained on"
            )
        classifier = new_classifier(self.card, backbone)
        classifier.load_tensors(self.tensors)
        return classifier.eval().requires_grad_(False)


def new_classifier(card: PluginCard, backbone: nn.Module, seed: int = 0) -> VolumeClassifier:
    """Build an untrained classifier with the structure the card describes."""
    return VolumeClassifier(
        backbone,
        views=card.views,
        num_logits=card.labels.num_logits,
        fusion=card.fusion,
        rank=lora_rank(card.method),
        alpha=card.method.alpha,
        seed=seed,
    )


def lora_rank(method: MethodSettings) -> int | None:
    """Rank of LoRA, or None for the method that leaves the backbone frozen.

    Raises:
        PluginError: the method is unknown.
    """
    ranks = {"anymc3d": method.rank, "frozen": None}
    if method.name not in ranks:
        raise PluginError(f"method: expected one of {', '.join(ranks)}, got {method.name!r}")
    return ranks[method.name]


def card_to_json(card: PluginCard) -> str:
    """The header text; keys keep their order, because the views have one. NaN and infinity are refused."""
    return json.dumps(to_plain(card), allow_nan=False)


def save_plugin(path: Path, card: PluginCard, tensors: Mapping[str, Tensor]) -> None:
    """Write a plugin atomically, its tensors in half precision.

    Raises:
        PluginError: a tensor has a value that half precision cannot hold (infinite or NaN).
    """
    half = to_half(tensors)
    # One key only: safetensors writes several in random order, and equal plugins should be equal files.
    header = {HEADER_KEY: card_to_json(replace(card, tensors_sha256=tensors_hash(half)))}
    with atomic.replacing(path) as temporary:
        save_file(half, str(temporary), metadata=header)


def to_half(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Round to half precision, as a plugin file holds its tensors."""
    half = {name: tensor.detach().to("cpu", torch.float16).contiguous() for name, tensor in tensors.items()}
    broken = [name for name, tensor in half.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise PluginError(f"cannot store tensors that are not finite in half precision: {', '.join(broken[:5])}")
    return half


def load_plugin(path: Path | str) -> Plugin:
    """Read and check a plugin file: container, header, hash, finite values. No code in it can run.

    Raises:
        PluginError: the file is missing, damaged, of a newer format, or not a plugin.
    """
    path = Path(path)
    header, tensors = _read_container(path)
    if HEADER_KEY not in header:
        raise PluginError(f"{path}: expected a plugin with the header key {HEADER_KEY!r}, got a plain safetensors file")
    card = read_card(header[HEADER_KEY], str(path))
    if card.tensors_sha256 != tensors_hash(tensors):
        raise PluginError(
            f"{path}: its tensors do not match the hash in its header: the file is damaged or was changed"
        )
    broken = [name for name, t in tensors.items() if not (t.is_floating_point() and torch.isfinite(t).all())]
    if broken:
        raise PluginError(f"{path}: expected finite floating-point tensors, not so: {', '.join(broken[:5])}")
    float_tensors = {name: tensor.float() for name, tensor in tensors.items()}
    return Plugin(card, float_tensors, tensors_hash(tensors, header[HEADER_KEY]))


def read_card(text: str, where: str) -> PluginCard:
    """Parse a header; every key must be known and of the right type.

    Raises:
        PluginError: the header is damaged, of a newer format, or of another kind.
    """
    try:
        raw = json.loads(text, object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError) as error:
        raise PluginError(f"{where}: expected JSON in the header, got something else ({error})") from None
    if not isinstance(raw, dict):
        raise PluginError(f"{where}: expected a JSON object in the header, got {type(raw).__name__}")
    version = raw.get("format_version")
    if version != PLUGIN_FORMAT:
        raise PluginError(f"{where}: this version reads plugins of format {PLUGIN_FORMAT}, got {version!r}")
    if raw.get("kind") != "plugin":
        raise PluginError(f"{where}: expected kind 'plugin', got {raw.get('kind')!r}")
    problems: list[str] = []
    card = from_plain(PluginCard, raw, problems)
    if problems:
        raise PluginError(f"{where}: the header cannot be used: {'; '.join(problems[:6])}")
    return card


def _read_container(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    if not path.is_file():
        raise PluginError(
            f"{path}: expected a plugin file (.safetensors), found {'a folder' if path.is_dir() else 'nothing'}"
        )
    if path.stat().st_size > MAX_FILE_BYTES:
        raise PluginError(f"{path}: expected at most {MAX_FILE_BYTES} bytes, got {path.stat().st_size}: not a plugin")
    try:
        with safe_open(str(path), framework="pt") as file:
            return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise PluginError(f"{path}: expected a safetensors file, but it cannot be read: {error}") from None


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found
