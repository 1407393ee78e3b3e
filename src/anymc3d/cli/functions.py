"""The commands as functions of the package: same names, same defaults, same checks, same files.

Each function puts its arguments into the words of its command and runs that, so neither can do what the other does not.
A list stands for what the command takes several of, with commas or repeated; paths may be text or ``Path``. What the
command prints with ``--json`` comes back as a :class:`Result`; errors are raised. See docs/python-api.md.
"""

from __future__ import annotations

import argparse
import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike, fspath
from pathlib import Path
from typing import Any, TypeAlias

Place: TypeAlias = str | PathLike[str]
Words: TypeAlias = str | Sequence[str]


@dataclass(frozen=True, repr=False)
class Result(Mapping[str, Any]):
    """What a command gives with ``--json``, as a mapping. ``exit_code``: of the command; 0 = nothing to mind."""

    command: str
    exit_code: int
    values: Mapping[str, Any]
    folder: Path | None = None
    """The folder of the heatmaps and their pictures."""

    def __getitem__(self, key: str) -> Any:
        return self.values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.values)

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        return f"<anymc3d {self.command}, exit code {self.exit_code}: {', '.join(self.values) or 'nothing'}>"

    def _repr_html_(self) -> str:
        """A table of what is short, for notebooks; of heatmaps their pictures."""
        if self.folder is not None:
            from anymc3d.cli.notebook_pictures import heatmaps_html

            return heatmaps_html(self["found"], self.folder)
        rows = [(key, value) for key, value in self.items() if not isinstance(value, list | dict)]
        cells = "".join(
            f"<tr><th>{html.escape(key)}</th><td>{html.escape(str(value))}</td></tr>" for key, value in rows
        )
        return f"<table><caption>{html.escape(repr(self))}</caption>{cells}</table>"


def plan(
    manifest: Place,
    labels: Words | None = None,
    *,
    out: Place,
    recipe: str | None = None,
    backbone: Place | None = None,
    name: str | None = None,
    image: str | None = None,
    views: Words | None = None,
    roi: Place | None = None,
    segmenter: Words = (),
    windows: Words | None = None,
    modality: str | None = None,
    seed: int = 0,
    overwrite: bool = False,
    no_timing: bool = False,
    quiet: bool = False,
) -> Result:
    """Measure a data set and write a task file with a reason for each choice: ``anymc3d plan``."""
    return _run("plan", locals())


def doctor(
    manifest: Place | None = None,
    labels: Words | None = None,
    *,
    task: Place | None = None,
    out_of_fold: Place | None = None,
    headers_only: bool = False,
    out: Place | None = None,
    jobs: int | None = None,
    quiet: bool = False,
) -> Result:
    """Find every fault of a data set, or without one check the installation: ``anymc3d doctor``."""
    return _run("doctor", locals())


def quick(
    task: Place,
    out: Place,
    overrides: Words = (),
    *,
    backbone: Place | None = None,
    device: str = "auto",
    slices: int | str | None = None,
    segmenter: Words = (),
    pseudonymize: Place | None = None,
    quiet: bool = False,
) -> Result:
    """A first answer in minutes on frozen features, cross-validated: ``anymc3d train --quick``."""
    return _run("train", locals() | {"quick": True})


def evaluate(
    predictions: Place,
    manifest: Place,
    out: Place,
    *,
    groups: Words | None = None,
    operating_points: Words | None = None,
    severity: Words | None = None,
    task: Place | Sequence[Place] = (),
    heatmaps: Place | None = None,
    segmentations: Place | None = None,
    resamples: int = 2000,
    seed: int = 0,
    pseudonymize: Place | None = None,
    overwrite: bool = False,
    quiet: bool = False,
) -> Result:
    """Metrics with confidence intervals, from tables alone: ``anymc3d evaluate``."""
    return _run("evaluate", locals())


def explain(
    plugin: Place,
    input: Place | Sequence[Place],
    out: Place,
    *,
    method: Words | None = None,
    label: Words | None = None,
    discard: float = 0.0,
    faithfulness: bool = False,
    no_pictures: bool = False,
    series: str | None = None,
    mask: Place | None = None,
    covariate: Words = (),
    segmenter: Words = (),
    split: Words | None = None,
    strict: bool = False,
    backbone: Place | None = None,
    device: str = "auto",
    quiet: bool = False,
) -> Result:
    """Heatmaps of where a classifier looked, on the scan's own grid: ``anymc3d explain``."""
    return replace(_run("explain", locals()), folder=Path(out))


def calibrate(
    plugin: Place,
    predictions: Place,
    manifest: Place,
    out: Place | None = None,
    *,
    method: str | None = None,
    criterion: str | None = None,
    split: str | None = None,
    pooled: Place | None = None,
    coverage: float | None = None,
    figure: Place | None = None,
    pseudonymize: Place | None = None,
    overwrite: bool = False,
    quiet: bool = False,
) -> Result:
    """Fit operating points and probabilities on labelled cases: ``anymc3d calibrate``."""
    return _run("calibrate", locals())


def ensemble(
    plugins: Sequence[Place], out: Place, *, name: str = "", overwrite: bool = False, quiet: bool = False
) -> Result:
    """One file out of several plugins of one task: ``anymc3d ensemble``."""
    return _run("ensemble", locals())


def report(
    folder: Place | None = None,
    *,
    out: Place,
    plugin: Place | None = None,
    input: Place | Sequence[Place] | None = None,
    case: str | None = None,
    method: str | None = None,
    backbone: Place | None = None,
    device: str = "auto",
    series: str | None = None,
    mask: Place | None = None,
    covariate: Words = (),
    segmenter: Words = (),
    predictions: Place | None = None,
    manifest: Place | None = None,
    task: Place | None = None,
    groups: Words | None = None,
    worst: int = 6,
    heatmap: bool = False,
    split: Words | None = None,
    pseudonymize: Place | None = None,
    overwrite: bool = False,
    quiet: bool = False,
) -> Result:
    """One HTML file of a study, a training run or an evaluation: ``anymc3d report``."""
    return _run("report", locals())


def _run(command: str, arguments: Mapping[str, Any]) -> Result:
    from anymc3d.cli.main import call, parser_of

    words = _words(parser_of(command), {**arguments, "json": True})
    exit_code, printed = call(command, words)
    values = printed[0] if printed else {}
    return Result(command, exit_code, values if isinstance(values, dict) else {"found": values})


def _words(parser: argparse.ArgumentParser, arguments: Mapping[str, Any]) -> list[str]:
    """The arguments as the words of a command, those without an option first."""
    placed, optional = list[str](), list[str]()
    for action in parser._actions:
        value = arguments.get(action.dest)
        if action.dest not in arguments or value is None or value is False or value == action.default:
            continue
        several = [value] if isinstance(value, str | PathLike | int | float) else list(value)
        texts = [fspath(item) if isinstance(item, PathLike) else str(item) for item in several]
        if not action.option_strings:
            placed += texts
        elif action.nargs == 0:
            optional.append(action.option_strings[-1])
        elif isinstance(action, argparse._AppendAction):
            optional += [f"{action.option_strings[-1]}={text}" for text in texts]
        elif action.nargs is not None:
            optional += [action.option_strings[-1], *texts]
        else:
            optional.append(f"{action.option_strings[-1]}={','.join(texts)}")
    return [*placed, *optional]
