"""``anymc3d data``: manifests from public layouts, splits and folds, public files, and the cache of prepared scans."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anymc3d.cli.data_prepare import add_prepare, prepare
from anymc3d.cli.refusals import warn_of
from anymc3d.cli.say import answer, fail, say, warn
from anymc3d.errors import ManifestError, UsageError, coded

if TYPE_CHECKING:
    from anymc3d.adapters import Adapted, AdaptOptions
    from anymc3d.data.manifest import Manifest
    from anymc3d.data.split_manifest import NewColumn

SHOWN_ITEMS = {"ok": 20, "warn": 20, "error": 200}
"""Lines shown of one kind of finding; ``--json`` shows all."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the sub-commands of ``anymc3d data`` to its parser."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("list", help="the layouts that are read, and the public data sets")
    get = actions.add_parser("get", help="fetch the file of a public data set (downloads)")
    get.add_argument("name", metavar="NAME", help="a name of 'anymc3d data list'")
    get.add_argument("-o", "--out", type=Path, required=True, metavar="DIR", help="where to put it")
    _add_adapt(actions.add_parser("adapt", help="a manifest from a folder of a public layout"))
    _add_split(actions.add_parser("split", help="a split or fold column for a manifest, by patient"))
    fetch = actions.add_parser("fetch", help="scans at addresses into a folder, and a manifest of them (downloads)")
    fetch.add_argument("manifest", type=Path, metavar="MANIFEST.csv", help="with addresses in its image columns")
    fetch.add_argument("-o", "--out", type=Path, required=True, metavar="NEW.csv", help="the manifest to write")
    fetch.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="where the scans go")
    fetch.add_argument(
        "--remote",
        action="append",
        required=True,
        metavar="PREFIX",
        help="addresses that begin so are fetched, as s3://bucket/scans/; can be repeated",
    )
    add_prepare(actions.add_parser("prepare", help="the scans of a task into the cache, here or in parts"))
    cache = actions.add_parser(
        "cache", help="size of what is kept to save time (prepared scans, features, trunk tokens), and keeping it small"
    )
    bound = cache.add_mutually_exclusive_group()
    bound.add_argument(
        "--limit", metavar="SIZE", help="of each kind: remove what was used longest ago until this is left, as 20GB"
    )
    bound.add_argument("--clear", action="store_true", help="remove everything that no running process uses")
    for action in actions.choices.values():
        action.add_argument("--json", action="store_true", help="machine-readable output")
        action.add_argument("--quiet", action="store_true", help="no progress bar, nothing printed but faults")


def _add_adapt(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("layout", metavar="LAYOUT", help="a layout of 'anymc3d data list'")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="the data set's folder, or its one file")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="manifest.csv", help="the manifest to write")
    parser.add_argument(
        "--partial",
        action="store_true",
        help="scans that a table names and that are not here are left out with a warning",
    )
    parser.add_argument(
        "--labels",
        "--table",
        type=Path,
        metavar="FILE.csv",
        help="label columns by scan (csv, dicom-tree, nnunet, monai, bids)",
    )
    parser.add_argument("--id", metavar="COLUMN", help="csv, dicom-tree: the column of that table which names the scan")
    parser.add_argument("--series", metavar="RULE", help="dicom-tree: which series, as for 'anymc3d predict'")
    parser.add_argument(
        "--patient", metavar="REGEX", help="finds the patient in a scan's name (csv, nnunet, monai, folders)"
    )
    parser.add_argument("--match", metavar="REGEX", help="only scans in whose path it is found (csv, bids, folders)")
    parser.add_argument(
        "--suffix",
        action="append",
        metavar="SUFFIX",
        help="bids: such as T1w; several are one view each (default: T1w)",
    )
    parser.add_argument(
        "--release",
        default="auto",
        metavar="auto|first|v2",
        help="ct-rate: of which release the voxels are (default: auto, looked at)",
    )
    parser.add_argument(
        "--convert", type=Path, metavar="DIR", help="ct-rate: write corrected copies of first-release volumes here"
    )
    parser.add_argument("--check", type=int, default=8, metavar="N", help="ct-rate: volumes to open (default: 8)")
    parser.add_argument(
        "--validation",
        type=int,
        metavar="N",
        help="ct-rate: volumes of train that become validation (default: 2000, or a tenth of few)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of that validation (default: 0)")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing manifest")


def _add_split(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("manifest", type=Path, metavar="MANIFEST", help="the table of cases")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="NEW.csv", help="the manifest to write")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--fractions", metavar="A,B,C", help="train, val and test (default: 0.7,0.1,0.2)")
    how.add_argument("--folds", type=int, metavar="K", help="a fold column of K folds")
    how.add_argument("--leave-site-out", metavar="COLUMN", help="a fold column with one fold per value of COLUMN")
    parser.add_argument("--labels", metavar="COL[,COL…]", help="stratify on these columns")
    parser.add_argument("--keep-test", action="store_true", help="with --fractions: the given test rows stay test")
    parser.add_argument("--seed", type=int, default=0, help="of the split (default: 0)")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing table")


def run(args: argparse.Namespace) -> int:
    """Run the chosen sub-command, print its result and return the exit code."""
    return ACTIONS[args.action](args)


def _list(args: argparse.Namespace) -> int:
    from anymc3d.adapters.public_sets import PUBLIC_SETS
    from anymc3d.adapters.registry import ADAPTERS
    from anymc3d.cli.main import print_json

    layouts = [
        {"name": a.name, "summary": a.summary, "expects": a.expects, "citation": a.citation, "licence": a.licence}
        for a in ADAPTERS.values()
    ]
    sets = [dataclasses.asdict(entry) for entry in PUBLIC_SETS.values()]
    if args.json:
        print_json({"layouts": layouts, "sets": sets})
        return 0
    answer("layouts ('anymc3d data adapt LAYOUT FOLDER -o manifest.csv'):")
    for entry in layouts:
        answer(f"  {entry['name']:<10} {entry['summary']}", f"             expects {entry['expects']}")
    answer("", "public data sets (those marked * are fetched by 'anymc3d data get NAME -o DIR'):")
    for known in PUBLIC_SETS.values():
        mark = "*" if known.file else " "
        answer(f"{mark} {known.name:<18} {known.title}; {known.size}; {known.licence}")
        if known.gate:
            answer(f"{'':<21}needs {known.gate}")
    answer("", "Licences and citations in full: --json. Cite what you use.")
    return 0


def _get(args: argparse.Namespace) -> int:
    from anymc3d.adapters.fetch import fetch
    from anymc3d.adapters.public_sets import PUBLIC_SETS
    from anymc3d.cli.main import print_json
    from anymc3d.cli.progress import progress_bar

    path = fetch(args.name, args.out, progress=progress_bar(args.quiet))
    entry = PUBLIC_SETS[args.name]
    if args.json:
        print_json({"file": str(path), "md5": entry.file.md5 if entry.file else None, "licence": entry.licence})
    elif not args.quiet:
        say(f"{path}: the published file (md5 agrees); {entry.licence}; cite {entry.citation}")
        say(f"it is a manifest by itself: anymc3d plan {path} --labels label -o task.yaml")
    return 0


def _adapt(args: argparse.Namespace) -> int:
    _refuse_existing(args.out, args.overwrite)

    from anymc3d.adapters import adapt, write_adapted
    from anymc3d.cli.main import print_json
    from anymc3d.cost.progress import Progress

    with Progress(what="scans", unit="scan", quiet=args.quiet or args.json) as bar:
        adapted = adapt(args.layout, args.folder, _options(args, bar.update))
    findings = [dataclasses.asdict(finding) for finding in adapted.findings.listed()]
    if not args.json:
        _print_findings(adapted, quiet=args.quiet)
    if adapted.findings.has_errors:
        if args.json:
            print_json({"manifest": None, "findings": findings})
        number = len(adapted.findings.problems())
        noun = "problem" if number == 1 else "problems"
        fail(f"error: {coded(f'{args.folder}: {number} {noun}; no manifest was written', ManifestError.code)}")
        return UsageError.exit_code
    write_adapted(adapted, args.out, str(args.folder))
    if args.json:
        facts = {"cases": len(adapted.rows), "columns": adapted.columns, "labels": adapted.labels}
        print_json({"manifest": str(args.out), **facts, "findings": findings})
    elif not args.quiet:
        _print_written(adapted, args.out)
    return 0


def _options(args: argparse.Namespace, progress: Callable[[int], object]) -> AdaptOptions:
    from anymc3d.adapters import AdaptOptions

    if args.check < 1:
        raise UsageError(f"--check: expected 1 or more, got {args.check}")
    return AdaptOptions(
        partial=args.partial,
        labels=args.labels,
        id=args.id,
        series=args.series,
        patient=args.patient,
        match=args.match,
        suffixes=tuple(args.suffix) if args.suffix else AdaptOptions().suffixes,
        release=args.release,
        convert=args.convert,
        num_checked=args.check,
        num_validation=args.validation,
        seed=args.seed,
        progress=progress,
    )


def _print_findings(adapted: Adapted, *, quiet: bool) -> None:
    for finding in adapted.findings.listed():
        if finding.level == "error" or not quiet:
            for line in finding.lines(SHOWN_ITEMS[finding.level]):
                answer(line)


def _print_written(adapted: Adapted, out: Path) -> None:
    from anymc3d.adapters.rows import counts

    for line in counts(adapted.rows, adapted.labels):
        say(f"ok     {line}")
    labels = ",".join(adapted.labels) if len(adapted.labels) == 1 else "COL[,COL…]"
    say(f"written to {out}; next: anymc3d plan {out} --labels {labels} -o task.yaml")


def _split(args: argparse.Namespace) -> int:
    _refuse_existing(args.out, args.overwrite)
    from anymc3d.cli.main import print_json
    from anymc3d.data.manifest import read_manifest
    from anymc3d.data.split_manifest import write_with_column

    manifest = read_manifest(args.manifest)
    labels = tuple(name.strip() for name in (args.labels or "").split(",") if name.strip())
    column = _new_column(manifest, labels, args)
    write_with_column(manifest, column, args.out)
    table = _parts(manifest, column, labels)
    if args.json:
        print_json({"manifest": str(args.out), "column": column.name, "parts": table, "warnings": column.warnings})
        return 0
    for warning in (*column.warnings, *(() if labels else ("no --labels: not stratified on any label",))):
        warn(warning)
    if not args.quiet:
        for row in table:
            say("  ".join(f"{name} {_cell(value)}" for name, value in row.items()))
        say(f"written to {args.out}")
        if column.name == "fold":
            number = len({value for value in column.values if value})
            say(
                f"next, with data.manifest={args.out} in the task file: anymc3d train task.yaml -o RUN --folds {number}"
            )
    return 0


def _new_column(manifest: Manifest, labels: tuple[str, ...], args: argparse.Namespace) -> NewColumn:
    from anymc3d.data.split_manifest import fold_column, site_column, split_column

    if args.keep_test and (args.folds is not None or args.leave_site_out):
        raise UsageError("--keep-test is for --fractions; test rows are in no fold anyway")
    if args.folds is not None:
        return fold_column(manifest, labels, folds=args.folds, seed=args.seed)
    if args.leave_site_out:
        return site_column(manifest, labels, column=args.leave_site_out)
    text = args.fractions or ("0.9,0.1,0" if args.keep_test else "0.7,0.1,0.2")
    try:
        train, val, test = (float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--fractions: expected three numbers such as 0.7,0.1,0.2, got {text!r}") from None
    return split_column(manifest, labels, fractions=(train, val, test), seed=args.seed, keep_test=args.keep_test)


def _parts(manifest: Manifest, column: NewColumn, labels: tuple[str, ...]) -> list[dict[str, Any]]:
    """One row per part: cases, patients, and per label how many of each value."""
    rows = []
    for part in sorted(set(column.values)):
        cases = [case for case, value in zip(manifest.cases, column.values, strict=True) if value == part]
        row: dict[str, Any] = {column.name: part or "(none: test rows)", "cases": len(cases)}
        row["patients"] = len({case.patient for case in cases})
        for label in labels:
            values = sorted({case.cells[label] for case in cases} - {""})
            row[label] = {value: sum(case.cells[label] == value for case in cases) for value in values}
        rows.append(row)
    return rows


def _cell(value: Any) -> str:
    """Counts of values as ``{0: 5, 1: 3}``, without quotes."""
    return (
        "{" + ", ".join(f"{name}: {count}" for name, count in value.items()) + "}"
        if isinstance(value, dict)
        else str(value)
    )


def _cache(args: argparse.Namespace) -> int:
    from anymc3d.cli.main import print_json
    from anymc3d.data.cache_size import cache_state, parse_size, trim_cache
    from anymc3d.files import home

    limit = 0 if args.clear else None if args.limit is None else parse_size(args.limit)
    folders = {"prepared": home.cache_folder(), "features": home.feature_folder(), "tokens": home.token_folder()}
    states: dict[str, dict[str, Any]] = {}
    for name, folder in folders.items():
        removed = None if limit is None else trim_cache(folder, limit_bytes=limit)
        state = cache_state(folder) if removed is None else removed.left
        gone = {"num_removed": removed.num_removed, "bytes_removed": removed.bytes_removed} if removed else {}
        states[name] = {**dataclasses.asdict(state), "folder": str(folder), **gone}
    if args.json:
        print_json({**states["prepared"], "features": states["features"], "tokens": states["tokens"]})
        return 0
    for state in states.values():
        _print_cache(state, limit, args.limit)
    return 0


def _print_cache(state: Mapping[str, Any], limit: int | None, limit_text: str | None) -> None:
    if state.get("num_removed") or (limit is not None and state["num_entries"]):
        freed = _size(state["bytes_removed"])
        answer(f"removed {state['num_removed']} entries, {freed}; what was used longest ago first")
    answer(f"{state['folder']}: {state['num_entries']} entries, {_size(state['num_bytes'])}")
    if state["num_processes"]:
        answer(
            f"in use by {state['num_processes']} running processes: {state['num_in_use']} entries,"
            f" {_size(state['bytes_in_use'])}; these are never removed"
        )
    if limit and state["num_bytes"] > limit:
        answer(f"more than {limit_text} is left because running processes use it")


def _size(number: int) -> str:
    for unit, step in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if number >= step:
            return f"{number / step:.1f} {unit}"
    return f"{number} bytes"


def _refuse_existing(out: Path, overwrite: bool) -> None:
    if out.exists() and not overwrite:
        raise UsageError(f"{out} exists; --overwrite replaces it, or choose another name with -o")


def _fetch(args: argparse.Namespace) -> int:
    from anymc3d.adapters.fetch_scans import fetch_manifest
    from anymc3d.cli.main import print_json

    fetched = fetch_manifest(args.manifest, args.out, args.to, quiet=args.quiet or args.json)
    warn_of(fetched.refused, "file")
    if args.json:
        print_json(dataclasses.asdict(fetched))
    else:
        for problem in fetched.problems:
            fail(problem)
        if not args.quiet:
            say(f"{args.out}: {fetched.files} files in {args.to}, {len(fetched.problems)} could not be fetched")
    return 0 if not fetched.problems else 3 if fetched.files else 4


ACTIONS: dict[str, Callable[[argparse.Namespace], int]] = {
    "list": _list,
    "get": _get,
    "adapt": _adapt,
    "split": _split,
    "cache": _cache,
    "fetch": _fetch,
    "prepare": prepare,
}
