"""``anymc3d predict -p PLUGIN [-p PLUGIN …] -i SCAN… | MANIFEST.csv -o OUT``."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from anymc3d.cli.pseudonym_options import add_map, add_pseudonymize, chosen_pseudonyms
from anymc3d.errors import UsageError

if TYPE_CHECKING:
    from anymc3d.data.case import Case

_VIEW = re.compile(r"([A-Za-z0-9_-]+)=(.+)", re.DOTALL)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("-p", "--plugin", action="append", required=True, metavar="PLUGIN", help="may be given often")
    parser.add_argument(
        "-i",
        "--input",
        nargs="+",
        action="extend",
        required=True,
        metavar="SCAN",
        help="scans, or one manifest (.csv, MedMNIST .npz), or the views of one study as axial=A sagittal=B",
    )
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="OUT", help="the output folder")
    parser.add_argument("--backbone", help="folder, file or name; default: found by the plugin's fingerprint")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.add_argument(
        "--precision", choices=("fp32", "bf16", "auto"), default="fp32", help="of the backbone (default: fp32, exact)"
    )
    parser.add_argument(
        "--chunk-size", type=int, default=64, metavar="N", help="slices per backbone call (default: 64)"
    )
    parser.add_argument(
        "--series", metavar="RULE", help="of a DICOM folder: a series UID or its short hash, or Tag=value"
    )
    parser.add_argument(
        "--allow-gaps", action="store_true", help="of a DICOM folder: missing or uneven slices are a warning"
    )
    parser.add_argument(
        "--mask", metavar="FILE", help="of one scan: the segmentation of its region"
    )
    parser.add_argument(
        "--center", nargs=3, type=float, metavar=("X", "Y", "Z"), help="of one scan: the point of interest, mm, RAS"
    )
    parser.add_argument(
        "--segmenter",
        action="append",
        default=[],
        metavar="FILE",
        help="the network that draws a plugin's region, or the TotalSegmentator program",
    )
    add_pseudonymize(parser, "write keyed pseudonyms in place of the case ids")
    add_map(parser)
    parser.add_argument("--split", action="append", choices=("train", "val", "test"), help="only these of a manifest")
    parser.add_argument("--json", action="store_true", help="print the predictions as JSON")
    parser.add_argument("--quiet", action="store_true", help="print warnings only")


def run(args: argparse.Namespace) -> int:
    """Predict all inputs; the exit code says whether some or all failed."""
    if args.chunk_size < 1:
        raise UsageError(f"--chunk-size: expected 1 or more, got {args.chunk_size}")
    from anymc3d.cli.main import print_json
    from anymc3d.cohort import TABLE, predict_cohort
    from anymc3d.plugins import load_plugin
    from anymc3d.predict import Predictor
    from anymc3d.pseudonyms import write_map

    pseudonyms = chosen_pseudonyms(args, [args.out])
    plugins = [load_plugin(path) for path in args.plugin]
    cases = read_inputs(args.input, args.split, args.series, allow_gaps=args.allow_gaps)
    cases = _with_region(cases, args)
    predictor = Predictor(
        plugins,
        backbone=args.backbone,
        device=args.device,
        precision=args.precision,
        chunk_size=args.chunk_size,
        segmenters=args.segmenter,
    )
    result = predict_cohort(
        predictor, cases, args.out, precision=args.precision, pseudonyms=pseudonyms, quiet=args.quiet
    )
    if pseudonyms is not None and args.pseudonym_map is not None:
        write_map(args.pseudonym_map, [case.id for case in cases], pseudonyms)
    if args.json:
        print_json(result.rows)
    if args.json or args.quiet:
        return result.exit_code
    counts = {status: sum(row["status"] == status for row in result.rows) for status in ("ok", "warn", "error")}
    print(f"{args.out / TABLE}: {counts['ok']} ok, {counts['warn']} with warnings, {counts['error']} failed")
    for plugin in plugins:
        if not plugin.card.is_calibrated:
            print(f"{plugin.card.name}: probabilities are uncalibrated (see 'anymc3d calibrate')")
    if result.reused:
        print(f"{result.reused} cases were already done and unchanged")
    print("Research use only. Not a medical device.")
    return result.exit_code


def read_inputs(
    inputs: list[str], splits: list[str] | None = None, series: str | None = None, *, allow_gaps: bool = False
) -> list[Case]:
    """Scans, one manifest, or ``view=scan`` pairs -> cases.

    Raises:
        UsageError: kinds of input are mixed, or two scans would get one id.
        ManifestError: the manifest cannot be used.
    """
    from anymc3d.data.dicom.rules import with_gaps
    from anymc3d.data.manifest import read_manifest
    from anymc3d.predict import study_case

    manifests = [text for text in inputs if text.lower().endswith((".csv", ".tsv", ".npz"))]
    if manifests and len(inputs) > 1:
        raise UsageError(f"expected one manifest, or scans, got {len(inputs)} inputs with {manifests[0]} among them")
    if manifests and series:
        raise UsageError("--series: a manifest has its own series column; leave the option out")
    if manifests and allow_gaps:
        raise UsageError("--allow-gaps: a manifest says it itself, in its series column: gaps=allow")
    if manifests:
        cases = list(read_manifest(manifests[0], check_scans=False).cases)
        return [case for case in cases if not splits or case.split in splits]
    if splits:
        raise UsageError("--split: only a manifest has splits")

    def rule(*scans: str) -> str | None:
        return with_gaps(series) if allow_gaps and any(Path(scan).is_dir() for scan in scans) else series

    pairs = [_VIEW.fullmatch(text) for text in inputs]
    if any(pair and not Path(text).exists() for pair, text in zip(pairs, inputs, strict=True)):
        if not all(pairs):
            raise UsageError("expected scans, or view=scan for every view of one study, got both")
        views = {pair[1]: str(Path(pair[2]).resolve()) for pair in pairs}
        return [study_case(None, views, series=rule(*views.values()))]
    cases = [study_case(str(Path(text).resolve()), None, series=rule(text)) for text in inputs]
    _check_ids(cases)
    return cases


def _with_region(cases: list[Case], args: argparse.Namespace) -> list[Case]:
    """The one scan of the command with what was said of its region."""
    from dataclasses import replace

    if args.mask is None and args.center is None:
        return cases
    if len(cases) != 1 or args.input[0].lower().endswith((".csv", ".tsv", ".npz")):
        raise UsageError(
            "--mask, --center: for one scan; a manifest has columns mask and center_x, center_y, center_z"
        )
    masks = {} if args.mask is None else {"mask": str(Path(args.mask).resolve())}
    return [replace(cases[0], masks=masks, center=None if args.center is None else tuple(args.center))]


def _check_ids(cases: list[Case]) -> None:
    first: dict[str, int] = {}
    for number, case in enumerate(cases, start=1):
        if first.setdefault(case.id, number) != number:
            what = f"inputs {first[case.id]} and {number} have the same file name, which is the case id"
            raise UsageError(f"{what}; list them in a manifest with a case column")
