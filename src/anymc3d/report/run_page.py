"""The page of a training run or of an evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from anymc3d.evaluate.regression.pictures import NUMBERS
from anymc3d.evaluate.study_rows import ALL
from anymc3d.explain.folder import NOTICE
from anymc3d.page.document import RESEARCH_ONLY, data_url, document, listing, paragraph, section, table, tiles
from anymc3d.page.plot_style import PLOT_STYLE
from anymc3d.page.plots import Line, Plot, draw
from anymc3d.plugins.evidence import CHANCE, OUT_OF_FOLD, doubts_of, is_shown, unproven
from anymc3d.printable import escape
from anymc3d.report.card import card_section
from anymc3d.report.figures import cell_of, metric_tables, subgroup_tables
from anymc3d.report.hardest_cases import HardCase
from anymc3d.report.run import CurveFacts, FiguresFacts, HardFacts
from anymc3d.report.study_page import GENERATOR
from anymc3d.version import __version__

STYLE = """
.hard img { max-width: 100%; height: auto; display: block; margin-top: .4rem; background: #000; }
.charts { grid-template-columns: repeat(auto-fit, minmax(17rem, 1fr)); }
"""
KINDS: Mapping[str, tuple[str, str, str, str]] = {
    "roc": ("ROC", "1 - specificity", "sensitivity", "auroc"),
    "pr": ("Precision-recall", "recall (sensitivity)", "precision (PPV)", "average_precision"),
    NUMBERS: ("Predicted and true", "mean predicted", "mean true", "mae"),
    "reliability": ("Reliability", "mean predicted probability", "share of positives", "expected_calibration_error"),
}
"""Kind of curve -> title, axes, and the metric beside its name."""
_SHORT = {"auroc": "AUROC", "average_precision": "AP", "expected_calibration_error": "calibration error", "mae": "MAE"}
_UNIT = (0.0, 1.0)


def run_page(facts: FiguresFacts) -> str:
    """Return the whole page."""
    what = {"run": "Training run", "quick": "First answer (train --quick)", "evaluation": "Evaluation"}[facts.kind]
    title = f"{what}: {facts.name}" if facts.name else what
    body = [
        f"<header>\n<h1>{escape(title)}</h1>",
        _verdict(facts),
        f"<p><strong>{RESEARCH_ONLY}</strong></p>\n</header>\n<main>",
        section("training", "Training", *_training(facts)) if facts.log else "",
        section("found", "What was found", *_found(facts)) if facts.found else "",
        section("figures", "Results", *_figures(facts)),
        section("curves", "Curves", *_curves(facts)),
        section("hardest", "Most confident errors", *_hardest(facts.hard)),
        "" if facts.card is None else card_section(facts.card, facts.name, facts.plugin_hash, with_figures=False),
        f"</main>\n<footer><p>anymc3d {escape(__version__)}. {RESEARCH_ONLY}</p></footer>",
    ]
    return document(title=title, generator=GENERATOR, identity=facts.identity, body=body, style=PLOT_STYLE + STYLE)


def _verdict(facts: FiguresFacts) -> str:
    unsure, says = _unsure(facts)
    doubt = f". {says}: {', '.join(unsure)}" if unsure else ""
    kind = "warning" if unsure else "note"
    return f'<p class="verdict {kind}">{escape(_headline(facts))}{escape(doubt)}</p>'


def _unsure(facts: FiguresFacts) -> tuple[list[str], str]:
    """Labels whose answers are not surely better than chance, and what is said of them."""
    if facts.card is not None:
        return list(unproven(facts.card)), "Not shown to be better than chance, so do not use it"
    rows = [row for row in facts.rows if row["metric"] in CHANCE and row["group"] == ALL and row["label"] != "macro"]
    unsure = dict.fromkeys(str(row["label"]) for row in rows if not is_shown(row))
    return list(unsure), "Not shown to be better than chance on these cases"


def _headline(facts: FiguresFacts) -> str:
    rows = [row for row in facts.rows if row["metric"] == "auroc" and row["group"] == ALL]
    row = next((row for row in rows if row["label"] == "macro"), rows[0] if rows else None)
    number = next((row for row in facts.rows if row["metric"] == "mae" and row["group"] == ALL), None)
    which = "all cases" if facts.split in ("", ALL) else f"the {facts.split} split"
    which = "the cases out of fold" if facts.split == OUT_OF_FOLD else which
    if row is None and number is not None:
        return f"Mean absolute error of {number['label']} on {which}: {cell_of(number)}"
    if row is None:
        return f"Results of {which}"
    of = "mean over labels" if row["label"] == "macro" else str(row["label"])
    return f"AUROC of {of} on {which}: {cell_of(row)}"


def _found(facts: FiguresFacts) -> Iterator[str]:
    """What ``train --quick`` printed, and its learning curve."""
    yield listing(facts.found)
    picture, name = data_url(facts.picture, "png"), "Learning curve: the result over the number of training cases"
    yield f'<figure class="hard"><figcaption>{name}</figcaption><img src="{picture}" alt="{name}, with intervals">'
    yield "</figure>"


def _training(facts: FiguresFacts) -> Iterator[str]:
    log, last = facts.log, facts.log[-1]
    seconds = sum(float(row["seconds"]) for row in log if row.get("seconds"))
    yield tiles(
        [
            ("epochs", str(sum(row["epoch"] != "0" for row in log))),
            ("best epoch", last.get("best_epoch", "")),
            ("chosen by", last.get("selection", "")),
            ("time", f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"),
        ]
    )
    plots = [
        ("Loss", "loss", {"train_loss": "training", "val_loss": "validation"}),
        ("AUROC on validation", "AUROC", {"val_auroc": "validation"}),
    ]
    yield '<div class="charts">'
    for title, y_name, columns in plots:
        lines = [
            Line(name=f"{name}, last {_short(points[-1][1])}", points=points)
            for column, name in columns.items()
            if (points := _series(log, column))
        ]
        if lines:
            low = min(y for line in lines for _, y in line.points)
            y_range = (min(0.5, low), 1.0) if y_name == "AUROC" else None
            yield draw(Plot(title=title, x_name="epoch", y_name=y_name, lines=lines, whole_x=True, y_range=y_range))
    yield "</div>"
    logged = [
        name for name in ("epoch", "train_loss", "val_loss", "val_auroc", "best_epoch", "seconds") if name in last
    ]
    names = {"epoch": "Epoch", "train_loss": "Training loss", "val_loss": "Validation loss"} | {
        "val_auroc": "Validation AUROC",
        "best_epoch": "Best so far",
        "seconds": "Seconds",
    }
    rows = [[_short(row[name]) for name in logged] for row in log]
    full = table("Epochs", [names[name] for name in logged], rows, numbers=range(len(logged)))
    yield f"<details><summary>Every epoch as a table</summary>{full}</details>"


def _series(log: Sequence[Mapping[str, str]], column: str) -> list[tuple[float, float]]:
    return [(float(row["epoch"]), float(row[column])) for row in log if row.get(column)]


def _short(value: object) -> str:
    return f"{float(str(value)):.4g}" if value not in ("", None) else ""


def _figures(facts: FiguresFacts) -> Iterator[str]:
    if facts.kind == "run":
        yield paragraph(
            "Of the validation split, on which the best epoch and the operating point were chosen: they flatter the "
            "plugin. Results to quote are those of 'anymc3d evaluate' on test cases."
        )
    if facts.kind == "quick":
        yield paragraph(
            "Out of fold: each case of the training and validation splits was answered by a fit that never saw it, and "
            "decided at a probability of 0.5. The plugin itself is fitted on the training split."
        )
    if facts.card is not None and doubts_of(facts.card):
        yield listing(f"The plugin: {doubt}" for doubt in doubts_of(facts.card))
    for line in facts.meanings:
        yield paragraph(line)
    if facts.warnings:
        yield listing(facts.warnings)
    yield metric_tables(facts.rows)
    yield subgroup_tables(facts.rows)


def _curves(facts: FiguresFacts) -> Iterator[str]:
    if not facts.curves:
        yield paragraph("None: no label has both outcomes among the cases.")
        return
    yield paragraph(
        "Bands and bars are 95 % intervals. Dotted: what chance gives (ROC), or probabilities that are right "
        "(reliability). Larger dots hold more cases."
    )
    values = {
        (row["metric"], row["label"], row["plugin"]): row
        for row in facts.rows
        if row["group"] == ALL and not row["operating_point"]
    }
    several = len({curve.plugin for curve in facts.curves}) > 1
    for label in dict.fromkeys(curve.label for curve in facts.curves):
        yield f'<h3>{escape(label)}</h3><div class="charts">'
        for kind, (title, x_name, y_name, metric) in KINDS.items():
            of_kind = [curve for curve in facts.curves if curve.kind == kind and curve.label == label]
            lines = [_line(curve, metric, values, several) for curve in of_kind]
            reference = ((0.0, 0.0), (1.0, 1.0)) if kind != "pr" else ()
            span = _UNIT
            if kind == NUMBERS and lines:
                ends = [value for line in lines for point in line.points for value in point]
                span = (min(ends), max(ends))
                reference = ((span[0], span[0]), (span[1], span[1]))
            if lines:
                plot = Plot(
                    title=title,
                    x_name=x_name,
                    y_name=y_name,
                    lines=lines,
                    x_range=span,
                    y_range=span,
                    reference=reference,
                )
                yield draw(plot)
        yield "</div>"


def _line(
    curve: CurveFacts, metric: str, values: Mapping[tuple[object, ...], Mapping[str, object]], several: bool
) -> Line:
    figure = cell_of(values.get((metric, curve.label, curve.plugin)))
    name = " ".join(part for part in (curve.plugin if several else "", _SHORT[metric], figure) if part)
    is_reliability = curve.kind == "reliability"
    most = max(curve.sizes, default=1) or 1
    points = curve.points
    if curve.kind == "pr" and points:
        points = ((0.0, points[0][1]), *points)
    return Line(
        name=name,
        points=points,
        band=() if is_reliability else curve.band,
        bars=curve.band if is_reliability else (),
        sizes=[size / most for size in curve.sizes],
        stepped=curve.kind == "pr",
    )


def _hardest(hard: HardFacts) -> Iterator[str]:
    if hard.missing:
        yield paragraph(hard.missing)
        return
    if not hard.cases:
        yield paragraph("No case has both a prediction and a label.")
        return
    if hard.num_wrong == 0:
        yield paragraph("No answer was wrong. These came nearest to it:")
    else:
        yield paragraph(f"{hard.num_wrong} answers were wrong; of these the most confident {len(hard.cases)}:")
    has_heat = any(picture.has_heat for picture in hard.pictures.values())
    what = "the middle planes of the case's first scan"
    if has_heat:
        which = "the label (of several classes: for the one answered)"
        what = f"planes through the highest value of the heatmap for {which}, above without and below with it"
    yield paragraph(
        f"Pictures are {what}, 8 bit, the patient's right on the left. Look here for wrong labels, broken scans and "
        "what the classifier does not understand.",
        "quiet",
    )
    if has_heat:
        yield paragraph(NOTICE.capitalize() + ".", "quiet")
    several = len({case.plugin for case in hard.cases}) > 1
    for case in hard.cases:
        yield _card_of(case, hard, several)


def _card_of(case: HardCase, hard: HardFacts, several: bool) -> str:
    picture = hard.pictures[case.key]
    plugin = f", plugin {case.plugin}" if several else ""
    if picture.jpeg:
        alt = f"Case {case.case}: axial, coronal and sagittal plane through the middle of its scan"
        if picture.has_heat:
            alt = f"Case {case.case}: axial, coronal and sagittal plane, alone and with the heatmap of {case.output}"
        figure = f'<img src="{data_url(picture.jpeg, "jpeg")}" alt="{escape(alt)}">'
    else:
        figure = paragraph(f"No picture: {picture.problem}.", "quiet")
    tone = "error" if case.is_wrong else "note"
    return (
        f'<article class="hard {tone}"><h3>{escape(case.case)}: {escape(case.label)}{escape(plugin)}</h3>'
        f"<p>Truth {escape(case.truth)}, answer {escape(case.answer)}; "
        f"the truth was given probability {case.of_truth:.3f}.</p>"
        f"{figure}</article>"
    )
