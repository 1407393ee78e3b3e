"""The plugin's card on a page."""

from __future__ import annotations

from collections.abc import Iterator

from anymc3d.evaluate.task_calibration import states_in_words
from anymc3d.models.plain import PLAIN
from anymc3d.page.document import paragraph, section, table
from anymc3d.plugins.card import INTENDED_USE, PluginCard
from anymc3d.plugins.covariates import in_words
from anymc3d.plugins.evidence import chosen_on
from anymc3d.plugins.method_words import rank_of
from anymc3d.printable import quoted
from anymc3d.report.figures import metric_tables
from anymc3d.settings.views import ViewSettings


def card_section(card: PluginCard | None, name: str, file_hash: str, *, with_figures: bool = True) -> str:
    """Return what the plugin's file says about itself, or that it was not given."""
    if card is None:
        return section("plugin", "Plugin", paragraph(f"{name}. Give its file with -p for its card."))
    rows = [
        ("Name", card.name),
        ("Kind", f"ensemble of {len(card.members)} plugins" if card.members else card.kind),
        ("Labels", f"{', '.join(card.labels.output_names)} ({card.labels.kind})"),
        ("Modality", card.modality),
        *_method(card),
        *((f"View {view}", _view(settings)) for view, settings in card.preprocessing.items()),
        ("Covariates", "; ".join(map(in_words, card.covariates.columns)) if card.covariates else ""),
        ("Calibration", _calibration(card)),
        ("Cases by split", _cases(card)),
        ("Licence", card.licence),
        ("Use", INTENDED_USE),
        ("Its maker says of use", "" if card.intended_use == INTENDED_USE else quoted(card.intended_use)),
        ("Plugin hash", file_hash[:19] or "not known"),
    ]
    says = table("What the plugin's file says", ("What", "Value"), [row for row in rows if row[1]])
    return section("plugin", "Plugin", says, *(_figures(card) if with_figures else ()))


def _method(card: PluginCard) -> Iterator[tuple[str, str]]:
    if card.members and card.is_mixed:
        total = sum(member.weight for member in card.members)
        for member in card.members:
            yield "Member", f"{member.card.name}: {_words(member.card)}, weight {member.weight / total:.3f}"
        return
    if card.plain is not None:
        yield "Method", _words(card)
        return
    if card.backbone is None:
        yield "Method", f"{card.method.name}, a network that holds all its weights"
        return
    blocks = card.method.blocks
    last = "" if blocks is None else " in the last block" if blocks == 1 else f" in the last {blocks} blocks"
    seen = "" if card.features == "class" else f", features {card.features}"
    yield "Method", f"{card.method.name}{rank_of(card)}{last}, fusion {card.fusion}{seen}"
    yield "Backbone", f"{card.backbone.name}, licence {card.backbone.licence}"


def _words(card: PluginCard) -> str:
    """The method of one plugin."""
    if card.plain is not None:
        return f"{card.method.name}, {PLAIN[card.method.name].summary}"
    return f"{card.method.name}, fusion {card.fusion}, features {card.features}"


def _figures(card: PluginCard) -> Iterator[str]:
    if card.out_of_fold:
        yield "<h3>Its results out of fold</h3>"
        yield paragraph("Of cases that were each answered by a fit that never saw them.", "quiet")
        yield metric_tables([dict(row) for row in card.out_of_fold])
    yield f"<h3>Its results on {chosen_on(card)}</h3>"
    if not card.metrics:
        yield paragraph("Its file holds none.")
        return
    yield paragraph(
        "What was chosen on these cases (an epoch, members, the operating point) makes them flatter it.", "quiet"
    )
    yield metric_tables([dict(row) for row in card.metrics])


def _view(view: ViewSettings) -> str:
    x, y, slices = view.size
    parts = [f"{x} × {y} pixels", "every slice" if slices is None else f"{slices} slices", f"plane {view.plane}"]
    if view.field_of_view is not None:
        parts.append(f"{' × '.join(f'{v:g}' for v in view.field_of_view)} mm")
    windows = ", ".join(f"{low:g} to {high:g}" for low, high in view.windows)
    parts.append(f"{view.normalise} {windows}".strip())
    if view.is_standardised:
        parts.append("without the backbone's mean and standard deviation")
    return ", ".join(parts)


def _calibration(card: PluginCard) -> str:
    if card.labels.is_number:
        scale = card.number
        return "a number" if scale is None else f"a number; the training cases have {scale.low:g} to {scale.high:g}"
    states = states_in_words(card.calibration_states)
    if card.calibration is not None:
        fitted = card.calibration
        return f"{fitted.method}, on {fitted.cases} cases of {fitted.split}; probabilities are {states}"
    return f"that of its members; probabilities are {states}" if card.holds_calibration else "none"


def _cases(card: PluginCard) -> str:
    """From the numbers per split."""
    parts = []
    for name, value in card.split.items():
        if isinstance(value, dict) and "cases" in value:
            parts.append(f"{name} {value['cases']}")
    return ", ".join(parts)
