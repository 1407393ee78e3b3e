"""Everything there is to compare, with parameters counted from built modules (docs/method.md): AnyMC3D and the zoo."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache

import torch
from torch import nn

from anymc3d.errors import UsageError
from anymc3d.models.architectures import empty_backbone
from anymc3d.models.backbones import BACKBONES, BackboneCard
from anymc3d.models.decoders.table import DECODERS
from anymc3d.models.fusion import FUSIONS, build_fusion
from anymc3d.models.heads import HEADS
from anymc3d.models.lora import LoRA
from anymc3d.models.meta_device import without_memory
from anymc3d.models.plain import PLAIN
from anymc3d.models.vit import VisionTransformer
from anymc3d.models.zoo.entry import count_parameters
from anymc3d.models.zoo.table import methods_table
from anymc3d.pandx.network import METHOD
from anymc3d.recipes.recipe import PAPER
from anymc3d.settings.training import MethodSettings

Record = dict[str, str | int | None]

STRUCTURES = 6
"""Structures of the masks that a decoder is counted for: those of the pancreas task (supplement B2)."""


def list_systems(num_logits: int = 2) -> list[Record]:
    """One record per system: name, trainable_parameters, total_parameters, weights, licence, citation,
    left_out (what belongs to the published system and is not here).

    ``anymc3d/<backbone>[/<fusion>]`` and ``frozen/<backbone>`` (query where no fusion is named); with ``+<decoder>``
    what a decoder adds in training, which the plugin does not keep; then every network of the zoo by its own name,
    PanDx, whose networks are nnU-Net's, and the plain methods.
    """
    cards = [card for card in BACKBONES.values() if card.origin != "random"]
    ours = [record for card in cards for record in _on_backbone(card, num_logits)]
    return [*ours, *methods_table(num_logits), METHOD, *_plain()]


def _plain() -> Iterator[Record]:
    """Methods without a network; how many numbers they weigh depends on the data."""
    for name, method in PLAIN.items():
        yield {
            "name": name,
            "trainable_parameters": None,
            "total_parameters": None,
            "weights": f"no network: {method.summary}",
            "licence": "Apache-2.0",
            "citation": "docs/plain.md",
            "left_out": "",
        }


def choose_systems(records: list[Record], words: Sequence[str]) -> list[Record]:
    """The records whose name has every word, in upper or lower case.

    Raises:
        UsageError: no name has them all.
    """
    chosen = [record for record in records if all(word.lower() in str(record["name"]).lower() for word in words)]
    if not chosen:
        raise UsageError(
            f"--list-methods {' '.join(words)}: no name has {'all of these words' if len(words) > 1 else 'this word'}; "
            "'anymc3d benchmark --list-methods' lists all names"
        )
    return chosen


def group_of(record: Record) -> str:
    """The heading under which a record stands in the list for people."""
    name = str(record["name"])
    if name.startswith("frozen/"):
        return "A head on a frozen backbone"
    if name.startswith("anymc3d/"):
        return "AnyMC3D, with a decoder of masks in training" if "+" in name else "AnyMC3D: backbone and fusion"
    return "Methods without a network" if name in PLAIN else "Other networks"


def system_lines(records: list[Record]) -> list[str]:
    """The records as a table for people, in groups; each line of a system begins with its name."""
    head = ("name", "trainable", "total", "weights", "licence")
    groups: dict[str, list[tuple[str, ...]]] = {}
    for record in records:
        counts = (_counted(record["trainable_parameters"]), _counted(record["total_parameters"]))
        row = (str(record["name"]), *counts, str(record["weights"]), str(record["licence"]))
        groups.setdefault(group_of(record), []).append(row)
    rows = [head, *(row for group in groups.values() for row in group)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = [_aligned(head, widths)]
    for heading, group in groups.items():
        lines += ["", f"{heading} ({len(group)})", *(_aligned(row, widths) for row in group)]
    return lines


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = enumerate(zip(row, widths, strict=True))
    return "  ".join(
        cell.rjust(width) if column in (1, 2) else cell.ljust(width) for column, (cell, width) in cells
    ).rstrip()


def left_out_lines(records: list[Record]) -> list[str]:
    """What of published systems is not here, one line each."""
    return [f"{record['name']}: {record['left_out']}" for record in records if record["left_out"]]


def _counted(number: object) -> str:
    return f"{number:,}" if isinstance(number, int) else ""


def _on_backbone(card: BackboneCard, num_logits: int) -> Iterator[Record]:
    network = empty_backbone(card.config)
    frozen = count_parameters(network, trainable=False)
    lora = _count(LoRA(network, rank=MethodSettings.rank, alpha=MethodSettings.alpha, generator=torch.Generator()))

    def record(name: str, trainable: int) -> Record:
        return {
            "name": name,
            "trainable_parameters": trainable,
            "total_parameters": frozen + trainable,
            "weights": f"{card.title}, frozen",
            "licence": card.licence,
            "citation": PAPER,
            "left_out": "",
        }

    query = lora + _fusion_and_head("query", network.embed_dim, num_logits)
    yield record(f"anymc3d/{card.name}", query)
    for fusion in FUSIONS:
        if fusion != "query":
            trainable = lora + _fusion_and_head(fusion, network.embed_dim, num_logits)
            yield record(f"anymc3d/{card.name}/{fusion}", trainable)
    yield record(f"frozen/{card.name}", query - lora)
    if isinstance(network, VisionTransformer):
        for decoder, build in DECODERS.items():
            with without_memory():
                added = _count(build(network, STRUCTURES, None, torch.Generator()))
            yield record(f"anymc3d/{card.name}+{decoder}", query + added)


@cache
def _fusion_and_head(fusion: str, width: int, num_logits: int) -> int:
    with without_memory():
        module = build_fusion(fusion, width, torch.Generator())
        return _count(module) + _count(HEADS["linear"](module.out_dim, num_logits, torch.Generator()))


def _count(module: nn.Module) -> int:
    return count_parameters(module, trainable=True)
