"""The results people quote, as one Markdown document; ``metrics.csv`` has all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

from anymc3d.evaluate.covariate_rows import BOTH
from anymc3d.evaluate.regression.summary import differences_table, numbers_table
from anymc3d.evaluate.study import Study
from anymc3d.evaluate.study_points import PLUGIN_POINT
from anymc3d.evaluate.study_rows import ALL, Row
from anymc3d.evaluate.summary_cells import figure, p_value, table
from anymc3d.printable import markdown as markdown_text
from anymc3d.printable import shown
from anymc3d.settings.config import LabelSettings
from anymc3d.settings.decision_text import what_is_positive

NOTICE = "Research use only. Not a medical device."
SEVERITY_NOTE = (
    "One threshold for all lines of a label, chosen on the lowest grade against all others. A threshold chosen on the "
    "evaluated rows themselves is optimistic; it is there to compare with published tables that do so."
)
_FREE = {"auroc": "AUROC", "average_precision": "AP"}
_DECIDED = {"sensitivity": "sensitivity", "specificity": "specificity", "ppv": "PPV", "npv": "NPV"}
_NOT_IN_BRIEF = ("AP", "PPV", "NPV")
_METHODS = {
    "delong_logit": "DeLong on the logit scale",
    "obuchowski_logit": "Obuchowski (DeLong by patient) on the logit scale",
    "delong_paired": "paired DeLong",
    "obuchowski_paired": "paired DeLong by patient (Obuchowski)",
    "wilson": "Wilson",
    "wilson_clustered": "Wilson by patient",
    "wilson_ends": "Wilson's ends of sensitivity and specificity",
    "bootstrap_patient": "bootstrap over patients within outcome strata",
    "bootstrap_patient_unstratified": "bootstrap over patients (averages over labels, numbers)",
    "paired_t": "paired t-test of the absolute errors",
    "paired_t_clustered": "the same by patient",
}


def markdown(study: Study, *, level: float, probabilities: Sequence[str] = ()) -> str:
    """Return the whole document: main table, subgroups, comparisons, what is missing and how intervals were made.

    ``probabilities``: one line per plugin of what may be said of them, where that is known.
    """
    rows = study.rows
    which = "all cases" if study.split == ALL else f"the {study.split} split"
    parts = ["# Evaluation", f"Results of {which}; brackets are {level:.0%} confidence intervals."]
    parts += ["  \n".join(map(markdown_text, [*meanings(study), *probabilities]))]
    if study.numbers is not None:
        parts += [numbers_table(study.numbers.rows, cell=markdown_text)]
        parts += [numbers_table(study.numbers.rows, cell=markdown_text, groups=True)]
        parts += [differences_table(study.numbers.rows, cell=markdown_text)]
    parts += [main_table(study)] if study.plugins else []
    if study.severity_groups:
        parts += ["## Severity", severity_table(study), SEVERITY_NOTE]
    if study.with_covariates:
        parts += ["## Image and covariates", covariates_table(study)]
    parts = [part for part in parts if part]
    of_numbers = set() if study.numbers is None else set(map(id, study.numbers.rows))
    groups = [row for row in rows if id(row) not in of_numbers and row["group"] not in (ALL, *study.severity_groups)]
    if groups:
        parts += ["## Subgroups", table(_lines(groups, with_group=True))]
    pairs = [row for row in rows if row["metric"] == "auroc_difference"]
    if pairs:
        parts += ["## Comparisons", table([_comparison(row, rows) for row in pairs])]
    notes = [f"- {markdown_text(warning)}" for warning in study.warnings] + [
        "- " + markdown_text(f"{row['metric']} of {row['label']} ({row['group']}) is undefined: {row['reason']}")
        for row in rows
        if row["value"] is None and row["metric"] in ("auroc", "sensitivity", "specificity")
    ]
    if notes:
        parts += ["## Notes", "\n".join(dict.fromkeys(notes))]
    methods = dict.fromkeys(str(row["ci_method"]) for row in rows if row["ci_method"])
    if methods:
        parts.append(
            f"Intervals: {'; '.join(_METHODS[name] for name in methods)}. See metrics.csv for each result's own."
        )
    return "\n\n".join([*parts, NOTICE]) + "\n"


def meanings(study: Study) -> list[str]:
    """What a decision of 1 stands for, of every label, once."""
    lines = [what_is_positive(plugin.settings) for plugin in study.plugins if plugin.settings is not None]
    if study.numbers is not None:
        labels = dict.fromkeys(cases.label for _, cases in study.numbers.cases)
        lines += [what_is_positive(LabelSettings(columns=(label,), kind="regression")) for label in labels]
    return list(dict.fromkeys(lines))


def main_table(study: Study, *, brief: bool = False) -> str:
    """Return the table of all cases: one line per plugin, label and operating point; ``brief`` fits a terminal."""
    lines = _lines([row for row in study.rows if row["group"] == ALL], with_group=False)
    left_out = _NOT_IN_BRIEF if brief else ()
    cells = [{title: cell for title, cell in line.items() if title not in left_out} for line in lines]
    return table(cells, cell=shown if brief else markdown_text)


def severity_table(study: Study) -> str:
    """Return the severity tables: the lowest grade against each other one and against all, with one threshold."""
    rows = [row for row in study.rows if row["group"] in study.severity_groups]
    index = {_key(row): row for row in rows}
    lines = []
    for line, row in zip(_lines(rows, with_group=True), _decided(rows), strict=True):
        accuracy = index.get(("accuracy", *_key(row)[1:]))
        cells = {title: line[title] for title in line if title not in ("AP", "PPV", "NPV", "CRG")}
        before = list(cells).index("sensitivity")
        items = list(cells.items())
        lines.append(dict([*items[:before], ("accuracy", figure(accuracy)), *items[before:]]))
    return table(lines)


def covariates_table(study: Study, *, brief: bool = False) -> str:
    """Return what both, the image alone and the covariates alone come to, and the paired differences."""
    cell = shown if brief else markdown_text
    index = {_key(row): row for row in study.rows}
    whole = {plugin.plugin: BOTH for plugin in study.plugins if not plugin.plugin}
    lines = []
    for name in study.with_covariates:
        plugin = "" if name == BOTH and "" in whole else name
        for row in study.rows:
            if row["metric"] == "auroc" and row["plugin"] == plugin and row["group"] == ALL and row["label"] != "macro":
                whole_row = index[_key(row)]
                lines.append(
                    {"answer": name, "label": str(row["label"]), "n": str(row["n"]), "AUROC": figure(whole_row)}
                )
    pairs = {" - ".join(pair) for pair in combinations(study.with_covariates, 2)}
    compared = [row for row in study.rows if row["metric"] == "auroc_difference" and row["plugin"] in pairs]
    return "\n\n".join([table(lines, cell), table([_comparison(row, study.rows) for row in compared], cell)])


def _lines(rows: Sequence[Row], *, with_group: bool) -> list[dict[str, str]]:
    """One line per (group, plugin, label, operating point), in the order of the rows."""
    index = {_key(row): row for row in rows}
    several_plugins = len({row["plugin"] for row in _decided(rows)}) > 1
    lines = []
    for row in _decided(rows):
        group, plugin, label, point = row["group"], row["plugin"], row["label"], str(row["operating_point"])
        line = {"group": str(group)} if with_group else {}
        line |= {"plugin": str(plugin)} if several_plugins else {}
        of_n = row if row["metric"] == "crg" else index[("auroc", group, plugin, label, "")]
        positive = "" if of_n["n_positive"] is None else f" ({of_n['n_positive']} positive)"
        line |= {"label": str(label), "n": f"{of_n['n']}{positive}"}
        line |= {title: figure(index.get((name, group, plugin, label, ""))) for name, title in _FREE.items()}
        line["operating point"] = "plugin's own" if point == PLUGIN_POINT else point
        line |= {title: figure(index.get((name, group, plugin, label, point))) for name, title in _DECIDED.items()}
        if row["metric"] == "crg":
            line["CRG"] = figure(row)
        lines.append(line)
    return lines


def _decided(rows: Iterable[Row]) -> list[Row]:
    """The row that stands for each (group, plugin, label, operating point): its sensitivity, or the pooled CRG."""
    return [
        row for row in rows if row["metric"] == "sensitivity" or (row["metric"] == "crg" and row["label"] == "pooled")
    ]


def _key(row: Mapping[str, object]) -> tuple[object, ...]:
    return row["metric"], row["group"], row["plugin"], row["label"], row["operating_point"]


def _comparison(row: Mapping[str, object], rows: Iterable[Row]) -> dict[str, str]:
    same = {
        other["metric"]: other for other in rows if other["plugin"] == row["plugin"] and other["label"] == row["label"]
    }
    return {
        "plugins": str(row["plugin"]),
        "label": str(row["label"]),
        "n": str(row["n"]),
        "AUROC difference": figure(row),
        "p": p_value(same["auroc_difference_p"]),
        "p (Holm)": p_value(same["auroc_difference_p_holm"]),
    }
