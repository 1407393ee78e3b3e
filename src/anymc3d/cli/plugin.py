"""``anymc3d plugin show|verify|export|import``; ``push|pull|keygen`` are in ``plugin_sharing.py``."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from anymc3d.cli import plugin_sharing
from anymc3d.cli.say import answer, say
from anymc3d.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    show = actions.add_parser("show", help="what a plugin is, was trained on and reached")
    show.add_argument("plugin", type=Path, metavar="PLUGIN")
    verify = actions.add_parser("verify", help="check a plugin's file, and that its backbone is available and fits")
    verify.add_argument("plugin", type=Path, metavar="PLUGIN")
    verify.add_argument("--backbone", help="folder, file or name; default: found by fingerprint")
    plugin_sharing.add_signed_by(verify, "also check the signature beside it")
    export = actions.add_parser("export", help="write the LoRA weights as PEFT folders, or the whole network")
    export.add_argument("plugin", type=Path, metavar="PLUGIN")
    export.add_argument("-o", "--out", type=Path, required=True, metavar="OUT", help="a folder; with --onnx a file")
    form = export.add_mutually_exclusive_group()
    form.add_argument("--onnx", action="store_true", help="the network with the adapter merged, as one ONNX file")
    form.add_argument("--monai-bundle", action="store_true", help="the same network as a bundle for MONAI's runner")
    export.add_argument("--backbone", help="with --onnx, --monai-bundle: folder, file or name; default: by fingerprint")
    bring = actions.add_parser("import", help="make a plugin again from an exported PEFT folder")
    bring.add_argument("folder", type=Path, metavar="FOLDER")
    bring.add_argument("-o", "--out", type=Path, required=True, metavar="PLUGIN")
    bring.add_argument("--overwrite", action="store_true", help="write over another plugin at that place")
    for sub in (show, verify, export, bring, *plugin_sharing.add_actions(actions)):
        sub.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Run the chosen action."""
    actions = {"show": _show, "verify": _verify, "export": _export, "import": _import}
    return (actions | plugin_sharing.ACTIONS)[args.action](args)


def _show(args: argparse.Namespace) -> int:
    from anymc3d.cli.main import print_json
    from anymc3d.plugins import load_plugin
    from anymc3d.plugins.describe import describe, facts_of
    from anymc3d.plugins.needs import needs_of
    from anymc3d.settings.plain import to_plain

    plugin = load_plugin(args.plugin)
    if args.json:
        needs = [asdict(need) for need in needs_of(plugin.card)]
        print_json(facts_of(plugin, args.plugin) | {"needs": needs, "card": to_plain(plugin.card)})
        return 0
    answer(*describe(plugin, args.plugin))
    return 0


def _verify(args: argparse.Namespace) -> int:
    from anymc3d.cli.main import print_json
    from anymc3d.plugins import load_plugin
    from anymc3d.plugins.describe import facts_of
    from anymc3d.predict.predictor import Predictor

    signed_by = plugin_sharing.checked_signer(args)
    plugin = load_plugin(args.plugin)
    Predictor([plugin], backbone=args.backbone, device="cpu")
    if args.json:
        print_json(facts_of(plugin, args.plugin) | {"fits": True, "signed_by": signed_by})
    else:
        backbone = plugin.card.backbone
        fits = "it needs no backbone" if backbone is None else f"its backbone {backbone.name} is available and fits"
        answer(f"{args.plugin}: whole; {fits}" + (f"; signed by {signed_by}" if signed_by else ""))
    return 0


def _export(args: argparse.Namespace) -> int:
    from anymc3d.cli.main import print_json
    from anymc3d.plugins import load_plugin

    if args.onnx or args.monai_bundle:
        return _export_network(args)
    if args.backbone is not None:
        raise UsageError("--backbone: only with --onnx or --monai-bundle; PEFT folders hold no backbone")
    from anymc3d.plugins.peft import export_peft

    folders = export_peft(load_plugin(args.plugin), args.out)
    if args.json:
        print_json([str(folder) for folder in folders])
    else:
        say(*(f"wrote {folder}" for folder in folders))
    return 0


def _export_network(args: argparse.Namespace) -> int:
    from anymc3d.cli.main import print_json
    from anymc3d.plugins import load_plugin
    from anymc3d.plugins.export.monai_bundle import export_bundle
    from anymc3d.plugins.export.onnx_file import export_onnx

    plugin = load_plugin(args.plugin)
    if args.onnx and (args.out.suffix != ".onnx" or args.out.exists()):
        raise UsageError(f"--out: expected the name of a new .onnx file, got {args.out}")
    if args.onnx:
        difference = export_onnx(plugin, args.out, backbone=args.backbone)
    else:
        difference = export_bundle(plugin, args.plugin, args.out, backbone=args.backbone)
    if args.json:
        print_json({"out": str(args.out), "largest_difference": difference})
    else:
        say(f"wrote {args.out}: its logits differ from the plugin's by {difference:.1g} at most")
        say("It holds the backbone, whose licence holds for it; preparing scans and calibration stay outside.")
    return 0


def _import(args: argparse.Namespace) -> int:
    from anymc3d.cli.main import print_json
    from anymc3d.cli.new_plugin import write_new
    from anymc3d.plugins.peft import REST, import_peft

    card, tensors = import_peft(args.folder)
    write_new(args.out, card, tensors, overwrite=args.overwrite, inputs=[args.folder / REST])
    if args.json:
        print_json({"plugin": str(args.out), "name": card.name})
    else:
        say(f"wrote {args.out}: {card.name}")
    return 0
