"""``anymc3d data prepare TASK``: the scans of a task into the cache before training, on one machine or in parts."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from anymc3d.cli.options.inputs import add_segmenter
from anymc3d.cli.options.parts import add_part, chosen_part, engine_options, is_split, run_part, without_engine
from anymc3d.cli.say import fail, say

if TYPE_CHECKING:
    from anymc3d.data.case import Case
    from anymc3d.engines.work import Outcome


def add_prepare(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``anymc3d data prepare``."""
    parser.add_argument("task", type=Path, metavar="task.yaml", help="the task file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="as for 'anymc3d train'")
    add_segmenter(parser, "the network that draws a region, or the TotalSegmentator program")
    add_part(parser, what="only the K-th of N parts of the cases; all parts share the cache")


def prepare(args: argparse.Namespace) -> int:
    """Prepare the cases of all splits; 3 or 4 where some or all of them cannot be used."""
    from anymc3d.data.manifest import read_manifest
    from anymc3d.settings.task_file import programs_named, read_task

    task = read_task(args.task, args.overrides)
    args.segmenter += programs_named(args.overrides)
    if is_split(args):
        return _prepare_split(args)
    part = chosen_part(args)
    cases = read_manifest(task.data.manifest, labels=task.labels.columns).cases
    own_cases = [case for case in cases if part is None or part.takes(case.id)]
    problems = _problems(args, own_cases)
    for problem in problems:
        fail(problem)
    if args.json:
        from anymc3d.cli.main import print_json

        print_json({"cases": len(own_cases), "failed": len(problems), "problems": problems})
    elif not args.quiet:
        from anymc3d.files.home import cache_folder

        which = "" if part is None else f", part {part}"
        say(f"{cache_folder()}: {len(own_cases) - len(problems)} of {len(own_cases)} cases are prepared{which}")
    return 0 if not problems else 4 if len(problems) == len(own_cases) else 3


def _problems(args: argparse.Namespace, cases: list[Case]) -> list[str]:
    """Prepare the cases; what stands against those that cannot be."""
    from anymc3d.cost.progress import Progress
    from anymc3d.data.cache import Cache
    from anymc3d.data.dataset import prepare_all
    from anymc3d.errors import ManifestError
    from anymc3d.files.home import cache_folder
    from anymc3d.segmenters.build import build_segmenters
    from anymc3d.settings.task_file import read_task

    task = read_task(args.task, args.overrides)
    segmenters = build_segmenters(task.views.values(), given_paths=args.segmenter)
    try:
        with Progress(total=len(cases), what="preparing scans", unit="scan", quiet=args.quiet or args.json) as bar:
            prepare_all(
                cases,
                task.views,
                Cache(cache_folder()),
                progress=bar.update,
                segmenters=segmenters,
                with_masks=task.segmentation.is_on,
            )
    except ManifestError as error:
        return list(error.problems)
    return []


def _prepare_split(args: argparse.Namespace) -> int:
    """The parts through an engine. There is nothing to join: what is in the cache is found there when a part that was
    lost is started again."""
    from dataclasses import replace

    from anymc3d.engines.table import chosen_engine
    from anymc3d.engines.work import Outcome, Work
    from anymc3d.errors import RunFolderError
    from anymc3d.files.home import home_folder
    from anymc3d.files.parts import Part

    engine = chosen_engine(args.backend)
    options = replace(engine_options(args), retries=2, folder=home_folder() / "jobs")
    names = [str(Part(args.jobs, number)) for number in range(1, args.jobs + 1)]
    command, *words = without_engine(args.given)
    work = [
        Work(
            name=f"part {name}",
            call=partial(run_part, [command, *words, "--part", name, "--quiet"], f"part {name}"),
            recorded=partial(Outcome, f"part {name}", "waiting"),
        )
        for name in names
    ]
    outcomes: list[Outcome] = list(engine(work, options))
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    if failed:
        reasons = "; ".join(f"{outcome.job}: {outcome.message}" for outcome in failed[:5])
        raise RunFolderError(
            f"{len(failed)} of {len(work)} parts failed: {reasons}; the same command does what is missing"
        )
    codes = {outcome.exit_code for outcome in outcomes}
    if not args.quiet:
        say(f"{len(work)} parts are prepared{', some cases of them cannot be used' * bool(codes - {0})}")
    return 0 if codes == {0} else 4 if codes == {4} else 3
