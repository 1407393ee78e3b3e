"""``anymc3d benchmark --list-tasks``: the twelve tasks of the paper."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    jobs = parser.add_mutually_exclusive_group(required=True)
    jobs.add_argument("--list-tasks", action="store_true", help="the recipes of the paper's tasks, T1 to T12")
    parser.add_argument("--json", action="store_true", help="print all that a recipe says as JSON")


def run(args: argparse.Namespace) -> int:
    """Run the chosen job; ``--list-tasks`` is the only one so far."""
    return _list_tasks(args)


def _list_tasks(args: argparse.Namespace) -> int:
    from anymc3d.cli.main import print_json
    from anymc3d.recipes.table import RECIPES, listing, recipe_facts

    if args.json:
        print_json([recipe_facts(recipe) for recipe in RECIPES.values()])
        return 0
    print("\n".join(listing()))
    print("\nAUROC as printed in the paper; several values are several printed ones. A task file of one of them:")
    print("anymc3d plan manifest.csv --recipe T2 -o task.yaml")
    return 0
