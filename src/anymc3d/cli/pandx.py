"""``anymc3d pandx``: the two-stage system for pancreatic cancer, with nnU-Net as a program of its own."""

from __future__ import annotations

import argparse
from pathlib import Path

from anymc3d.cli.say import answer, say
from anymc3d.errors import UsageError

RESEARCH = "Research use only. Not a medical device."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("manifest", type=Path, metavar="MANIFEST.csv", help="one image a case; masks are for lesions")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="OUT", help="the same again goes on")
    parser.add_argument("--label", default="pdac", help="label column that the score is of (default: pdac)")
    parser.add_argument(
        "--program", metavar="PATH", help="nnU-Net's nnUNetv2_predict; without, its commands are printed for you to run"
    )
    parser.add_argument(
        "--low-model", default="103", metavar="DATASET[:TRAINER[:PLANS]]", help="draws the pancreas (default: 103)"
    )
    parser.add_argument(
        "--high-model",
        default="107:nnUNetTrainerCELossLesionSplit",
        metavar="DATASET[:TRAINER[:PLANS]]",
        help="draws the tumour (default: 107:nnUNetTrainerCELossLesionSplit)",
    )
    parser.add_argument("--candidates", choices=("fast", "dynamic"), default="fast", help="(default: fast)")
    parser.add_argument("--timeout-hours", type=float, default=168.0, metavar="H", help="of one run of the program")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--quiet", action="store_true", help="print warnings only")


def run(args: argparse.Namespace) -> int:
    """Run the system as far as it goes; print what came out, or what to run next."""
    from anymc3d.data.manifest import read_manifest
    from anymc3d.pandx.candidates import CandidateRule
    from anymc3d.pandx.crops import write_crop_manifest
    from anymc3d.pandx.nnunet import Model
    from anymc3d.pandx.run import PandxSettings, run_pandx
    from anymc3d.segmenters.program import find_program

    program = None if args.program is None else find_program(args.program)
    if args.program is not None and program is None:
        raise UsageError(f"--program: no program {args.program!r} was found; give the path of nnUNetv2_predict")
    if not args.timeout_hours > 0:
        raise UsageError(f"--timeout-hours: expected a positive number, got {args.timeout_hours:g}")
    settings = PandxSettings(
        label=args.label,
        low=Model.of(args.low_model),
        high=Model.of(args.high_model),
        candidates=CandidateRule(mode=args.candidates),
    )
    manifest = read_manifest(args.manifest, check_scans=False)
    result = run_pandx(manifest.cases, args.out, settings, program=program, timeout_s=args.timeout_hours * 3600)
    crops = write_crop_manifest(manifest, args.out)
    _print_result(args, result)
    if crops is not None and not args.json:
        say(f"{crops}: the scans with the pancreas of the first network, to crop by: anymc3d plan {crops} --recipe T5")
    return result.exit_code


def _print_result(args: argparse.Namespace, result: object) -> None:
    from anymc3d.cli.main import print_json
    from anymc3d.pandx.run import PandxResult

    assert isinstance(result, PandxResult)
    if args.json:
        print_json({**vars(result), "predictions": None if result.waiting else str(args.out / "predictions.csv")})
    elif result.waiting:
        answer("Run nnU-Net, in its own environment, then this command again:", "")
        answer(f"  {result.waiting}")
    else:
        say(f"{args.out / 'predictions.csv'}: {result.num_cases} cases, {result.num_failed} failed")
        if result.lesion_average_precision is not None:
            say(f"lesions: {result.num_lesions}, average precision {result.lesion_average_precision:.4f}")
        say(f"next: anymc3d evaluate {args.out / 'predictions.csv'} {args.manifest} -o EVALUATION")
        say(RESEARCH)
