"""``anymc3d predict -p PLUGIN [-p PLUGIN …] -i SCAN… | MANIFEST.csv -o OUT``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from anymc3d.cli.doubts import warn_of_doubts
from anymc3d.cli.options.compute import add_arithmetic, add_backbone, add_device, check_compute
from anymc3d.cli.options.inputs import (
    add_case_memory,
    add_case_options,
    add_input,
    add_strict,
    add_workers,
    case_memory,
    cases_of,
    chosen_workers,
)
from anymc3d.cli.options.parquet import add_parquet, check_parquet, write_parquet
from anymc3d.cli.options.parts import add_part, chosen_part, folder_of, is_split, names_of, run_split
from anymc3d.cli.options.pseudonyms import add_map, add_pseudonymize, chosen_pseudonyms
from anymc3d.cli.refusals import warn_of_refusals
from anymc3d.cli.say import say
from anymc3d.errors import UsageError

if TYPE_CHECKING:
    from anymc3d.data.case import Case
    from anymc3d.data.pseudonyms import Pseudonyms
    from anymc3d.plugins import Plugin
    from anymc3d.predict.cohort import CohortResult
    from anymc3d.predict.predictor import Predictor


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument(
        "-p",
        "--plugin",
        action="append",
        required=True,
        metavar="PLUGIN",
        help="a trained model file, or NAME=FILE; can be repeated",
    )
    add_input(parser)
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="OUT", help="the output folder")
    add_backbone(parser)
    add_device(parser)
    add_arithmetic(parser)
    parser.add_argument(
        "--timeout", type=float, metavar="S", help="seconds a case may take with each plugin; then it is an error"
    )
    add_case_memory(parser)
    add_case_options(parser)
    add_workers(parser)
    add_strict(parser)
    add_part(parser)
    parser.add_argument(
        "--abstain",
        action="store_true",
        help="write 'not answered' for a decision that a prediction set leaves open, or of a scan unlike training",
    )
    add_pseudonymize(parser, "write keyed pseudonyms in place of the case ids")
    add_map(parser)
    parser.add_argument(
        "--segmentation", action="store_true", help="also draw what a kept decoder learned, on the scan's own grid"
    )
    parser.add_argument(
        "--dicom-sr",
        nargs="?",
        const="linked",
        metavar="LINK",
        help="of DICOM series: also OUT/sr/CASE.dcm, a structured report that refers to the slices, and so HOLDS THEIR "
        "UIDS (linked, the default); patient: with name, id and dates of the series too, so that an archive files it",
    )
    parser.add_argument(
        "--sr-codes", type=Path, metavar="FILE", help="of --dicom-sr: the codes of findings, as YAML (docs/dicom.md)"
    )
    add_parquet(parser)
    parser.add_argument("--json", action="store_true", help="print the predictions as JSON")
    parser.add_argument("--quiet", action="store_true", help="print warnings only")


def run(args: argparse.Namespace) -> int:
    """Predict all inputs; the exit code says whether some or all failed."""
    _check_options(args)
    from anymc3d.data.pseudonyms import write_map
    from anymc3d.files.parts import part_of
    from anymc3d.plugins import load_named

    pseudonyms = chosen_pseudonyms(args, [folder_of(args)])
    plugins = [load_named(path) for path in args.plugin]
    cases = cases_of(args, [plugin.card for plugin in plugins])
    predictor = _predictor(args, plugins, cases)
    if is_split(args):
        return run_split(args)
    settings = {name: getattr(args, name) for name in ("strict", "abstain", "timeout", "case_memory", "segmentation")}
    with part_of(args.out, chosen_part(args), cases, settings, names=names_of(cases, pseudonyms)) as (out, part_cases):
        result, exit_code = _answer(args, predictor, part_cases, out, pseudonyms)
    if args.parquet:
        write_parquet(out)
    if pseudonyms is not None and args.pseudonym_map is not None:
        write_map(args.pseudonym_map, [case.id for case in cases], pseudonyms)
    _report(args, out, plugins, result)
    return exit_code


def _check_options(args: argparse.Namespace) -> None:
    """What can be refused before anything is opened."""
    check_compute(args)
    from anymc3d.cli.dicom_sr import check_dicom_sr

    check_parquet(args)
    check_dicom_sr(args)


def _predictor(args: argparse.Namespace, plugins: Sequence[Plugin], cases: Sequence[Case]) -> Predictor:
    """The plugins on their backbones, once they are found able to do what is asked of these cases."""
    from anymc3d.cli.dicom_sr import check_sr_cases
    from anymc3d.maps.case_maps import check_decodes
    from anymc3d.predict.cohort import precision_in
    from anymc3d.predict.predictor import Predictor

    check_sr_cases(args, cases)
    if args.abstain:
        _check_can_abstain(args, plugins)
    predictor = Predictor(
        plugins,
        backbone=args.backbone,
        device=args.device,
        precision=precision_in(folder_of(args), args.precision),
        chunk_size=args.chunk_size,
        segmenters=args.segmenter,
        case_memory=case_memory(args),
    )
    if args.segmentation:
        check_decodes(predictor)
    return predictor


def _answer(
    args: argparse.Namespace, predictor: Predictor, cases: list[Case], out: Path, pseudonyms: Pseudonyms | None
) -> tuple[CohortResult, int]:
    """Everything that is asked of the cases, into one folder; and the exit code."""
    from anymc3d.cli.dicom_sr import write_sr
    from anymc3d.maps.folder import segment_cohort
    from anymc3d.predict.cohort import predict_cohort

    result = predict_cohort(
        predictor,
        cases,
        out,
        precision=args.precision,
        pseudonyms=pseudonyms,
        strict=args.strict,
        abstain=args.abstain,
        timeout_s=args.timeout,
        workers=chosen_workers(args, len(cases)),
        quiet=args.quiet,
    )
    warn_of_refusals(result.rows)
    warn_of_doubts(plugin.card for plugin in predictor.plugins)
    exit_code = result.exit_code
    if args.segmentation:
        rows = segment_cohort(predictor, cases, out, pseudonyms=pseudonyms, quiet=args.quiet)
        exit_code = exit_code or (3 if any(row["status"] == "error" for row in rows) else 0)
    if args.dicom_sr is not None and not write_sr(args, out, predictor, cases, result.rows):
        exit_code = exit_code or 3
    return result, exit_code


def _check_can_abstain(args: argparse.Namespace, plugins: Sequence[Plugin]) -> None:
    if args.dicom_sr is not None:
        raise UsageError("--abstain and --dicom-sr: a structured report states decisions; give one of the two")
    numbers = [plugin.card.name for plugin in plugins if plugin.card.labels.is_number]
    if numbers:
        raise UsageError(
            f"--abstain: {', '.join(map(repr, numbers))} answers a number, which is not a decision; leave it out"
        )
    blind = [
        plugin.card.name for plugin in plugins if not plugin.card.prediction_sets and not plugin.card.knows_its_scans
    ]
    if blind:
        raise UsageError(
            f"--abstain: {', '.join(map(repr, blind))} has neither prediction sets nor statistics of its training "
            "scans; make sets with 'anymc3d calibrate --coverage 0.9'"
        )


def _report(args: argparse.Namespace, out: Path, plugins: Sequence[Plugin], result: CohortResult) -> None:
    if args.json:
        from anymc3d.cli.cells import prediction_record
        from anymc3d.cli.main import print_json

        print_json([prediction_record(row) for row in result.rows])
    elif not args.quiet:
        _print_summary(args, out, plugins, result)


def _print_summary(args: argparse.Namespace, out: Path, plugins: Sequence[Plugin], result: CohortResult) -> None:
    from anymc3d.evaluate.task_calibration import states_in_words
    from anymc3d.maps.folder import TABLE as SEGMENTATIONS
    from anymc3d.predict.cohort import TABLE as PREDICTIONS
    from anymc3d.settings.decision_text import what_is_positive

    counts = {status: sum(row["status"] == status for row in result.rows) for status in ("ok", "warn", "error")}
    say(f"{out / PREDICTIONS}: {counts['ok']} ok, {counts['warn']} with warnings, {counts['error']} failed")
    for line in dict.fromkeys(what_is_positive(plugin.card.labels) for plugin in plugins):
        say(line)
    for plugin in plugins:
        if not plugin.card.is_calibrated and not plugin.card.labels.is_number:
            states = states_in_words(plugin.card.calibration_states)
            say(f"{plugin.card.name}: probabilities are {states} (see 'anymc3d calibrate')")
        if args.abstain and not plugin.card.prediction_sets:
            say(f"{plugin.card.name}: no prediction sets (see 'anymc3d calibrate --coverage'): only alarms abstain")
        if not plugin.card.knows_its_scans:
            say(f"{plugin.card.name}: no statistics of its training scans, so ood_score stays empty (train it again)")
    if args.abstain:
        say(f"{result.unanswered} of {len(result.rows)} rows have a decision that is not answered")
    if result.earlier:
        say(f"{result.earlier} rows of earlier runs into this folder stay at the end of the table")
    if result.reused:
        say(f"{result.reused} cases were already done and unchanged")
    if args.segmentation:
        say(f"{out / SEGMENTATIONS}: volumes, and Dice where there are masks; maps beside it")
    say("Research use only. Not a medical device.")
