"""``anymc3d report FOLDER | -p PLUGIN -i SCAN -o report.html``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from anymc3d.cli.doubts import warn_of_doubts
from anymc3d.cli.explain import DEFAULT_METHOD
from anymc3d.cli.options.compute import add_backbone, add_device
from anymc3d.cli.options.inputs import add_case_options, cases_of
from anymc3d.cli.options.pseudonyms import add_pseudonymize, chosen_pseudonyms
from anymc3d.cli.say import say
from anymc3d.errors import UsageError

if TYPE_CHECKING:
    from anymc3d.data.case import Case
    from anymc3d.data.pseudonyms import Pseudonyms
    from anymc3d.plugins import Plugin
    from anymc3d.report.case_heatmap import CaseHeatmaps
    from anymc3d.report.run import FiguresFacts
    from anymc3d.report.study import StudyFacts

DEFAULT_WORST = 6
OF_A_STUDY = ("plugin", "input", "case", "method", "backbone", "series", "mask", "center", "segmenter", "split")
OF_FIGURES = ("predictions", "manifest", "task")
OF_HEATMAP = ("plugin", "method", "backbone", "segmenter")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument(
        "folder", type=Path, nargs="?", metavar="FOLDER", help="a training run, an evaluation, or OUT/<case> of explain"
    )
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="report.html", help="the file to write")
    study = parser.add_argument_group("a study")
    study.add_argument("-p", "--plugin", metavar="PLUGIN", help="one plugin or ensemble")
    study.add_argument("-i", "--input", nargs="+", action="extend", metavar="SCAN", help="as in 'anymc3d predict'")
    study.add_argument("--case", metavar="ID", help="which case of a manifest")
    study.add_argument(
        "--method", metavar="M", help=f"as in 'anymc3d explain', or all of a folder (default: {DEFAULT_METHOD})"
    )
    add_backbone(study)
    add_device(study)
    add_case_options(parser)
    figures = parser.add_argument_group("a run or an evaluation")
    figures.add_argument("--predictions", type=Path, metavar="P.csv", help="of an evaluation, for its worst cases")
    figures.add_argument("--manifest", type=Path, metavar="M.csv", help="of an evaluation, for its worst cases")
    figures.add_argument("--task", type=Path, metavar="task.yaml", help="of an evaluation whose cells are not 0 and 1")
    figures.add_argument("--groups", metavar="COL[,COL…]", help="of a run: also results per value of these columns")
    figures.add_argument(
        "--worst", type=int, default=DEFAULT_WORST, metavar="N", help="how many of the most confident errors"
    )
    figures.add_argument(
        "--heatmap",
        action="store_true",
        help="the worst cases with their heatmaps, some seconds each (of an evaluation: with its plugin, -p)",
    )
    add_pseudonymize(parser, "name cases by keyed pseudonyms in place of their ids")
    parser.add_argument("--overwrite", action="store_true", help="replace a file that is not a report of the same")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--quiet", action="store_true", help="print nothing")


def run(args: argparse.Namespace) -> int:
    """Write one report."""
    _check_words(args)
    from anymc3d.report.folders import check_out, kind_of, write_report

    kind = "case" if args.folder is None else kind_of(args.folder)
    _check_options(args, kind)
    # Before any work: a wrong name of the file should not cost minutes.
    if not args.out.exists() or args.overwrite:
        check_out(args.out, "", overwrite=True)
    pseudonyms = chosen_pseudonyms(args, [args.out.parent])
    if kind == "case":
        from anymc3d.report.study_page import study_page

        facts = _study(args, pseudonyms)
        check_out(args.out, facts.identity, overwrite=args.overwrite)
        size, card = write_report(args.out, study_page(facts)), facts.card
    else:
        from anymc3d.report.run_page import run_page

        figures = _figures(args, kind, pseudonyms)
        check_out(args.out, figures.identity, overwrite=args.overwrite)
        size, card = write_report(args.out, run_page(figures)), figures.card
    warn_of_doubts([] if card is None else [card])
    if args.json:
        from anymc3d.cli.main import print_json

        print_json({"report": str(args.out), "kind": kind, "bytes": size})
    elif not args.quiet:
        say(f"{args.out}: {size / 1e6:.1f} MB, opens in any browser without a network")
        say("Research use only. Not a medical device.")
    return 0


def _check_words(args: argparse.Namespace) -> None:
    if args.folder is None and not (args.plugin and args.input):
        raise UsageError("expected a FOLDER, or a plugin (-p) and a scan (-i)")
    if args.worst < 0:
        raise UsageError(f"--worst: expected 0 or more, got {args.worst}")


def _check_options(args: argparse.Namespace, kind: str) -> None:
    """Refuse options that this kind of report would ignore."""
    wrong = OF_FIGURES if kind == "case" else OF_A_STUDY
    is_run = kind in ("run", "quick")
    wrong = (*wrong, *OF_FIGURES) if is_run else (*wrong, "groups")
    if kind == "case":
        wrong = (*wrong, "heatmap")
    elif args.heatmap:
        wrong = tuple(name for name in wrong if name not in OF_HEATMAP or (name == "plugin" and is_run))
        if kind == "evaluation" and not (args.plugin and args.predictions):
            raise UsageError("--heatmap: of an evaluation expected its plugin (-p), --predictions and --manifest too")
    options_given = [name for name in wrong if getattr(args, name)]
    if options_given:
        what = {"case": "a study", "evaluation": "an evaluation"}.get(kind, "a training run")
        raise UsageError(f"--{options_given[0]}: has no meaning for a report of {what}; leave it out")


def _study(args: argparse.Namespace, pseudonyms: Pseudonyms | None) -> StudyFacts:
    from dataclasses import replace

    from anymc3d.explain.heatmaps import check_has_attention, default_method
    from anymc3d.plugins import load_plugin
    from anymc3d.predict.predictor import Predictor
    from anymc3d.report.study import from_folder, from_plugin

    plugin = load_plugin(args.plugin) if args.plugin else None
    if plugin is not None and args.method:
        check_has_attention(plugin.card)
    case = _one_case(args, plugin) if args.input else None
    if args.folder is not None:
        facts = from_folder(args.folder, plugin=plugin, case=case, method=args.method)
        return facts if pseudonyms is None else replace(facts, case=pseudonyms.case(facts.case))
    if plugin is None or case is None:
        raise UsageError("expected a plugin (-p) and a scan (-i)")
    if pseudonyms is not None:
        (case,) = pseudonyms.rename([case])
    predictor = Predictor([plugin], backbone=args.backbone, device=args.device, segmenters=args.segmenter)
    return from_plugin(predictor, case, method=args.method or default_method(predictor))


def _figures(args: argparse.Namespace, kind: str, pseudonyms: Pseudonyms | None) -> FiguresFacts:
    from anymc3d.report.run import of_evaluation, of_run

    heater = _heater(args, kind) if args.heatmap and args.worst else None
    if kind in ("run", "quick"):
        groups = [name.strip() for name in (args.groups or "").split(",") if name.strip()]
        options = {"groups": groups, "worst": args.worst, "pseudonyms": pseudonyms, "heater": heater}
        return of_run(args.folder, quick=kind == "quick", **options)
    return of_evaluation(
        args.folder,
        predictions=args.predictions,
        manifest=args.manifest,
        task=args.task,
        worst=args.worst,
        pseudonyms=pseudonyms,
        heater=heater,
    )


def _heater(args: argparse.Namespace, kind: str) -> CaseHeatmaps:
    from anymc3d.explain.heatmaps import default_method
    from anymc3d.explain.methods import check_method
    from anymc3d.plugins import load_plugin
    from anymc3d.predict.predictor import Predictor
    from anymc3d.report.case_heatmap import CaseHeatmaps
    from anymc3d.report.run import plugin_of_run

    if args.method:
        check_method(args.method)
    plugin = plugin_of_run(args.folder) if kind in ("run", "quick") else load_plugin(args.plugin)
    predictor = Predictor([plugin], backbone=args.backbone, device=args.device, segmenters=args.segmenter)
    return CaseHeatmaps(predictor, args.method or default_method(predictor))


def _one_case(args: argparse.Namespace, plugin: Plugin | None) -> Case:
    cases = cases_of(args, [] if plugin is None else [plugin.card])
    if args.case is not None:
        matching = [case for case in cases if case.id == args.case]
        if not matching:
            raise UsageError(f"--case: no case {args.case!r} among the {len(cases)} of -i")
        return matching[0]
    if len(cases) != 1:
        raise UsageError(f"a report is of one study, got {len(cases)}; choose one with --case")
    return cases[0]
