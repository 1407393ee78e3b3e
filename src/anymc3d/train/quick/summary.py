"""``quick.json`` as a few lines for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

NOTICE = "Research use only. Not a medical device."


def lines(report: Mapping[str, Any]) -> Iterator[str]:
    """The numbers a reader needs first, then the two answers with what they rest on."""
    cases = report["cases"]
    yield (
        f"{cases['pool']} cases of {cases['patients']} patients (training and validation splits), "
        f"{cases['outer_folds']} outer folds; the test split was not looked at"
    )
    yield from report["notes"]
    for row in report["out_of_fold"] if report.get("metric", "AUROC") != "AUROC" else ():
        yield f"out-of-fold {row['metric']} {row['label']}: {interval(row)}"
    for row in report["out_of_fold_auroc"]:
        yield f"out-of-fold AUROC {row['label']}: {interval(row)}; chance is {report['chance']}"
        if row["low"] is not None and row["low"] <= report["chance"]:
            yield f"not shown to be better than chance: do not use this classifier for {row['label']}"
    trivial = report["trivial"]
    if trivial["auroc"]["value"] is not None:
        difference = interval(trivial["frozen_minus_trivial"], signed=True)
        yield f"{trivial['of']} alone: {interval(trivial['auroc'])}; frozen features minus that: {difference}"
        if is_given_away(trivial, report["chance"]):
            yield (
                f"not shown to be better than {trivial['of']}, which give the label away: look at how the scans "
                "were cropped and exported, and which scanner has which label, before you trust this classifier"
            )
    if report.get("covariates"):
        yield from _covariates(report["covariates"])
    if len(report["learning_curve"]) > 1:
        for point in report["learning_curve"]:
            figure = interval(point["auroc"]) if point["auroc"]["value"] is not None else point["reason"]
            yield f"{point['fraction']:.0%} of the training cases ({point['num_train']:.0f}): {figure}"
        yield f"more data: {report['more_data']['answer']}. {_sentence(report['more_data']['because'])}"
    if report["backbone"] is not None:
        yield f"LoRA: {report['lora']['answer']}. {_sentence(report['lora']['because'])}"
    yield NOTICE


def is_given_away(trivial: Mapping[str, Any], chance: float) -> bool:
    """Whether plain measurements are surely better than chance, and the features not surely better than these."""
    alone, difference = trivial["auroc"]["low"], trivial["frozen_minus_trivial"]["low"]
    return alone is not None and alone > chance and (difference is None or difference <= 0)


def _covariates(report: Mapping[str, Any]) -> Iterator[str]:
    names = ", ".join(report["of"])
    yield f"covariates {names}, out of fold like the image (the learning curve is of the image alone):"
    for row in report["answers"]:
        yield f"  {report['metric']}, {row['what']}, {row['label']}: {interval(row)}"
    for row in report["differences"]:
        p = "" if row["p"] is None else f", p = {row['p']:.3g} (paired)"
        yield f"  {row['what']}, {row['label']}: {interval(row, signed=True)}{p}"


def interval(row: Mapping[str, Any], *, signed: bool = False) -> str:
    """A value with its 95 % interval, or why there is none."""
    if row["value"] is None:
        return f"undefined ({row.get('reason', '')})"
    sign = "+" if signed else ""
    if row["low"] is None:
        return f"{row['value']:{sign}.3f}"
    return f"{row['value']:{sign}.3f} (95 % interval {row['low']:{sign}.3f} to {row['high']:{sign}.3f})"


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."
