"""``anymc3d explain -p PLUGIN -i SCAN… | MANIFEST.csv -o OUT [--method M]``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anymc3d.cli.doubts import warn_of_doubts
from anymc3d.cli.options.compute import add_backbone, add_device
from anymc3d.cli.options.inputs import add_case_options, add_input, add_strict, add_workers, cases_of, chosen_workers
from anymc3d.cli.options.parts import add_part, chosen_part, folder_of, is_split, run_split
from anymc3d.cli.options.pseudonyms import add_pseudonymize, chosen_pseudonyms
from anymc3d.cli.refusals import warn_of_refusals
from anymc3d.cli.say import say
from anymc3d.errors import UsageError

if TYPE_CHECKING:
    from anymc3d.data.case import Case
    from anymc3d.explain.dicom_objects import DicomSettings
    from anymc3d.plugins.card import PluginCard

DEFAULT_METHOD = "grad-rollout"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("-p", "--plugin", required=True, metavar="PLUGIN", help="one plugin or ensemble")
    add_input(parser)
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="OUT", help="the output folder")
    parser.add_argument(
        "--method",
        action="append",
        metavar="M",
        help="attention, rollout, grad-rollout, grad-rollout-last or all; can be repeated "
        f"({DEFAULT_METHOD}; of a DaViT backbone grad-cam, its only one)",
    )
    parser.add_argument("--label", action="append", metavar="LABEL", help="only these of the plugin's labels")
    parser.add_argument(
        "--discard", type=float, default=0.0, metavar="SHARE", help="share of the smallest weights that are set to zero"
    )
    parser.add_argument(
        "--faithfulness",
        action="store_true",
        help="also score the maps by deletion, insertion and shuffled weights (some twenty predictions for each)",
    )
    parser.add_argument("--no-pictures", action="store_true", help="heatmaps alone, no PNG")
    parser.add_argument(
        "--dicom",
        nargs="?",
        const="linked",
        metavar="LINK",
        help="of DICOM series: also a parametric map and a segmentation that lie over them, and so HOLD THEIR UIDS "
        "(linked, the default); patient: with name, id and dates of the series too, so that an archive files them",
    )
    parser.add_argument(
        "--dicom-threshold",
        type=float,
        metavar="VALUE",
        help="of the segmentation: heatmap value from 0 to 1 (default: 0.5)",
    )
    add_case_options(parser)
    add_strict(parser)
    add_backbone(parser)
    add_device(parser)
    add_workers(parser)
    add_part(parser)
    add_pseudonymize(parser, "name the folders by keyed pseudonyms in place of the case ids")
    parser.add_argument("--json", action="store_true", help="print one record per case as JSON")
    parser.add_argument("--quiet", action="store_true", help="no progress bar, no summary")


def run(args: argparse.Namespace) -> int:
    """Explain all inputs; the exit code says whether some or all failed."""
    if not 0 <= args.discard < 1:
        raise UsageError(f"--discard: expected a share from 0 to below 1, got {args.discard}")
    from anymc3d.cli.main import print_json
    from anymc3d.explain.folder import ExplainSettings, explain_cohort
    from anymc3d.explain.heatmaps import chosen_methods
    from anymc3d.explain.methods import check_method
    from anymc3d.files.parts import part_of
    from anymc3d.plugins import load_plugin
    from anymc3d.predict.predictor import Predictor

    dicom = _dicom(args)
    pseudonyms = chosen_pseudonyms(args, [folder_of(args)])
    for name in args.method or ():
        if name != "all":
            check_method(name)
    plugin = load_plugin(args.plugin)
    _check_fits(args, plugin.card)
    cases = cases_of(args, [plugin.card])
    _check_sources(cases, dicom)
    if pseudonyms is not None:
        cases = list(pseudonyms.rename(cases))
    predictor = Predictor([plugin], backbone=args.backbone, device=args.device, segmenters=args.segmenter)
    settings = ExplainSettings(
        methods=chosen_methods(predictor, args.method or ()),
        labels=tuple(args.label or ()),
        discard=args.discard,
        pictures=not args.no_pictures,
        faithfulness=args.faithfulness,
        dicom=dicom,
        strict=args.strict,
    )
    if is_split(args):
        return run_split(args)
    with part_of(args.out, chosen_part(args), cases, {}) as (out, part_cases):
        workers = chosen_workers(args, len(part_cases))
        result = explain_cohort(predictor, part_cases, out, settings, workers=workers, quiet=args.quiet)
    warn_of_refusals(result.records)
    warn_of_doubts([plugin.card])
    if args.json:
        print_json(result.records)
    elif not args.quiet:
        _print_summary(result.records, out)
    return result.exit_code


def _check_fits(args: argparse.Namespace, card: PluginCard) -> None:
    """Refuse labels and measures that the plugin does not have."""
    from anymc3d.explain.heatmaps import check_has_attention, label_index

    check_has_attention(card)
    if args.faithfulness and card.labels.is_number:
        raise UsageError(f"--faithfulness: is of probabilities, and {card.name} answers a number; leave it out")
    for label in args.label or ():
        label_index(label, card.labels.output_names)


def _print_summary(records: list[dict[str, Any]], out: Path) -> None:
    from anymc3d.explain.folder import SCORE_TABLE, file_name

    for record in records:
        say(f"{out / file_name(record['case'])}: {record['status']} {record['message']}".rstrip())
        for heat in record["heatmaps"]:
            place = (
                "flat: no voxel stands out"
                if heat["flat"]
                else "peak at {:.0f}, {:.0f}, {:.0f} mm (RAS)".format(*heat["peak_mm"])
            )
            say(f"  {heat['files'][0]}  {place}")
    for meaning in dict.fromkeys(record["decision_means"] for record in records if "decision_means" in record):
        say(meaning)
    if (out / SCORE_TABLE).exists():
        say(f"{out / SCORE_TABLE}: scores of the maps (see 'anymc3d evaluate --heatmaps')")
    say("Heatmaps show where the classifier looked, not where disease is. Research use only. Not a medical device.")


def _dicom(args: argparse.Namespace) -> DicomSettings | None:
    if args.dicom is None:
        if args.dicom_threshold is not None:
            raise UsageError("--dicom-threshold: only together with --dicom")
        return None
    from anymc3d.errors import did_you_mean
    from anymc3d.explain.dicom_objects import LINKS, THRESHOLD, DicomSettings, require_highdicom

    if args.dicom not in LINKS:
        raise UsageError(f"--dicom: unknown {args.dicom!r}{did_you_mean(args.dicom, LINKS)}; have {', '.join(LINKS)}")
    threshold = THRESHOLD if args.dicom_threshold is None else args.dicom_threshold
    if not 0 < threshold <= 1:
        raise UsageError(f"--dicom-threshold: expected a value above 0 and up to 1, got {threshold:g}")
    if args.pseudonymize is not None:
        raise UsageError(
            "--dicom: its objects hold the UIDs of the scans, which lead to the patient; not together with "
            "--pseudonymize (the NIfTI heatmaps hold none)"
        )
    require_highdicom()
    return DicomSettings(link=args.dicom, threshold=threshold)


def _check_sources(cases: list[Case], dicom: DicomSettings | None) -> None:
    if dicom is not None:
        from anymc3d.explain.dicom_objects import refuse_other_sources

        refuse_other_sources(cases)
