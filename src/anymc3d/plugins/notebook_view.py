"""How a plugin looks in a notebook: what it answers, what it was made of, and its results on validation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from anymc3d.page.answers import meter
from anymc3d.page.document import Markup, paragraph, table
from anymc3d.page.notebook import cell
from anymc3d.plugins.evidence import chosen_on, doubts_of
from anymc3d.plugins.method_words import method_of
from anymc3d.printable import shown

if TYPE_CHECKING:
    from anymc3d.plugins.file import Plugin

HEADLINE = {"auroc": "AUROC", "mae": "mean absolute error"}
MOST_ROWS = 30
COLUMNS = ("Label", "Result", "95 % interval", "Cases", "0 to 1")


def html_of(plugin: Plugin) -> str:
    """The piece of HTML that a notebook shows; texts of the file are shown as text."""
    return cell(f"Plugin {shown(plugin.card.name)}", _parts(plugin))


def _parts(plugin: Plugin) -> Iterator[str]:
    card = plugin.card
    count = sum(tensor.numel() for tensor in plugin.tensors.values())
    labels = ", ".join(map(shown, card.labels.output_names[:MOST_ROWS]))
    facts = [
        ("Labels", f"{labels} ({card.labels.kind})"),
        ("Method", "; ".join(dict.fromkeys(map(method_of, [member.card for member in card.members] or [card])))),
        ("Backbone", "none" if card.backbone is None else shown(card.backbone.name)),
        ("Parameters", f"{count:,}"),
        ("Cases", ", ".join(f"{name} {of['cases']}" for name, of in card.split.items() if isinstance(of, Mapping))),
        ("Hash", plugin.hash[:12]),
    ]
    yield table("", ("What", "Value"), [row for row in facts if row[1]])
    yield from (paragraph(f"{doubt[0].upper()}{doubt[1:]}.", "warning") for doubt in doubts_of(card))
    rows = list(_results(card.out_of_fold))
    if rows:
        yield table("On cases that were each answered without them", COLUMNS, rows[:MOST_ROWS])
    rows = list(_results(card.metrics))
    if rows:
        yield table(f"On {chosen_on(card)}", COLUMNS, rows[:MOST_ROWS])
    if not card.is_calibrated and not card.labels.is_number:
        yield paragraph("Its probabilities are not calibrated.", "quiet")


def _results(metrics: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, ...]]:
    for row in metrics:
        if row["metric"] in HEADLINE and row["group"] == "all" and row["value"] is not None:
            low, high = row["ci_low"], row["ci_high"]
            interval = str(row["reason"]) if low is None or high is None else f"{low:.3f} to {high:.3f}"
            name = f"{HEADLINE[row['metric']]} {row['value']:.3f}"
            yield shown(row["label"]), name, shown(interval), str(row["n"]), _picture(row)


def _picture(row: Mapping[str, Any]) -> str:
    if row["metric"] != "auroc":
        return ""
    band = None if row["ci_low"] is None or row["ci_high"] is None else (row["ci_low"], row["ci_high"])
    return Markup(meter(row["value"], band=band))
