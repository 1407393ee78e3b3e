"""``anymc3d ensemble PLUGIN PLUGIN … -o ENSEMBLE.safetensors``."""

from __future__ import annotations

import argparse
from pathlib import Path

from anymc3d.cli.say import say, warn


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument(
        "plugins", nargs="+", type=Path, metavar="PLUGIN", help="for example RUN/fold_*/plugin.safetensors"
    )
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="ENSEMBLE", help="the new .safetensors file")
    parser.add_argument("--name", default="", help="of the ensemble (default: the members' name and -ensemble)")
    parser.add_argument("--overwrite", action="store_true", help="replace another plugin at OUT")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--quiet", action="store_true", help="print warnings only")


def run(args: argparse.Namespace) -> int:
    """Make one file out of several plugins."""
    from anymc3d.cli.doubts import warn_of_doubts
    from anymc3d.cli.main import print_json
    from anymc3d.cli.new_plugin import write_new
    from anymc3d.evaluate.task_calibration import states_in_words
    from anymc3d.plugins import load_plugin
    from anymc3d.plugins.ensemble import make_ensemble, warnings_of
    from anymc3d.settings.decision_text import what_is_positive

    plugins = [load_plugin(path) for path in args.plugins]
    card, tensors = make_ensemble(plugins, name=args.name, sources=[str(path) for path in args.plugins])
    warnings = warnings_of(card)
    digest = write_new(args.out, card, tensors, overwrite=args.overwrite, inputs=args.plugins)
    for warning in warnings:
        warn(warning)
    warn_of_doubts([card])
    if args.json:
        print_json(
            {
                "plugin": str(args.out),
                "name": card.name,
                "hash": digest,
                "members": [member.hash for member in card.members],
                "calibrated": card.is_calibrated,
                "calibration": card.calibration_states,
                "warnings": warnings,
            }
        )
    elif not args.quiet:
        states = "" if card.labels.is_number else f"; probabilities are {states_in_words(card.calibration_states)}"
        say(f"{args.out}: {card.name}, an ensemble of {len(card.members)} plugins{states}")
        say(what_is_positive(card.labels))
        say("Research use only. Not a medical device.")
    return 0
