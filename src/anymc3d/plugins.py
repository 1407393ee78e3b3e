"""The plugin file: one ``.safetensors`` with a task's tensors and, in its header, everything needed to use them.

Tensors (METHODS 1.10): ``lora.<view>.<module path>.A`` and ``.B``, ``query.<view>``, ``task_query``,
``head.weight``, ``head.bias``; where the decoder was kept ``decoder.<view>.<path>``; in an ensemble each name begins
with ``member.<i>.``. Header key ``anymc3d``: a JSON object, see :class:`anymc3d.plugin_card.PluginCard`. A plugin
never holds the backbone, a path, a case id or a patient; it names its backbone by fingerprint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from anymc3d import atomic
from anymc3d.config import MethodSettings, SegmentationSettings
from anymc3d.errors import PluginError
from anymc3d.models.classifier import VolumeClassifier
from anymc3d.models.decoders.table import build_decoders
from anymc3d.plugin_card import BackboneRecord, Member, PluginCard, card_to_json, read_card
from anymc3d.tensor_hash import tensors_hash

__all__ = [
    "BackboneRecord",
    "Member",
    "Plugin",
    "PluginCard",
    "card_to_json",
    "load_plugin",
    "lora_rank",
    "new_classifier",
    "new_decoders",
    "plugin_bytes",
    "read_card",
    "save_plugin",
    "to_half",
    "without_decoders",
]

HEADER_KEY = "anymc3d"
MAX_FILE_BYTES = 256 * 1024 * 1024
MEMBER_PREFIX = "member."


@dataclass(frozen=True)
class Plugin:
    """A task, ready to be used with its backbone. ``hash`` identifies card and tensors together."""

    card: PluginCard
    tensors: Mapping[str, Tensor]
    hash: str

    @property
    def members(self) -> tuple[Plugin, ...]:
        """The plugins of an ensemble, on the same tensors; any other plugin is its own only member."""
        if self.card.kind != "ensemble":
            return (self,)
        return tuple(
            Plugin(member.card, member_tensors(self.tensors, index), member.hash)
            for index, member in enumerate(self.card.members)
        )

    def build(self, backbone: nn.Module, fingerprint: str) -> VolumeClassifier:
        """Build the classifier on ``backbone``, which stays as it is.

        Raises:
            PluginError: the backbone is another one, the tensors do not fit the card, or this is an ensemble.
        """
        if self.card.kind == "ensemble":
            raise PluginError(f"{self.card.name!r} is an ensemble, which has no single classifier; build its members")
        record = self.card.backbone
        if fingerprint != record.fingerprint:
            raise PluginError(
                f"plugin {self.card.name!r} belongs to backbone {record.name} ({record.fingerprint}), "
                f"but was given one with fingerprint {fingerprint}; use the weights it was trained on"
            )
        classifier = new_classifier(self.card, backbone)
        classifier.load_tensors(self.tensors)
        for name, parameter in classifier.tensors().items():
            # One copy in memory, not two: an ensemble has many members, and nothing here is ever trained.
            if self.tensors[name].dtype == parameter.dtype:
                parameter.data = self.tensors[name]
        return classifier.eval().requires_grad_(False)


def new_classifier(card: PluginCard, backbone: nn.Module, seed: int = 0) -> VolumeClassifier:
    """Build an untrained classifier with the structure the card describes."""
    return VolumeClassifier(
        backbone,
        views=card.views,
        num_logits=card.labels.num_logits,
        head=card.labels.head,
        neighbours=[name for name, view in card.preprocessing.items() if view.input == "neighbours"],
        fusion=card.fusion,
        decoders=new_decoders(card.segmentation, backbone, card.views, seed) if card.decodes else None,
        rank=lora_rank(card.method),
        alpha=card.method.alpha,
        seed=seed,
    )


def new_decoders(
    settings: SegmentationSettings | None, backbone: nn.Module, views: Sequence[str], seed: int = 0
) -> dict[str, nn.Module]:
    """Untrained decoders of the views, none without segmentation; ``settings.classes`` are known by now."""
    if settings is None or not settings.is_on:
        return {}
    return build_decoders(
        settings.decoder,
        backbone,
        views=views,
        num_classes=len(settings.classes),
        num_queries=settings.queries,
        seed=seed,
    )


def without_decoders(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors that answer; none of them depends on the decoders'."""
    return {name: tensor for name, tensor in tensors.items() if not name.startswith("decoder.")}


def lora_rank(method: MethodSettings) -> int | None:
    """Rank of LoRA, or None for the method that leaves the backbone frozen.

    Raises:
        PluginError: the method is unknown.
    """
    ranks = {"anymc3d": method.rank, "frozen": None}
    if method.name not in ranks:
        raise PluginError(f"method: expected one of {', '.join(ranks)}, got {method.name!r}")
    return ranks[method.name]


def save_plugin(path: Path, card: PluginCard, tensors: Mapping[str, Tensor]) -> None:
    """Write a plugin atomically, its tensors in half precision.

    Raises:
        PluginError: a tensor has a value that half precision cannot hold (infinite or NaN).
    """
    atomic.write_bytes(path, plugin_bytes(card, tensors))


def plugin_bytes(card: PluginCard, tensors: Mapping[str, Tensor]) -> bytes:
    """The content of a plugin's file; equal plugins are equal bytes.

    Raises:
        PluginError: as :func:`save_plugin`.
    """
    half = to_half(tensors)
    # One key only: safetensors writes several in random order, and equal plugins should be equal files.
    return save(half, metadata={HEADER_KEY: card_to_json(replace(card, tensors_sha256=tensors_hash(half)))})


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
    _check_members(card, tensors, str(path))
    float_tensors = {name: tensor.float() for name, tensor in tensors.items()}
    return Plugin(card, float_tensors, tensors_hash(tensors, header[HEADER_KEY]))


def member_tensors(tensors: Mapping[str, Tensor], index: int) -> dict[str, Tensor]:
    """The tensors of one member of an ensemble, under the names of a plugin."""
    prefix = f"{MEMBER_PREFIX}{index}."
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _check_members(card: PluginCard, tensors: Mapping[str, Tensor], where: str) -> None:
    """Every tensor of an ensemble belongs to a member, and every member's are those its card was written for."""
    parts = [member_tensors(tensors, index) for index in range(len(card.members))]
    if card.members and sum(map(len, parts)) != len(tensors):
        raise PluginError(f"{where}: expected tensors of {len(card.members)} members only, got others among them")
    for index, (member, part) in enumerate(zip(card.members, parts, strict=True)):
        if member.card.tensors_sha256 != tensors_hash(part):
            raise PluginError(f"{where}: the tensors of member {index} do not match the hash in its card")


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
