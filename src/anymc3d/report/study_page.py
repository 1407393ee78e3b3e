"""The page of one study."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from anymc3d.evaluate.calibration import State
from anymc3d.evaluate.operating_points import OperatingPoint
from anymc3d.explain.folder import NOTICE
from anymc3d.explain.methods import METHODS
from anymc3d.page.answers import all_alike, meter, slice_bars
from anymc3d.page.document import (
    RESEARCH_ONLY,
    Markup,
    data_url,
    document,
    listing,
    paragraph,
    section,
    table,
)
from anymc3d.page.plot_style import PLOT_STYLE
from anymc3d.plugins.evidence import evidence_of, in_words, split_in_words
from anymc3d.predict.ood_warnings import NOT_TO_BE_USED
from anymc3d.printable import escape
from anymc3d.report.card import card_section
from anymc3d.report.planes import over_scan
from anymc3d.report.study import StudyFacts, threshold_of
from anymc3d.report.viewer import viewer
from anymc3d.report.viewer_script import VIEWER_SCRIPT, VIEWER_STYLE
from anymc3d.report.volumes import jpeg
from anymc3d.version import __version__

GENERATOR = f"anymc3d report {__version__}"
NOT_SHOWN = "Do not use: this plugin is not shown to be better than chance"
NOT_A_SHARE = "0.9 does not mean that nine of ten such cases are positive. Read them against the operating point alone."
CALIBRATION: Mapping[State, str] = {
    "calibrated": "calibrated: slope and shift were fitted to outcomes of other cases.",
    "scaled": f"scaled only, not calibrated: a slope was fitted, and no shift. {NOT_A_SHARE}",
    "shifted": "shifted only, not calibrated: 0.5 was put on the operating point, and there were too few cases to fit "
    f"more. {NOT_A_SHARE}",
    "none": f"not calibrated: {NOT_A_SHARE}",
}
"""What is said of the probabilities, after "The probabilities are"."""
_MAX_PICTURES = 12
_MOST_EVIDENCE = 4

STYLE = """
.meter { width: 100%; min-width: 3rem; max-width: 12rem; height: 1rem; display: block; margin: .1rem 0 0 auto; }
.meter .frame { fill: none; stroke: var(--quiet); }
.meter .mark { stroke: var(--text); stroke-width: 1.5; }
.yes { font-weight: 700; } .attention svg text { font-size: 12px; }
.bars { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(17rem, 100%), 1fr)); gap: 1rem 2rem; }
.attention { max-width: 30rem; }
.attention rect { fill: var(--bar); }
.attention .even { stroke: var(--quiet); stroke-dasharray: 3 3; } .shown { max-width: 100%; height: auto; }
"""


def study_page(facts: StudyFacts) -> str:
    """Return the whole page."""
    title = f"Case {facts.case}, plugin {facts.plugin}"
    body = [
        f"<header>\n<h1>{escape(title)}</h1>",
        _verdict(facts),
        f"<p><strong>{RESEARCH_ONLY}</strong></p>\n</header>\n<main>",
        section("answer", "Answer", *_answer(facts)),
        section("warnings", "Warnings", *_warnings(facts)),
        section("heat", "Where the classifier looked", *_heat(facts)),
        section("slices", "Attention along the slices", *_attention(facts)) if facts.slice_weights else "",
        card_section(facts.card, facts.plugin, facts.plugin_hash),
        f"</main>\n<footer><p>anymc3d {escape(__version__)}. {RESEARCH_ONLY}</p></footer>",
    ]
    script = VIEWER_SCRIPT if facts.maps else ""
    style = PLOT_STYLE + STYLE + VIEWER_STYLE
    return document(title=title, generator=GENERATOR, identity=facts.identity, body=body, style=style, script=script)


def _verdict(facts: StudyFacts) -> str:
    if facts.unlike_training:
        # Before anything of the answer: "no label is positive" would read as a finding.
        return f'<p class="verdict warning">{escape(NOT_TO_BE_USED)} ({escape("; ".join(facts.unlike_training))})</p>'
    if facts.unproven >= set(facts.labels):
        return f'<p class="verdict warning">{escape(". ".join([NOT_SHOWN, *_first_result(facts)]))}</p>'
    is_fine = facts.status == "ok" and not facts.doubts
    tone, state = ("note", "no warnings") if is_fine else ("warning", "with warnings, see below")
    return f'<p class="verdict {tone}">{escape(_headline(facts))} ({state})</p>'


def _first_result(facts: StudyFacts) -> list[str]:
    """The result of a single label; those of several are shown below."""
    rows = [] if facts.card is None else evidence_of(facts.card)
    return [in_words(rows[0])] if len(rows) == 1 else []


def _headline(facts: StudyFacts) -> str:
    if facts.values:
        return "; ".join(f"{name}: {value:.4g}" for name, value in facts.values.items())
    doubted = dict.fromkeys(facts.unproven, ", not shown to be better than chance")
    decided = [
        f"{name} ({facts.probabilities[name]:.2f}{doubted.get(name, '')})"
        for name in facts.labels
        if facts.decisions[name]
    ]
    if facts.card is not None and facts.card.labels.one_of_classes:
        return f"Decided: {', '.join(decided)}"
    highest = max(facts.labels, key=lambda name: facts.probabilities[name])
    none = f"No label is positive (highest: {highest}, {facts.probabilities[highest]:.2f})"
    return f"Positive: {', '.join(decided)}" if decided else none


def _answer(facts: StudyFacts) -> Iterator[str]:
    yield from _evidence(facts)
    if facts.values:
        yield from _numbers(facts)
        return
    yield from _calibration(facts)
    if facts.meaning:
        yield paragraph(facts.meaning)
    chooses = facts.card is not None and facts.card.labels.one_of_classes
    words = ("not decided", Markup('<span class="yes">decided</span>'))
    words = words if chooses else ("negative", Markup('<span class="yes">positive</span>'))
    rows, origins = [], {}
    for name in facts.labels:
        threshold = None
        if facts.card is not None:
            point, threshold = threshold_of(facts.card, name)
            origins[name] = _origin(point)
        # The bar stands below its number: a column of its own would not be in sight on a phone.
        value = facts.probabilities[name]
        picture = Markup(f"{value:.3f} {meter(value, threshold)}")
        threshold_text = "" if threshold is None else f"{threshold:.3f}"
        rows.append((name, words[bool(facts.decisions[name])], picture, threshold_text))
    columns = ("Label", "Decision", "Probability", "Operating point")
    yield table("Probabilities and decisions", columns, rows, numbers=(2, 3))
    if facts.card is None:
        yield paragraph("The operating points are in the plugin's file; give it with -p to see them.", "quiet")
    elif chooses:
        yield paragraph("The largest probability decides.", "quiet")
    else:
        yield paragraph("At or above its operating point, the line across its bar, a label is positive.", "quiet")
        for text in dict.fromkeys(origins.values()):
            names = ", ".join(name for name, origin in origins.items() if origin == text)
            yield paragraph(f"Operating point of {names}: {text}.", "quiet")


def _evidence(facts: StudyFacts) -> Iterator[str]:
    """How good the plugin was on cases that it was not trained on."""
    rows = [] if facts.card is None else evidence_of(facts.card)
    if rows:
        sentences = [f"{row['label']}, {in_words(row)}" for row in rows[:_MOST_EVIDENCE]]
        more = f"; and {len(rows) - _MOST_EVIDENCE} more labels, below" if len(rows) > _MOST_EVIDENCE else ""
        yield paragraph(f"How good the plugin was found to be: {'; '.join(sentences)}{more}.")


def _numbers(facts: StudyFacts) -> Iterator[str]:
    if facts.meaning:
        yield paragraph(facts.meaning)
    scale = None if facts.card is None else facts.card.number
    trained = "" if scale is None else f"{scale.low:g} to {scale.high:g}"
    rows = [(name, f"{value:.4g}", trained) for name, value in facts.values.items()]
    yield table("Predicted numbers", ("Label", "Predicted", "Training cases"), rows, numbers=(1,))


def _calibration(facts: StudyFacts) -> Iterator[str]:
    """A sentence, or one per kind of labels where they are not of one kind; and what was done in place of a fit."""
    states = {name: facts.calibration.get(name, "none") for name in facts.labels}
    for state in dict.fromkeys(states.values()):
        names = [name for name, case_state in states.items() if case_state == state]
        whose = "" if len(names) == len(states) else f" of {', '.join(names)}"
        yield paragraph(f"The probabilities{whose} are {CALIBRATION[state]}")
    if facts.card is not None and facts.card.calibration is not None:
        for text in facts.card.calibration.notes():
            yield paragraph(f"Calibration of {text}.", "quiet")


def _origin(point: OperatingPoint | None) -> str:
    if point is None:
        return "probability 0.5, as none was chosen"
    cases = f"{point.n} {split_in_words(point.source_split)}, {point.n_positive} of them positive"
    return f"{point.criterion}, chosen on {cases}"


def _warnings(facts: StudyFacts) -> Iterator[str]:
    lines = [line for line in facts.message.split("; ") if line]
    lines += [f"the plugin: {doubt}" for doubt in facts.doubts]
    yield listing(lines) if lines else paragraph("None.")
    if facts.card is None:
        yield paragraph("The plugin's file was not given, so its card and operating points are not shown.")


def _heat(facts: StudyFacts) -> Iterator[str]:
    summary = METHODS[facts.method].summary if facts.method in METHODS else ""
    if facts.card is not None and facts.card.why_no_heatmap:
        yield paragraph(f"There is no heatmap of this plugin: {facts.card.why_no_heatmap}.")
        return
    views = list(facts.slice_weights)
    over = f", over the views {', '.join(views)} together" if len(views) > 1 else ""
    yield paragraph(f"Method {facts.method}: {summary}{over}." if summary else f"Method {facts.method}{over}.")
    if facts.maps:
        yield viewer(facts)
        yield from _other_scans(facts)
        return
    yield paragraph("The scan was not given (-i), so the pictures are those that 'anymc3d explain' drew.")
    for what, content in facts.pictures[:_MAX_PICTURES]:
        picture = data_url(_smaller(content), "jpeg")
        alt = f"Three planes of the scan, alone and with the heatmap: {what}"
        yield f'<figure><figcaption>{escape(what)}</figcaption><img class="shown" src="{picture}" alt="{escape(alt)}">'
        yield "</figure>"
    if not facts.pictures:
        yield paragraph("The folder holds no pictures.")
    if len(facts.pictures) > _MAX_PICTURES:
        yield paragraph(f"{len(facts.pictures) - _MAX_PICTURES} more pictures are in the folder.")
    yield paragraph(NOTICE.capitalize() + ".")


def _other_scans(facts: StudyFacts) -> Iterator[str]:
    """In a study of several scans, the first label's heatmap on the scans that the sliders do not show."""
    heats = [heat for heat in facts.others if heat.label == facts.first_label]
    if not heats:
        return
    yield f"<h3>The other scans of the study, {escape(facts.first_label)}</h3>"
    yield paragraph(
        "Each with the heatmap of its own view, through its highest voxel: above the scan alone, below with it.",
        "quiet",
    )
    for heat in heats:
        picture = data_url(over_scan(facts.scans[heat.column], heat, facts.card), "jpeg")
        alt = f"Three planes of the scan of view {heat.view}, alone and with the heatmap of {heat.label}"
        yield f'<figure><figcaption>View {escape(heat.view)}</figcaption><img class="shown" src="{picture}" '
        yield f'alt="{escape(alt)}"></figure>'


def _smaller(content: bytes) -> bytes:
    """A picture of the explain folder as JPEG."""
    import io

    import numpy as np
    from PIL import Image

    with Image.open(io.BytesIO(content)) as image:
        return jpeg(np.asarray(image.convert("RGB")))


def _attention(facts: StudyFacts) -> Iterator[str]:
    if len(facts.slice_weights) > 1:
        shares = ", ".join(f"{view} {weight:.0%}" for view, weight in facts.view_weights.items())
        yield paragraph(f"Weight of the views: {shares}.")
    drawn = any(not all_alike(weights) for weights in facts.slice_weights.values())
    yield paragraph(
        "How much each slice, as the plugin sees it, counts in the answer; the same for all labels."
        + (" The weights of a view add up to 1; the dashed line is an even share." if drawn else ""),
    )
    yield '<div class="bars">'
    yield from (slice_bars(view, list(weights), facts.direction(view)) for view, weights in facts.slice_weights.items())
    yield "</div>"
