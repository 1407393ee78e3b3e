"""``anymc3d plugin push|pull|keygen``: plugins that travel."""

from __future__ import annotations

import argparse
from pathlib import Path

from anymc3d.cli.say import say


def add_actions(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> list[argparse.ArgumentParser]:
    """Add the actions of this module; the parsers that came of it."""
    push = actions.add_parser("push", help="put a plugin into a folder, on an HTTPS mirror or on the Hugging Face Hub")
    push.add_argument("plugin", type=Path, metavar="PLUGIN")
    push.add_argument("target", metavar="TARGET", help="FOLDER, https://… or hf://OWNER/NAME")
    push.add_argument("--sign", type=Path, metavar="KEY", help="a private key, which plugin keygen makes")
    push.add_argument("--public", action="store_true", help="a new repository of the hub is for everybody to see")
    pull = actions.add_parser("pull", help="bring a plugin here, checked; nothing in it is run")
    pull.add_argument("source", metavar="SOURCE", help="FOLDER, https://… or hf://OWNER/NAME[@REVISION]")
    pull.add_argument("-o", "--out", type=Path, required=True, metavar="PLUGIN", help="the file it becomes")
    pull.add_argument("--sha256", metavar="HEX", help="refuse a file with another hash; a pull prints it")
    pull.add_argument("--lock", type=Path, metavar="FILE", help="take the hash from this file, or add it there")
    add_signed_by(pull, "refuse what none of these keys signed")
    pull.add_argument("--overwrite", action="store_true", help="write over another plugin at that place")
    pull.add_argument("--quiet", action="store_true", help="no progress bar")
    keygen = actions.add_parser("keygen", help="make a key to sign with: KEY, and KEY.pub for others")
    keygen.add_argument("-o", "--out", type=Path, required=True, metavar="KEY")
    return [push, pull, keygen]


def add_signed_by(parser: argparse.ArgumentParser, what: str) -> None:
    """Add ``--signed-by KEY``."""
    text = f"{what}: a public key or a file of them; can be repeated"
    parser.add_argument("--signed-by", action="append", default=[], metavar="KEY", help=text)


def checked_signer(args: argparse.Namespace) -> str | None:
    """Who signed the plugin that ``plugin verify`` was given, where that was asked for.

    Raises:
        PluginError: none of the keys did.
    """
    from anymc3d.plugins.sharing import signer
    from anymc3d.plugins.signature import named_keys

    return signer(args.plugin, named_keys(args.signed_by)) if args.signed_by else None


def _push(args: argparse.Namespace) -> int:
    from anymc3d.cli.main import print_json
    from anymc3d.plugins.sharing import push

    pushed = push(args.plugin, args.target, key=args.sign, private=not args.public)
    if args.json:
        print_json(vars(pushed))
        return 0
    signed = f" --signed-by {pushed.signed_by}" if pushed.signed_by else ""
    say(f"{pushed.place}: pushed")
    say(f"others bring it with: anymc3d plugin pull {args.target} -o PLUGIN --sha256 {pushed.sha256}{signed}")
    return 0


def _pull(args: argparse.Namespace) -> int:
    from anymc3d.cli.main import print_json
    from anymc3d.cli.progress import progress_bar
    from anymc3d.plugins.sharing import pull
    from anymc3d.plugins.signature import named_keys

    keys = named_keys(args.signed_by)
    options = {"sha256": args.sha256, "lock": args.lock, "overwrite": args.overwrite}
    pulled = pull(args.source, args.out, keys=keys, progress=progress_bar(args.quiet or args.json), **options)
    if args.json:
        print_json(vars(pulled) | {"plugin": str(args.out)})
        return 0
    say(f"wrote {args.out}, from {pulled.place}" + (f", signed by {pulled.signed_by}" if pulled.signed_by else ""))
    if args.sha256 is None:
        say(f"pin it: --sha256 {pulled.sha256}")
    return 0


def _keygen(args: argparse.Namespace) -> int:
    from anymc3d.cli.main import print_json
    from anymc3d.plugins.signature import make_key

    public = make_key(args.out)
    if args.json:
        print_json({"private": str(args.out), "public": public})
    else:
        say(f"wrote {args.out}, for you alone, and {args.out}.pub, for others:", public)
    return 0


ACTIONS = {"push": _push, "pull": _pull, "keygen": _keygen}
