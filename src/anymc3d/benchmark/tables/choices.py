"""Tables 4 to 7 and Figure 7: adaptation strategies, fusions, backbone sizes, DINO versions, decoders."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from anymc3d.benchmark import paper_numbers
from anymc3d.benchmark.paper_numbers import Figure
from anymc3d.benchmark.tables.grid import Grid
from anymc3d.benchmark.tables.lines import pair_up, variant_grid
from anymc3d.benchmark.tables.rows import Results, Row

STRATEGY_OF = {"linear": "linear probing", "lora": "LoRA", "full": "full finetuning"}
FAMILIES = {"medicalnet": "MedicalNet", "voco": "VoCo"}
_SIZE = re.compile(r"(small|base|large)")
_LETTER = {"small": "ViT-S", "base": "ViT-B", "large": "ViT-L"}


def strategies(results: Results) -> Grid:
    """Table 4: one pretrained network, adapted in several ways."""
    variants = pair_up(
        results,
        paper_numbers.STRATEGIES,
        chosen=lambda row: _strategy(row) is not None,
        key=lambda row: _strategy(row) or (),
        printed_key=lambda figure: (figure.system, figure.variant),
        names=list,
    )
    return variant_grid(
        results,
        variants,
        title="Adaptation strategies (Table 4)",
        names=["network", "strategy"],
        printed_tasks=["T4"],
        notes=[paper_numbers.STRATEGY_NOTE],
    )


def _strategy(row: Row) -> tuple[str, str] | None:
    family, _, strategy = row["system"].rpartition("-")
    if family in FAMILIES and strategy in STRATEGY_OF:
        return FAMILIES[family], STRATEGY_OF[strategy]
    if row["system"] == "frozen":
        return f"{row['backbone']}, {row['fusion']}", STRATEGY_OF["linear"]
    if row["system"] == "anymc3d" and row["segmentation"] == "none":
        return f"{row['backbone']}, {row['fusion']}", STRATEGY_OF["lora"]
    return None


def fusions(results: Results) -> Grid:
    """Table 5: how slices become one embedding, all with LoRA on one backbone."""
    titles = {figure.system: figure.variant for figure in paper_numbers.FUSIONS}
    variants = pair_up(
        results,
        paper_numbers.FUSIONS,
        chosen=_is_plain,
        key=lambda row: (row["fusion"],),
        printed_key=lambda figure: (figure.system,),
        names=lambda key: [titles.get(key[0], key[0])],
    )
    return variant_grid(
        results,
        variants,
        title="Slice fusion (Table 5)",
        names=["fusion"],
        printed_tasks=["T5"],
        notes=["trainable: of the whole plugin; printed: of the fusion alone, on ViT-L"],
    )


def sizes(results: Results) -> Grid:
    """Table 6: one family of backbones in several sizes."""
    return _by_backbone(
        results,
        paper_numbers.SIZES,
        title="Backbone sizes (Table 6)",
        names=["size", "backbone"],
        first=lambda backbone: _LETTER.get(_found(_SIZE, backbone), backbone),
        tasks=["T3", "T5", "T7"],
    )


def versions(results: Results) -> Grid:
    """Table 7: DINOv2 against DINOv3."""
    return _by_backbone(
        results,
        paper_numbers.VERSIONS,
        title="DINO versions (Table 7)",
        names=["version", "backbone"],
        first=lambda backbone: {"dinov2": "DINOv2", "dinov3": "DINOv3"}.get(backbone.partition("-")[0], backbone),
        tasks=["T1", "T2", "T3", "T4"],
    )


def _by_backbone(
    results: Results,
    figures: Sequence[Figure],
    *,
    title: str,
    names: Sequence[str],
    first: Callable[[str], str],
    tasks: Sequence[str],
) -> Grid:
    variants = pair_up(
        results,
        figures,
        chosen=lambda row: _is_plain(row) and row["fusion"] == "query",
        key=lambda row: (row["backbone"],),
        printed_key=lambda figure: (figure.system,),
        names=lambda key: [first(key[0]), key[0]],
    )
    return variant_grid(
        results, variants, title=title, names=names, printed_tasks=tasks, notes=[paper_numbers.VERSION_NOTE]
    )


def decoders(results: Results) -> Grid:
    """Figure 7 as a table: what learning from masks beside the labels brings, by decoder."""
    titles = {figure.system: figure.variant for figure in paper_numbers.DECODERS}
    variants = pair_up(
        results,
        paper_numbers.DECODERS,
        chosen=lambda row: row["system"] == "anymc3d" and row["fusion"] == "query",
        key=lambda row: (row["segmentation"],),
        printed_key=lambda figure: (figure.system,),
        names=lambda key: [titles.get(key[0], key[0])],
    )
    return variant_grid(
        results,
        variants,
        title="Auxiliary segmentation (Figure 7)",
        names=["decoder"],
        printed_tasks=["T5"],
        notes=[paper_numbers.DECODER_NOTE, "trainable: with the decoder, which a plugin does not keep"],
    )


def _is_plain(row: Row) -> bool:
    return row["system"] == "anymc3d" and row["segmentation"] == "none"


def _found(pattern: re.Pattern[str], text: str) -> str:
    match = pattern.search(text)
    return match[1] if match else ""
