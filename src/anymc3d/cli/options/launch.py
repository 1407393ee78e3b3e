"""Options of ``train`` that start several processes: on one machine, or on each of several nodes."""

from __future__ import annotations

import argparse
import os

from anymc3d.errors import UsageError

_OPTIONS = ("--launch", "--nodes", "--node-rank", "--rendezvous")


def add_launch(parser: argparse.ArgumentParser) -> None:
    """Add the options that start processes."""
    parser.add_argument("--launch", type=int, metavar="N", help="start N processes here, one per graphics card")
    parser.add_argument("--nodes", type=int, metavar="M", help="with --launch: the same command runs on M nodes")
    parser.add_argument("--node-rank", type=int, metavar="R", help="with --nodes: the number of this one, from 0")
    parser.add_argument(
        "--rendezvous", metavar="HOST:PORT", help="with --nodes: where they meet, a free port of node 0"
    )


def is_launcher(args: argparse.Namespace) -> bool:
    """Whether this process only starts others.

    Raises:
        UsageError: options without the one that they belong to, or within a group that was started already.
    """
    others = (args.nodes, args.node_rank, args.rendezvous)
    if args.launch is None:
        if any(value is not None for value in others):
            raise UsageError("--nodes, --node-rank and --rendezvous: only with --launch N")
        return False
    if args.quick:
        raise UsageError("--launch: --quick runs in one process; leave out --launch")
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise UsageError("--launch: this process is one of several already (WORLD_SIZE is set); leave out --launch")
    if args.nodes is None and (args.node_rank is not None or args.rendezvous is not None):
        raise UsageError("--node-rank and --rendezvous: only with --nodes M")
    if args.nodes is not None and args.nodes > 1 and args.node_rank is None:
        raise UsageError("--nodes: needs --node-rank R, the number of this node from 0")
    return True


def launch(args: argparse.Namespace) -> int:
    """Start the processes and wait for them."""
    from anymc3d.train.launch import Launch, run_launched

    wanted = Launch(
        processes=args.launch, nodes=args.nodes or 1, node_rank=args.node_rank or 0, rendezvous=args.rendezvous
    )
    run_launched(wanted, without_launch(args.given))
    return 0


def without_launch(words: tuple[str, ...]) -> list[str]:
    """The words of a command without the options of this module, in whichever way they are written."""
    remaining, skip = [], False
    for word in words:
        name, equals, _ = word.partition("=")
        if skip:
            skip = False
        elif name in _OPTIONS:
            skip = not equals
        else:
            remaining.append(word)
    return remaining
