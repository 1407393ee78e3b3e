"""A plugin as PEFT folders and back, bit for bit.

One folder per view, ``OUT/<view>/adapter_config.json`` and ``adapter_model.safetensors``, which
``peft.PeftModel.from_pretrained`` reads on a network with the official DINO module names; beside them
``OUT/anymc3d.safetensors`` with what PEFT has no place for (queries, head, card).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from anymc3d.errors import PluginError, UsageError
from anymc3d.files import atomic
from anymc3d.files.containment import inside
from anymc3d.plugins import Plugin, PluginCard, card_to_json, read_card, to_half
from anymc3d.plugins.file import HEADER_KEY, MAX_FILE_BYTES, check_container, tensors_of

REST = "anymc3d.safetensors"
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


def export_peft(plugin: Plugin, out: Path) -> list[Path]:
    """Write ``plugin`` under ``out`` and return the PEFT folders, one per view.

    Raises:
        PluginError: the plugin is an ensemble or has no LoRA, or ``out`` is not empty.
    """
    if plugin.card.kind == "ensemble":
        raise PluginError(f"{plugin.card.name!r} is an ensemble; PEFT has one adapter a folder, export its plugins")
    if plugin.card.holds_network:
        raise PluginError(
            f"{plugin.card.name!r} has no backbone (method {plugin.card.method.name}); PEFT holds adapters only"
        )
    if out.exists() and any(out.iterdir()):
        raise PluginError(f"{out}: expected a new or empty folder, found files in it")
    tensors = to_half(plugin.tensors)
    lora = {name: tensor for name, tensor in tensors.items() if name.startswith("lora.")}
    if not lora:
        raise PluginError(
            f"plugin {plugin.card.name!r} has no LoRA weights to export (method {plugin.card.method.name})"
        )
    folders = []
    for view in plugin.card.views:
        prefix = f"lora.{view}."
        view_lora = {name.removeprefix(prefix): tensor for name, tensor in lora.items() if name.startswith(prefix)}
        folder = inside(out, view)
        atomic.write_json(inside(out, view, CONFIG), _config(plugin.card, view_lora))
        _save(
            inside(out, view, WEIGHTS),
            {_peft_name(name): tensor for name, tensor in view_lora.items()},
            {"format": "pt"},
        )
        folders.append(folder)
    rest = {name: tensor for name, tensor in tensors.items() if name not in lora}
    _save(inside(out, REST), rest, {HEADER_KEY: card_to_json(plugin.card)})
    return folders


def import_peft(folder: Path) -> tuple[PluginCard, dict[str, Tensor]]:
    """Read what :func:`export_peft` wrote.

    Raises:
        PluginError: a file is missing or damaged, or a tensor is none of LoRA's.
    """
    header, tensors = _load(folder, REST)
    if HEADER_KEY not in header:
        raise PluginError(
            f"{folder / REST}: expected the header key {HEADER_KEY!r}; was this folder made by an export?"
        )
    card = read_card(header[HEADER_KEY], str(folder / REST))
    for view in card.views:
        _, weights = _load(folder, view, WEIGHTS)
        tensors |= {f"lora.{view}.{_own_name(name)}": tensor for name, tensor in weights.items()}
    return card, tensors


def _peft_name(name: str) -> str:
    path, _, letter = name.rpartition(".")
    return f"base_model.model.{path}.lora_{letter}.weight"


def _own_name(name: str) -> str:
    path, _, last = name.removeprefix("base_model.model.").removesuffix(".weight").rpartition(".")
    if not name.startswith("base_model.model.") or last not in ("lora_A", "lora_B"):
        raise PluginError(f"expected LoRA tensors such as base_model.model.<module>.lora_A.weight, got {name!r}")
    return f"{path}.{last[-1]}"


def _config(card: PluginCard, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    paths = sorted({name.rpartition(".")[0] for name in tensors})
    return {
        "peft_type": "LORA",
        "base_model_name_or_path": "" if card.backbone is None else card.backbone.name,
        "r": card.method.rank,
        "lora_alpha": card.method.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": paths,
        **({} if card.method.blocks is None else _layers(paths)),
        "inference_mode": True,
    }


def _layers(paths: Sequence[str]) -> dict[str, Any]:
    """Which layers are adapted, of paths such as ``blocks.10.attn.qkv``: the name of their list and their numbers."""
    parts = [path.split(".") for path in paths]
    places = [next(place for place, part in enumerate(split) if part.isdigit()) for split in parts]
    numbers = sorted({int(split[place]) for split, place in zip(parts, places, strict=True)})
    return {"layers_to_transform": numbers, "layers_pattern": parts[0][places[0] - 1]}


def _save(path: Path, tensors: Mapping[str, Tensor], header: dict[str, str]) -> None:
    with atomic.replacing(path) as temporary:
        save_file(dict(tensors), str(temporary), metadata=header)


def _load(folder: Path, *names: str) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        path = inside(folder, *names)
    except UsageError as error:
        raise PluginError(str(error)) from None
    if not path.is_file():
        raise PluginError(f"{path}: expected a file of a PEFT export, found nothing")
    try:
        check_container(path, MAX_FILE_BYTES)
        with safe_open(str(path), framework="pt") as file:
            return file.metadata() or {}, tensors_of(path, file)
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise PluginError(f"{path}: expected a safetensors file, but it cannot be read: {error}") from None
