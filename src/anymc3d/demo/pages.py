"""The end of the demo: heatmaps of two test cases, and the pages that people look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from anymc3d.data.case import Case
from anymc3d.demo.dataset import LABEL
from anymc3d.explain.folder import SCORE_TABLE, ExplainSettings, explain_cohort, file_name
from anymc3d.explain.heatmaps import FUSED
from anymc3d.plugins import load_plugin
from anymc3d.predict.predictor import Predictor
from anymc3d.report.folders import write_report
from anymc3d.report.run import of_run
from anymc3d.report.run_page import run_page
from anymc3d.report.study import from_folder
from anymc3d.report.study_page import study_page

METHODS = ("grad-rollout", "attention")
"""What the answer hangs on, and where attention lies: the two that distinguish the most (see docs/heatmaps.md)."""
WORST = 4


def show(predictor: Predictor, cases: Sequence[Case], out: Path, run: Path, *, quiet: bool) -> Mapping[str, Path]:
    """Explain the first ring and the first solid lesion of the test cases; report the ring and the training run.

    Returns:
        What was made: name -> file.
    """
    chosen = [next(case for case in cases if case.split == "test" and case.cells[LABEL] == kind) for kind in ("1", "0")]
    explain_cohort(predictor, chosen, out / "heat", ExplainSettings(methods=METHODS), quiet=quiet)
    ring = chosen[0]
    folder = out / "heat" / file_name(ring.id)
    facts = from_folder(folder, plugin=load_plugin(run / "plugin.safetensors"), case=ring, method=METHODS[0])
    write_report(out / "report.html", study_page(facts))
    write_report(out / "run.html", run_page(of_run(run, groups=(), worst=WORST, pseudonyms=None)))
    return {
        "heatmaps of a ring": folder / f"{LABEL}.{FUSED}.{METHODS[0]}.png",
        "heatmaps of a solid lesion": out / "heat" / file_name(chosen[1].id) / f"{LABEL}.{FUSED}.{METHODS[0]}.png",
        "how well they point at it": out / "heat" / SCORE_TABLE,
        "report of a case": out / "report.html",
        "report of the training": out / "run.html",
    }
