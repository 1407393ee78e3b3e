"""``anymc3d benchmark``: methods x tasks x seeds, the paper's tables of them, and what there is to compare."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from anymc3d.cli.options.compute import add_device
from anymc3d.cli.options.inputs import add_segmenter
from anymc3d.cli.options.parts import add_engine, engine_options
from anymc3d.cli.say import answer, answer_text, fail, say
from anymc3d.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.usage = (
        "anymc3d benchmark bench.yaml -o OUT [key=value …]\n"
        "       anymc3d benchmark table OUT [--layout NAME] [--format NAME] [-o FILE]\n"
        "       anymc3d benchmark figure OUT --layout NAME -o FILE.png\n"
        "       anymc3d benchmark --list-tasks\n"
        "       anymc3d benchmark --list-methods [WORD …]"
    )
    parser.add_argument("words", nargs="*", metavar="bench.yaml", help="the benchmark file, or: table OUT, figure OUT")
    parser.add_argument(
        "-o", "--out", type=Path, metavar="OUT", help="the folder of all jobs and results; or the file of a table"
    )
    lists = parser.add_mutually_exclusive_group()
    lists.add_argument("--list-tasks", action="store_true", help="the recipes of the paper's tasks, T1 to T12")
    lists.add_argument(
        "--list-methods",
        action="store_true",
        help="everything there is to compare, in groups, with parameters counted for K = 2; with words, only names "
        "that have them all",
    )
    parser.add_argument("--check", action="store_true", help="check the file and everything it names, run nothing")
    add_engine(parser)
    add_device(parser)
    add_segmenter(parser, "as for 'anymc3d train'; for all jobs")
    parser.add_argument("--layout", default="main", metavar="NAME", help="of a table or figure (default: main)")
    parser.add_argument("--format", default="md", metavar="NAME", help="of a table: md, csv, html, latex (default: md)")
    parser.add_argument("--json", action="store_true", help="print as JSON")
    parser.add_argument("--quiet", action="store_true", help="print warnings only")


def run(args: argparse.Namespace) -> int:
    """Run the chosen job."""
    words = args.words
    if args.list_methods:
        return _list_methods(args)
    if args.list_tasks:
        if words:
            raise UsageError(f"--list-tasks: takes no benchmark file, got {words[0]}")
        return _list_tasks(args)
    if not words:
        raise UsageError("anymc3d benchmark: expected a benchmark file, table, figure, --list-tasks or --list-methods")
    return JOBS.get(words[0], _run_plan)(args)


def _list_tasks(args: argparse.Namespace) -> int:
    from anymc3d.cli.main import print_json
    from anymc3d.recipes.table import RECIPES, listing, recipe_facts

    if args.json:
        print_json([recipe_facts(recipe) for recipe in RECIPES.values()])
        return 0
    answer(*listing())
    answer("", "AUROC as printed in the paper; several values are several printed ones. A task file of one of them:")
    answer("anymc3d plan manifest.csv --recipe T2 -o task.yaml")
    return 0


def _list_methods(args: argparse.Namespace) -> int:
    from anymc3d.benchmark.systems import choose_systems, left_out_lines, list_systems, system_lines
    from anymc3d.cli.main import print_json

    records = choose_systems(list_systems(), args.words)
    if args.json:
        print_json(records)
        return 0
    answer(*system_lines(records))
    answer(
        "",
        "Parameters for two logits (one yes/no label). anymc3d/BACKBONE/FUSION is backbone: BACKBONE, fusion: FUSION;",
    )
    answer("frozen/BACKBONE is method: frozen; other names are method: NAME. Licences of weights are their owners'.")
    if left_out := left_out_lines(records):
        answer("", "Of these published systems a part is not here:", *left_out)
    return 0


def _run_plan(args: argparse.Namespace) -> int:
    from anymc3d.benchmark.plan import read_plan

    if args.out is None:
        raise UsageError("anymc3d benchmark: expected -o OUT, the folder of all jobs and results")
    engine = engine_options(args)
    plan = read_plan(args.words[0], args.words[1:])
    if args.check:
        return _check(plan, args)
    from anymc3d.benchmark.jobs import RunOptions
    from anymc3d.benchmark.run import run_benchmark
    from anymc3d.settings.task_file import programs_named

    drawn_by = (*args.segmenter, *programs_named(args.words[1:]))
    options = RunOptions(device=args.device, quiet=args.quiet, segmenters=drawn_by)
    run = run_benchmark(plan, args.out, backend=args.backend, options=options, engine=engine)
    _report(run, args)
    return run.exit_code


def _check(plan: Any, args: argparse.Namespace) -> int:
    from anymc3d.benchmark.jobs import job_state
    from anymc3d.benchmark.prepare import prepare_jobs
    from anymc3d.benchmark.run import check_folder
    from anymc3d.cli.main import print_json

    _, jobs = prepare_jobs(plan, args.out)
    check_folder(plan, args.out)
    states = [{"job": job.name, "trials": len(job.trials), "state": job_state(job).state} for job in jobs]
    if args.json:
        print_json(states)
        return 0
    for state in states:
        trials = f", {state['trials']} trials" if state["trials"] > 1 else ""
        answer(f"{state['job']}: {state['state']}{trials}")
    answer(f"{len(jobs)} jobs; the file, its tasks and its methods can be used")
    return 0


def _report(run: Any, args: argparse.Namespace) -> None:
    from anymc3d.cli.main import print_json

    failed = [outcome for outcome in run.outcomes.values() if outcome.state == "failed"]
    if args.json:
        print_json(
            {
                "results": str(run.results),
                "jobs": len(run.outcomes),
                "reused": run.reused,
                "failed": [{"job": outcome.job, "message": outcome.message} for outcome in failed],
            }
        )
        return
    for outcome in failed:
        fail(f"failed: {outcome.job}: {outcome.message}")
    say(f"{run.results}: {len(run.outcomes) - len(failed)} jobs, {run.reused} done before, {len(failed)} failed")
    say(f"anymc3d benchmark table {args.out}")


def _table(args: argparse.Namespace) -> int:
    from anymc3d.benchmark.tables.grid import render
    from anymc3d.benchmark.tables.rows import read_results
    from anymc3d.benchmark.tables.table import make_table
    from anymc3d.files import atomic

    text = render(make_table(read_results(_folder(args)), args.layout), args.format)
    if args.out is None:
        answer_text(text)
    else:
        with _written(args.out):
            atomic.write_text(args.out, text)
    return 0


def _figure(args: argparse.Namespace) -> int:
    from anymc3d.benchmark.figures import draw_figure
    from anymc3d.benchmark.tables.rows import read_results

    if args.out is None:
        raise UsageError("anymc3d benchmark figure: expected -o FILE.png")
    with _written(args.out):
        draw_figure(read_results(_folder(args)), args.layout, args.out)
    if not args.quiet:
        say(args.out)
    return 0


@contextmanager
def _written(path: Path) -> Iterator[None]:
    """A file that cannot be written is wrong use."""
    try:
        yield
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror or error}); choose another -o") from None


def _folder(args: argparse.Namespace) -> Path:
    if len(args.words) != 2:
        raise UsageError(f"anymc3d benchmark {args.words[0]}: expected the folder of one benchmark")
    return Path(args.words[1])


JOBS: dict[str, Callable[[argparse.Namespace], int]] = {"table": _table, "figure": _figure}
"""First word -> what is done; any other first word is a benchmark file."""
