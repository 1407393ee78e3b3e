"""The plugin file: one ``.safetensors`` with a task's tensors and, in its header, everything needed to use them.

Tensors (docs/method.md): ``lora.<view>.<module path>.A`` and ``.B``, ``query.<view>``, ``task_query``,
``head.weight``, ``head.bias``; where the decoder was kept ``decoder.<view>.<path>``; of a baseline (a network of the
zoo) ``network.<view>.<path>``, in single precision; in an ensemble each name begins with ``member.<i>.``. Header key
``anymc3d``: a JSON object, see :class:`anymc3d.plugins.card.PluginCard`. A plugin never holds the backbone, a path, a
case id or a patient; it names its backbone by fingerprint. A baseline has none: its file holds all its weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from anymc3d.errors import PluginError
from anymc3d.files import atomic
from anymc3d.models.build import Classifier, build_classifier, is_baseline
from anymc3d.models.meta_device import without_memory
from anymc3d.models.plain import PlainClassifier, num_voxels
from anymc3d.models.tensor_hash import tensors_hash
from anymc3d.models.zoo.table import zoo_entry
from anymc3d.plugins.card import PluginCard
from anymc3d.plugins.card_text import card_to_json, read_card
from anymc3d.plugins.notebook_view import html_of
from anymc3d.plugins.own_parts import own_parts
from anymc3d.printable import shown

HEADER_KEY = "anymc3d"
MAX_FILE_BYTES = 256 * 1024 * 1024
MAX_BASELINE_BYTES = 1024 * 1024 * 1024
"""Of a file that holds whole networks."""
MAX_HEADER_BYTES = 32 * 1024 * 1024
"""Of the container: names and shapes of the tensors, and the card."""
MAX_TENSORS = 40_000
"""An ensemble of 100 plugins on a ViT-L has 10,000."""
DTYPES = frozenset({"F16", "BF16", "F32", "F64"})
MEMBER_PREFIX = "member."


@dataclass(frozen=True)
class Plugin:
    """A task, ready to be used with its backbone. ``hash`` identifies card and tensors together."""

    card: PluginCard
    tensors: Mapping[str, Tensor]
    hash: str

    def __repr__(self) -> str:
        count = sum(tensor.numel() for tensor in self.tensors.values())
        labels = ", ".join(self.card.labels.output_names)
        return f"<Plugin {self.card.name!r} ({self.hash[:12]}): {labels}; {count:,} parameters, not for clinical use>"

    def _repr_html_(self) -> str:
        """What the plugin is, as a notebook shows it."""
        return html_of(self)

    @property
    def members(self) -> tuple[Plugin, ...]:
        """The plugins of an ensemble, on the same tensors; any other plugin is its own only member."""
        if self.card.kind != "ensemble":
            return (self,)
        return tuple(
            Plugin(member.card, member_tensors(self.tensors, index), member.hash)
            for index, member in enumerate(self.card.members)
        )

    def build(self, backbone: nn.Module | None, fingerprint: str | None) -> Classifier:
        """Build the classifier on ``backbone``, which stays as it is; a baseline takes None and None.

        Raises:
            PluginError: the backbone is another one, the tensors do not fit the card, or this is an ensemble.
        """
        if self.card.kind == "ensemble":
            raise PluginError(f"{self.card.name!r} is an ensemble, which has no single classifier; build its members")
        record = self.card.backbone
        if record is not None and fingerprint != record.fingerprint:
            raise PluginError(
                f"plugin {self.card.name!r} belongs to backbone {record.name} ({record.fingerprint}), "
                f"but was given one with fingerprint {fingerprint}; use the weights it was trained on"
            )
        _check_revision(self.card)
        _check_own_parts(self.card)
        with without_memory():
            expected = _untrained(self.card, backbone)
        # Names and shapes before memory is taken: a small file can ask for a network of any size.
        expected.load_tensors(self.tensors)
        classifier = _untrained(self.card, backbone)
        classifier.load_tensors(self.tensors)
        for name, parameter in classifier.tensors().items():
            # One copy in memory, not two: an ensemble has many members, and nothing here is ever trained.
            if self.tensors[name].dtype == parameter.dtype:
                parameter.data = self.tensors[name]
        return classifier.eval().requires_grad_(False)


def _untrained(card: PluginCard, backbone: nn.Module | None) -> Classifier:
    if card.plain is not None:
        count = len(card.plain.measures) or num_voxels(card.preprocessing)
        return PlainClassifier(count, common=not card.plain.measures, clip=card.plain.clip, labels=card.labels)
    return build_classifier(
        card.method,
        views=card.preprocessing,
        labels=card.labels,
        fusion=card.fusion,
        backbone=backbone,
        segmentation=card.segmentation if card.decodes else None,
        features=card.features,
        structures=card.structures,
    )


def _check_revision(card: PluginCard) -> None:
    """Refuse a network whose tensors would give another answer today than when they were trained.

    Raises:
        PluginError: with what to do.
    """
    if not is_baseline(card.method):
        return
    entry, revision = zoo_entry(card.method.name), card.training.get("network_revision", 1)
    if revision != entry.revision:
        raise PluginError(
            f"plugin {card.name!r} was trained with revision {revision} of {entry.name}, this version has revision "
            f"{entry.revision}, which shows the network the axes of a volume in another order "
            f"({entry.axes}; see docs/methods.md); train it again"
        )


def _check_own_parts(card: PluginCard) -> None:
    """Refuse a plugin of parts that nobody registered here.

    Raises:
        PluginError: which part, and where it may come from.
    """
    for part in own_parts(card):
        if not part.is_here:
            raise PluginError(f"plugin {card.name!r} needs {part.what}: {part.how}")


def without_decoders(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors that answer; none of them depends on the decoders'."""
    return {name: tensor for name, tensor in tensors.items() if not name.startswith("decoder.")}


def save_plugin(path: Path, card: PluginCard, tensors: Mapping[str, Tensor]) -> None:
    """Write a plugin atomically, its tensors in half precision (a baseline's in single precision).

    Raises:
        PluginError: a tensor has a value that half precision cannot hold (infinite or NaN).
    """
    atomic.write_bytes(path, plugin_bytes(card, tensors))


def plugin_bytes(card: PluginCard, tensors: Mapping[str, Tensor]) -> bytes:
    """The content of a plugin's file; equal plugins are equal bytes.

    Raises:
        PluginError: as :func:`save_plugin`.
    """
    rounded = _rounded(card, tensors)
    # One key only: safetensors writes several in random order, and equal plugins should be equal files.
    return save(rounded, metadata={HEADER_KEY: card_to_json(replace(card, tensors_sha256=tensors_hash(rounded)))})


def _rounded(card: PluginCard, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """As the file holds them; of an ensemble each member's as its own file does."""
    if not card.members:
        return stored(tensors, whole=card.holds_network)
    rounded = stored(tensors, whole=card.holds_network)
    for index, member in enumerate(card.members):
        part = stored(member_tensors(tensors, index), whole=member.card.holds_network)
        rounded |= {f"{MEMBER_PREFIX}{index}.{name}": tensor for name, tensor in part.items()}
    return rounded


def stored(tensors: Mapping[str, Tensor], *, whole: bool) -> dict[str, Tensor]:
    """Round to what a plugin file holds: half precision, or single precision of a ``whole`` network, whose batch norm
    statistics can be too large for half, and whose training can take steps too small for it.

    Raises:
        PluginError: a value is infinite or NaN in that precision.
    """
    if not whole:
        return to_half(tensors)
    single = {name: tensor.detach().to("cpu", torch.float32).contiguous() for name, tensor in tensors.items()}
    _check_finite(single, "single")
    return single


def to_half(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Round to half precision, as a plugin file holds its tensors."""
    half = {name: tensor.detach().to("cpu", torch.float16).contiguous() for name, tensor in tensors.items()}
    _check_finite(half, "half")
    return half


def _check_finite(tensors: Mapping[str, Tensor], precision: str) -> None:
    broken = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise PluginError(f"cannot store tensors that are not finite in {precision} precision: {', '.join(broken[:5])}")


def load_plugin(path: Path | str) -> Plugin:
    """Read and check a plugin file: container, header, hash, finite values. No code in it can run.

    Raises:
        PluginError: the file is missing, damaged, of a newer format, or not a plugin.
    """
    path = Path(path)
    card, header, tensors = _read_container(path)
    if card.tensors_sha256 != tensors_hash(tensors):
        raise PluginError(
            f"{path}: its tensors do not match the hash in its header: the file is damaged or was changed"
        )
    broken = [name for name, t in tensors.items() if not (t.is_floating_point() and torch.isfinite(t).all())]
    if broken:
        named = ", ".join(shown(name, 100) for name in broken[:5])
        raise PluginError(f"{path}: expected finite floating-point tensors, not so: {named}")
    _check_members(card, tensors, str(path))
    float_tensors = {name: tensor.float() for name, tensor in tensors.items()}
    return Plugin(card, float_tensors, tensors_hash(tensors, header))


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


def _read_container(path: Path) -> tuple[PluginCard, str, dict[str, Tensor]]:
    """The card, the text it was read from, and the tensors."""
    try:
        if not path.is_file():
            kind = "a folder" if path.is_dir() else "nothing"
            raise PluginError(f"{path}: expected a plugin file (.safetensors), found {kind}")
        check_container(path, MAX_BASELINE_BYTES)
        with safe_open(str(path), framework="pt") as file:
            text = _header_of(path, file.metadata() or {})
            card = read_card(text, str(path))
            whole = card.holds_network or any(member.card.holds_network for member in card.members)
            _check_size(path, MAX_BASELINE_BYTES if whole else MAX_FILE_BYTES)
            return card, text, tensors_of(path, file)
    except (SafetensorError, OSError, ValueError, RuntimeError, MemoryError) as error:
        text = " ".join(str(error).split())
        if isinstance(error, MemoryError) or "alloc" in text.lower() or "memory" in text.lower():
            what = f"{path}: not enough memory to read it ({text[:160]})"
            raise PluginError(f"{what}; free some, or raise the limit (ulimit -d, ulimit -v)") from None
        raise PluginError(f"{path}: expected a safetensors file, but it cannot be read: {text}") from None


def check_container(path: Path, limit: int) -> None:
    """Refuse a file that is too long, or whose header is, before anything reads it.

    Raises:
        PluginError: it is.
    """
    _check_size(path, limit)
    _check_header(path)


def tensors_of(path: Path, file: Any) -> dict[str, Tensor]:
    """All tensors of an open container, if there are not too many and each is of numbers that a plugin may hold.

    Raises:
        PluginError: another kind of numbers, or more than ``MAX_TENSORS``.
    """
    return {name: _tensor(path, file, name) for name in _names(path, file.keys())}


def _check_header(path: Path) -> None:
    """The length of the container's header stands in its first eight bytes; it is read whole."""
    with path.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
    if length > MAX_HEADER_BYTES and length <= path.stat().st_size:
        raise PluginError(f"{path}: expected a header of at most {MAX_HEADER_BYTES} bytes, got {length}: not a plugin")


def _header_of(path: Path, metadata: Mapping[str, str]) -> str:
    if HEADER_KEY not in metadata:
        raise PluginError(f"{path}: expected a plugin with the header key {HEADER_KEY!r}, got a plain safetensors file")
    others = sorted(set(metadata) - {HEADER_KEY})
    if others:
        more = f"got {len(others)} more, such as '{shown(others[0])}'"
        raise PluginError(f"{path}: expected the header key {HEADER_KEY!r} alone, {more}")
    return metadata[HEADER_KEY]


def _names(path: Path, names: Sequence[str]) -> list[str]:
    if len(names) > MAX_TENSORS:
        raise PluginError(f"{path}: expected at most {MAX_TENSORS} tensors, got {len(names)}: not a plugin")
    return list(names)


def _tensor(path: Path, file: Any, name: str) -> Tensor:
    kind = file.get_slice(name).get_dtype()
    if kind not in DTYPES:
        known = ", ".join(sorted(DTYPES))
        raise PluginError(f"{path}: expected floating-point tensors ({known}), {shown(name)} is {kind}")
    return file.get_tensor(name)


def _check_size(path: Path, limit: int) -> None:
    if path.stat().st_size > limit:
        raise PluginError(f"{path}: expected at most {limit} bytes, got {path.stat().st_size}: not a plugin")
