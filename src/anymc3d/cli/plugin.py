"""``anymc3d plugin show|verify|export|import``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anymc3d.cli.say import say
from anymc3d.printable import quoted

if TYPE_CHECKING:
    from anymc3d.plugins import Plugin
    from anymc3d.plugins.card import PluginCard


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="show|verify|export|import")
    show = actions.add_parser("show", help="what a plugin is, was trained on and reached")
    show.add_argument("plugin", type=Path, metavar="PLUGIN")
    verify = actions.add_parser("verify", help="check a plugin's file, and that its backbone is at hand and fits")
    verify.add_argument("plugin", type=Path, metavar="PLUGIN")
    verify.add_argument("--backbone", help="folder, file or name; default: found by fingerprint")
    export = actions.add_parser("export", help="write the LoRA weights as a PEFT folder, one per view")
    export.add_argument("plugin", type=Path, metavar="PLUGIN")
    export.add_argument("-o", "--out", type=Path, required=True, metavar="FOLDER")
    bring = actions.add_parser("import", help="make a plugin again from an exported PEFT folder")
    bring.add_argument("folder", type=Path, metavar="FOLDER")
    bring.add_argument("-o", "--out", type=Path, required=True, metavar="PLUGIN")
    bring.add_argument("--overwrite", action="store_true", help="write over another plugin at that place")
    for sub in (show, verify, export, bring):
        sub.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Run the chosen action."""
    return {"show": _show, "verify": _verify, "export": _export, "import": _import}[args.action](args)


def _show(args: argparse.Namespace) -> int:
    from anymc3d.cli.main import print_json
    from anymc3d.plugins import load_plugin
    from anymc3d.plugins.needs import needs_of
    from anymc3d.settings.plain import to_plain

    plugin = load_plugin(args.plugin)
    if args.json:
        needs = [asdict(need) for need in needs_of(plugin.card)]
        print_json(_facts(plugin, args.plugin) | {"needs": needs, "card": to_plain(plugin.card)})
        return 0
    say(*describe(plugin, args.plugin))
    return 0


def _facts(plugin: Plugin, path: Path) -> dict[str, Any]:
    return {
        "name": plugin.card.name,
        "file_bytes": path.stat().st_size,
        "parameters": sum(tensor.numel() for tensor in plugin.tensors.values()),
        "hash": plugin.hash,
    }


def describe(plugin: Plugin, path: Path) -> list[str]:
    """A plugin in about twenty lines for people; what its maker says of use stands beside what this program says."""
    from anymc3d.plugins.card import INTENDED_USE
    from anymc3d.settings.decision_text import what_is_positive

    card, facts = plugin.card, _facts(plugin, path)
    views = [
        f"  {name}: {view.plane}, {' x '.join(str(n) if n else 'all' for n in view.size)}, {view.normalise}"
        + ("" if view.statistics == "backbone" else ", without the backbone's mean and standard deviation")
        + (f" {', '.join(f'[{low:g}, {high:g}]' for low, high in view.windows)}" if view.windows else "")
        for name, view in card.preprocessing.items()
    ]
    wanted = ("auroc", "average_precision", "sensitivity", "specificity", "accuracy")
    wanted = ("mae", "r2", "pearson", "spearman") if card.labels.is_number else wanted
    metrics = [
        f"  {row['metric']} {row['label']}: {_number(row['value'])}"
        + (f" ({_number(row['ci_low'])} to {_number(row['ci_high'])})" if row["ci_low"] not in ("", None) else "")
        for row in card.metrics
        if row["metric"] in wanted and row["group"] == "all"
    ]
    return [
        f"{card.name} ({card.kind}, format {card.format_version}): {facts['parameters']:,} parameters, "
        f"{facts['file_bytes']:,} bytes",
        f"hash: {facts['hash']}",
        f"labels: {', '.join(card.labels.output_names)} ({card.labels.kind}); modality {card.modality}",
        what_is_positive(card.labels),
        "views (in-plane x, in-plane y, slices):",
        *views,
        *_backbone(card),
        *_needs(card),
        *_members(card),
        *_method(card),
        *_covariates(card),
        *_decisions(card),
        *(["on the validation cases the epoch was chosen on (optimistic):", *metrics] if metrics else []),
        f"licence: {card.licence}" + (f" (backbone: {card.backbone.licence})" if card.backbone else ""),
        *([f"its maker says of use: {quoted(card.intended_use)}"] if card.intended_use != INTENDED_USE else []),
        INTENDED_USE,
    ]


def _needs(card: PluginCard) -> list[str]:
    from anymc3d.plugins.needs import needs_of

    found = [f"  {need.what}: {need.how}" for need in needs_of(card)]
    return ["needs on this machine:", *found] if found else ["needs on this machine: nothing beside this program"]


def _covariates(card: PluginCard) -> list[str]:
    from anymc3d.plugins.covariates import in_words

    if card.covariates is None:
        return []
    model = card.covariates.model
    lines = [f"  {in_words(one)}" for one in card.covariates.columns]
    fitted = f"fitted on {model.cases} training cases, joined with the image on {model.joined_on}"
    return [f"covariates, {fitted}:", *lines]


def _backbone(card: PluginCard) -> list[str]:
    if card.is_mixed:
        return []
    if card.kind == "plain":
        return ["backbone: none; no network at all"]
    if card.backbone is None:
        return ["backbone: none; the file holds all weights of the network"]
    return [f"backbone: {card.backbone.name}, {card.backbone.positions} positions, {card.backbone.fingerprint}"]


def _members(card: PluginCard) -> list[str]:
    if not card.members:
        return []
    total = sum(member.weight for member in card.members)
    equal = len({member.weight for member in card.members}) == 1
    lines = [
        f"  {i}: {member.card.name}, {member.hash[:12]}" + ("" if equal else f", weight {member.weight / total:.3f}")
        for i, member in enumerate(card.members)
    ]
    mean = "mean" if equal else "weighted mean"
    return [f"ensemble of {len(card.members)}; logit = {mean} of the members' calibrated logits:", *lines]


def _method(card: PluginCard) -> list[str]:
    cards = [member.card for member in card.members] or [card]
    methods = dict.fromkeys(_method_of(one) for one in cards)
    lines = [f"method: {method}" for method in methods]
    lines += [f"training: {how}" for how in dict.fromkeys(_start(one) for one in cards) if how]
    if card.segmentation is not None:
        what = "kept" if card.decodes else "not kept"
        labels = ", ".join(map(str, card.segmentation.classes))
        lines.append(f"learned from masks: {card.segmentation.decoder}, structures {labels}, decoder {what}")
    lines.append(f"training scans: {_statistics(cards)}")
    if not card.split:
        return lines
    split = ", ".join(f"{name} {part['cases']}" for name, part in card.split.items() if isinstance(part, dict))
    return [*lines, f"cases: {split}; split by patient"]


def _method_of(card: PluginCard) -> str:
    from anymc3d.models.plain import PLAIN

    if card.plain is not None:
        count = len(card.plain.measures)
        what = f"linear in {count} measures" if count else "linear in the voxels"
        return f"{card.method.name}, {what}, {PLAIN[card.method.name].summary}"
    if card.backbone is None:
        return f"{card.method.name}, started from {card.training.get('start_weights', 'unknown weights')}"
    seen = "" if card.features == "class" else f", features {card.features}"
    lora = "" if card.method.name == "frozen" else f", rank {card.method.rank}, alpha {card.method.alpha:g}"
    return f"{card.method.name}{lora}{_last_blocks(card)}, fusion {card.fusion}{seen}"


def _statistics(cards: Sequence[PluginCard]) -> str:
    """Of what there are statistics, by which ``predict`` says that a scan is unlike them."""
    if not all(card.scan_statistics for card in cards):
        return "no statistics of them, so predict gives no ood_score"
    names = sorted({name for card in cards if card.scan_statistics for name in card.scan_statistics.measures})
    return f"statistics of {', '.join(names)}; predict gives an ood_score and warns above 1"


def _last_blocks(card: PluginCard) -> str:
    """Of a plugin that leaves a trunk as it is: where it adapts, and the trunk's fingerprint."""
    if card.method.blocks is None or card.backbone is None:
        return ""
    last = "block" if card.method.blocks == 1 else f"{card.method.blocks} blocks"
    return f", in the last {last} (trunk {card.backbone.trunk})"


def _start(card: PluginCard) -> str:
    """What training started from, and which epoch was kept."""
    training = card.training
    if "start" not in training or card.backbone is None:
        return ""
    if training["start"] == "random":
        return "from random values, as in the paper"
    kept = training.get("best_epoch")
    which = "which no epoch beat by more than noise" if kept == 0 else f"epoch {kept} kept"
    return f"from the solution on frozen features, {which}"


def _decisions(card: PluginCard) -> list[str]:
    """Calibration and operating points, with what they were fitted on."""
    points = [
        f"  {name}: {point['name']} on {point['source_split']} (n = {point['n']}, {point['n_positive']} positive), "
        f"raw logit >= {point['threshold']:.4g}"
        for name, point in zip(card.labels.output_names, card.operating_points, strict=bool(card.operating_points))
    ]
    if card.labels.is_number:
        return [_number_line(card)]
    heading = "operating points (none is used: the largest probability decides):"
    if not card.labels.one_of_classes:
        heading = "operating points:" if points else "operating points: probability >= 0.5"
    return [*_calibration(card), heading, *points, *_sets(card)]


def _sets(card: PluginCard) -> list[str]:
    sets = card.prediction_sets
    if sets is None:
        return []
    return [f"prediction sets: coverage {sets.coverage:g} of every answer, fitted on {sets.cases} cases ({sets.split})"]


def _number_line(card: PluginCard) -> str:
    scale = card.number
    if scale is None:
        return "answers a number: the mean of its members'"
    trained = f"{scale.low:g} to {scale.high:g}, mean {scale.center:.4g}, standard deviation {scale.spread:.4g}"
    return f"answers a number; the training cases have {trained}"


def _calibration(card: PluginCard) -> list[str]:
    from anymc3d.evaluate.task_calibration import states_in_words

    own = card.calibration
    if own is None:
        states = states_in_words(card.calibration_states)
        inner = "each member's own (see its plugin)" if card.holds_calibration else "none"
        return [f"calibration: {inner}; probabilities are {states}"]
    criterion = f" through the operating point ({own.criterion})" if own.method == "platt" else ""
    lines = [
        f"  {name}: slope {one.slope:.4g}, n = {one.n}"
        + (f", {one.n_positive} positive" if not card.labels.one_of_classes else "")
        + (f" ({one.note})" if one.note else "")
        for name, one in own.maps.items()
    ]
    states = states_in_words(card.calibration_states)
    heading = f"calibration: {own.method}{criterion}, on {own.cases} cases ({own.split}); probabilities are {states}:"
    return [heading, *lines]


def _number(text: object) -> str:
    return "undefined" if text in ("", None) else f"{float(str(text)):.3f}"


def _verify(args: argparse.Namespace) -> int:
    from anymc3d.cli.main import print_json
    from anymc3d.plugins import load_plugin
    from anymc3d.predict.predictor import Predictor

    plugin = load_plugin(args.plugin)
    Predictor([plugin], backbone=args.backbone, device="cpu")
    if args.json:
        print_json(_facts(plugin, args.plugin) | {"fits": True})
    else:
        backbone = plugin.card.backbone
        fits = "it needs no backbone" if backbone is None else f"its backbone {backbone.name} is at hand and fits"
        say(f"{args.plugin}: whole; {fits}")
    return 0


def _export(args: argparse.Namespace) -> int:
    from anymc3d.cli.main import print_json
    from anymc3d.plugins import load_plugin
    from anymc3d.plugins.peft import export_peft

    folders = export_peft(load_plugin(args.plugin), args.out)
    if args.json:
        print_json([str(folder) for folder in folders])
    else:
        say(*(f"wrote {folder}" for folder in folders))
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
