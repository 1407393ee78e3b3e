"""``anymc3d explain -p PLUGIN -i SCAN… | MANIFEST.csv -o OUT [--method M]``."""

from __future__ import annotations

import argparse
from pathlib import Path

from anymc3d.cli.inputs import add_case_options, add_input, cases_of
from anymc3d.cli.pseudonym_options import add_pseudonymize, chosen_pseudonyms
from anymc3d.errors import UsageError

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
        help=f"attention, rollout, grad-rollout, grad-rollout-last or all; may be given often ({DEFAULT_METHOD})",
    )
    parser.add_argument("--label", action="append", metavar="LABEL", help="only these of the plugin's labels")
    parser.add_argument("--discard", type=float, default=0.0, metavar="SHARE", help="of the smallest weights (0)")
    parser.add_argument(
        "--faithfulness",
        action="store_true",
        help="also score the maps by deletion, insertion and shuffled weights (some twenty predictions for each)",
    )
    parser.add_argument("--no-pictures", action="store_true", help="heatmaps alone, no PNG")
    add_case_options(parser)
    parser.add_argument("--backbone", help="folder, file or name; default: found by the plugin's fingerprint")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    add_pseudonymize(parser, "name the folders by keyed pseudonyms in place of the case ids")
    parser.add_argument("--json", action="store_true", help="print one record per case as JSON")
    parser.add_argument("--quiet", action="store_true", help="no progress bar, no summary")


def run(args: argparse.Namespace) -> int:
    """Explain all inputs; the exit code says whether some or all failed."""
    if not 0 <= args.discard < 1:
        raise UsageError(f"--discard: expected a share from 0 to below 1, got {args.discard}")
    from anymc3d.cli.main import print_json
    from anymc3d.explain.folder import SCORE_TABLE, ExplainSettings, explain_cohort, file_name
    from anymc3d.explain.heat import label_index
    from anymc3d.explain.methods import METHODS, check_method
    from anymc3d.plugins import load_plugin
    from anymc3d.predict import Predictor

    pseudonyms = chosen_pseudonyms(args, [args.out])
    wanted = args.method or [DEFAULT_METHOD]
    methods = tuple(METHODS) if "all" in wanted else tuple(dict.fromkeys(wanted))
    for name in methods:
        check_method(name)
    plugin = load_plugin(args.plugin)
    for label in args.label or ():
        label_index(label, plugin.card.labels.output_names)
    cases = cases_of(args)
    if pseudonyms is not None:
        cases = list(pseudonyms.rename(cases))
    predictor = Predictor([plugin], backbone=args.backbone, device=args.device, segmenters=args.segmenter)
    settings = ExplainSettings(
        methods=methods,
        labels=tuple(args.label or ()),
        discard=args.discard,
        pictures=not args.no_pictures,
        faithfulness=args.faithfulness,
    )
    result = explain_cohort(predictor, cases, args.out, settings, quiet=args.quiet)
    if args.json:
        print_json(result.records)
    elif not args.quiet:
        for record in result.records:
            print(f"{args.out / file_name(record['case'])}: {record['status']} {record['message']}".rstrip())
            for heat in record["heatmaps"]:
                place = (
                    "flat: no voxel stands out"
                    if heat["flat"]
                    else "peak at {:.0f}, {:.0f}, {:.0f} mm (RAS)".format(*heat["peak_mm"])
                )
                print(f"  {heat['files'][0]}  {place}")
        if (args.out / SCORE_TABLE).exists():
            print(f"{args.out / SCORE_TABLE}: scores of the maps (see 'anymc3d evaluate --heatmaps')")
        print("Heat is where the classifier looked, not where disease is. Research use only. Not a medical device.")
    return result.exit_code
