"""``README.md`` of a shared plugin: the Hugging Face Hub's model card, made from the plugin's own card alone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from anymc3d.models.backbones import BACKBONES
from anymc3d.plugins.card import INTENDED_USE, PluginCard
from anymc3d.plugins.describe import describe
from anymc3d.plugins.file import Plugin

PAPER = "https://arxiv.org/abs/2512.12887"
METRICS = ("auroc", "average_precision", "accuracy", "mae", "r2")
"""Metrics of the validation split that the front matter lists."""
_LICENCES = {
    name: name
    for name in ("apache-2.0", "mit", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "gpl-3.0")
}


def hub_page(plugin: Plugin, path: Path, name: str, sha256: str, signed_by: str | None) -> str:
    """The page: front matter for the hub's search, then what ``anymc3d plugin show`` says, and how to use it.

    ``path``: of the plugin, for its size alone; ``name``: of the file beside the page.
    """
    card = plugin.card
    front = yaml.safe_dump(_front_matter(card), sort_keys=False, allow_unicode=True, width=100)
    signed = f" --signed-by {signed_by}" if signed_by else ""
    on_backbone = ": one task on a frozen backbone, which is not in this file" if card.backbone else ""
    use = [
        f"anymc3d plugin pull SOURCE -o {name} --sha256 {sha256}{signed}",
        f"anymc3d predict -p {name} -i scan.nii.gz -o answers",
    ]
    return "\n".join(
        [
            f"---\n{front}---",
            f"\n# {_plain(card.name)}\n",
            f"{INTENDED_USE}\n",
            f"A plugin of [anymc3d]({PAPER}){on_backbone}. It is data; nothing in it can run.\n",
            *_block(use),
            *_block(describe(plugin, path)),
        ]
    )


def _front_matter(card: PluginCard) -> dict[str, Any]:
    licence = _LICENCES.get(card.licence.lower())
    front: dict[str, Any] = {"license": licence or ("unknown" if card.licence == "unspecified" else "other")}
    if front["license"] == "other":
        front["license_name"] = card.licence
    front |= {
        "library_name": "anymc3d",
        "tags": ["anymc3d", "medical-imaging", "3d-classification", card.kind, card.modality.lower()],
    }
    if not card.labels.is_number:
        front["pipeline_tag"] = "image-classification"
    known = [part.backbone.name for part in (card, *(m.card for m in card.members)) if part.backbone is not None]
    bases = [BACKBONES[name].source for name in dict.fromkeys(known) if name in BACKBONES]
    bases = [base for base in bases if re.fullmatch(r"[\w.-]+/[\w.-]+", base)]
    if bases:
        front |= {"base_model": bases, "base_model_relation": "adapter"}
    results = _results(card)
    if results:
        task = {"type": "image-classification", "name": f"{card.labels.kind} classification"}
        data = {"type": "private", "name": "validation split of the training data (optimistic)"}
        front["model-index"] = [
            {"name": _plain(card.name), "results": [{"task": task, "dataset": data, "metrics": results}]}
        ]
    return front


def _results(card: PluginCard) -> list[dict[str, Any]]:
    return [
        {"type": str(row["metric"]), "name": f"{row['metric']} of {row['label']}", "value": float(row["value"])}
        for row in card.metrics
        if row["metric"] in METRICS and row["group"] == "all" and row["value"] not in ("", None)
    ]


def _block(lines: list[str]) -> list[str]:
    """As indented code, in which nothing of a plugin's texts is markup."""
    return [*(f"    {line}".rstrip() for line in lines), ""]


def _plain(text: str) -> str:
    return re.sub(r"[^\w .,()+-]", "_", text)
