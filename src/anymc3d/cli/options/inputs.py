"""What scans a command is given: options and their reading, the same for every command that takes scans."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from anymc3d.errors import UsageError

if TYPE_CHECKING:
    from anymc3d.data.case import Case
    from anymc3d.plugins.card import PluginCard

_VIEW = re.compile(r"([A-Za-z0-9_-]+)=(.+)", re.DOTALL)
_TABLES = (".csv", ".tsv", ".npz", ".parquet")
_MOST_WORKERS = 256
_ALLOWED = ("gaps", "tilt")
"""Options of a series rule that have one of their own on the command line."""


def add_input(parser: argparse.ArgumentParser) -> None:
    """Add ``-i``."""
    parser.add_argument(
        "-i",
        "--input",
        nargs="+",
        action="extend",
        required=True,
        metavar="SCAN",
        help="scans, or one manifest (.csv, MedMNIST .npz), or the views of one study as axial=A sagittal=B",
    )


def add_strict(parser: argparse.ArgumentParser) -> None:
    """Add ``--strict``."""
    parser.add_argument("--strict", action="store_true", help="an answer with a warning is an error (exit code 3)")


def add_workers(parser: argparse.ArgumentParser) -> None:
    """Add ``--workers``."""
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="processes that read and prepare scans ahead; the results are the same for every N (default: 0, in this "
        "process, for few scans, else by the number of cores)",
    )


def checked_workers(args: argparse.Namespace) -> int | None:
    """The number that was asked for, if one was.

    Raises:
        UsageError: fewer than none, or more than any machine has use for.
    """
    if args.workers is not None and not 0 <= args.workers <= _MOST_WORKERS:
        raise UsageError(f"--workers: expected 0 to {_MOST_WORKERS}, got {args.workers}")
    return args.workers  # type: ignore[no-any-return]


def chosen_workers(args: argparse.Namespace, num_cases: int) -> int:
    """How many processes read ahead.

    Raises:
        UsageError: as :func:`checked_workers`.
    """
    from anymc3d.data.prefetch.queue import workers_for

    return workers_for(num_cases, checked_workers(args))


def add_case_memory(parser: argparse.ArgumentParser) -> None:
    """Add the bound of one case's memory."""
    parser.add_argument(
        "--case-memory",
        metavar="SIZE",
        help="host memory a case may take beside what is loaded, as 4GB; then it is an error (Linux)",
    )


def case_memory(args: argparse.Namespace) -> int | None:
    """Bytes of ``--case-memory``.

    Raises:
        UsageError: it is no size above 0.
    """
    from anymc3d.data.cache_size import parse_size

    if args.case_memory is None:
        return None
    num_bytes = parse_size(args.case_memory)
    if num_bytes < 1:
        raise UsageError(f"--case-memory: expected a size above 0, as 4GB, got {args.case_memory!r}")
    return num_bytes


def add_case_options(parser: argparse.ArgumentParser) -> None:
    """Add what else may be said of the scans: series, gaps, region, split."""
    parser.add_argument(
        "--series", metavar="RULE", help="of DICOM: a series UID or its short hash, Tag=value, or 'thinnest axial'"
    )
    parser.add_argument(
        "--find-series",
        action="store_true",
        help="of folders of DICOM studies: every series in them is a case of its own (--series leaves some out)",
    )
    parser.add_argument(
        "--allow-gaps", action="store_true", help="of DICOM: missing or uneven slices are resampled, with a warning"
    )
    parser.add_argument(
        "--allow-tilt", action="store_true", help="of DICOM: a tilted gantry is sheared straight, with a warning"
    )
    parser.add_argument(
        "--show-tags",
        action="store_true",
        help="print the series of DICOM with number and description, on this terminal only: they may name people",
    )
    parser.add_argument("--mask", metavar="FILE", help="of one scan: the segmentation of its region")
    parser.add_argument(
        "--center", nargs=3, type=float, metavar=("X", "Y", "Z"), help="of one scan: the point of interest, mm, RAS"
    )
    parser.add_argument(
        "--covariate",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="of one scan: a covariate of the plugin, such as age=63; can be repeated",
    )
    add_segmenter(parser, "the network that draws a plugin's region, or the TotalSegmentator program")
    parser.add_argument(
        "--remote",
        action="append",
        metavar="PREFIX",
        help="scans at addresses that begin so may be fetched, as s3://bucket/scans/; can be repeated",
    )
    parser.add_argument("--split", action="append", choices=("train", "val", "test"), help="only these of a manifest")


def add_segmenter(parser: argparse.ArgumentParser, what: str) -> None:
    """Add ``--segmenter``, which can be repeated; ``what`` it is for, as the help says."""
    parser.add_argument("--segmenter", action="append", default=[], metavar="FILE", help=what)


def add_roi(parser: argparse.ArgumentParser, what: str) -> None:
    """Add ``--roi`` and what may draw it; ``what``: the region is for."""
    parser.add_argument("--roi", metavar="mask|point|FILE.yaml", help=what)
    add_segmenter(parser, "with --roi FILE.yaml: the network that draws the region, or the TotalSegmentator program")


def cases_of(args: argparse.Namespace, cards: Sequence[PluginCard] = ()) -> list[Case]:
    """The cases that the options of :func:`add_input` and :func:`add_case_options` name; ``cards``: of the plugins that
    are asked, whose covariates may be given.

    Raises:
        UsageError: options that do not fit each other.
        ManifestError: the manifest cannot be used.
    """
    if args.covariate:
        from anymc3d.predict.covariates import check_given

        check_given(_covariates(args.covariate), cards)
    allowed = [name for name in _ALLOWED if getattr(args, f"allow_{name}")]
    cases = read_inputs(args.input, args.split, args.series, allowed=allowed, find=args.find_series, quiet=args.quiet)
    cases = _with_region(cases, args)
    _check_addresses(cases)
    if args.show_tags:
        _show_series(cases)
    return cases


def _check_addresses(cases: Sequence[Case]) -> None:
    """Before the first case: an address that may not be opened is no fault of one case."""
    from anymc3d.data.remote import is_address, why_not, without_secrets

    for case in cases:
        for reference in (*case.images.values(), *case.masks.values()):
            if is_address(reference) and (refused := why_not(reference)):
                raise UsageError(f"case {case.id!r}, {without_secrets(reference)}: {refused}")


def _show_series(cases: Sequence[Case]) -> None:
    """Each DICOM study once, on standard error, which no output of a command goes to."""
    from anymc3d.cli.say import show
    from anymc3d.data.dicom.shown_tags import shown_series
    from anymc3d.data.readers import takes_series
    from anymc3d.errors import ScanError

    for reference in dict.fromkeys(path for case in cases for path in case.images.values()):
        if not takes_series(reference):
            continue
        try:
            lines = shown_series(Path(reference))
        except ScanError as error:
            lines = [error.what]
        show(f"{Path(reference).name}: {len(lines)} series", *(f"  {line}" for line in lines))


def read_inputs(
    inputs: list[str],
    splits: list[str] | None = None,
    series: str | None = None,
    *,
    allowed: Sequence[str] = (),
    find: bool = False,
    quiet: bool = False,
) -> list[Case]:
    """Scans, one manifest, or ``view=scan`` pairs -> cases.

    ``allowed``: of :data:`_ALLOWED`, for those that are DICOM. ``find``: every series of a DICOM study is a case,
    and how many were found is shown unless ``quiet``.

    Raises:
        UsageError: kinds of input are mixed, or two scans would get one id.
        ManifestError: the manifest cannot be used.
    """
    from anymc3d.data.dicom.rules import with_options
    from anymc3d.data.readers import takes_series
    from anymc3d.predict.study import study_case

    manifests = [text for text in inputs if text.lower().endswith(_TABLES)]
    if manifests:
        _check_manifest_options(inputs, manifests[0], series, allowed, find=find)
        return _cases_of_manifest(manifests[0], splits)
    if splits:
        raise UsageError("--split: only a manifest has splits")

    def rule(*scans: str) -> str | None:
        options = [f"{name}=allow" for name in allowed]
        return with_options(series, *options) if options and any(map(takes_series, scans)) else series

    views = _views_of_study(inputs, find=find)
    if views:
        return [study_case(None, views, series=rule(*views.values()))]
    cases = [
        case
        for text in inputs
        for case in (_cases_of_series(text, rule(text), quiet=quiet) if find else ())
        or [study_case(_place(text), None, series=rule(text))]
    ]
    _check_ids(cases)
    return cases


def _cases_of_manifest(manifest: str, splits: Sequence[str] | None) -> list[Case]:
    from anymc3d.data.manifest import read_manifest

    cases = list(read_manifest(manifest, check_scans=False).cases)
    chosen = [case for case in cases if not splits or case.split in splits]
    if splits and not chosen:
        splits_there = ", ".join(sorted({str(case.split) for case in cases if case.split})) or "no split column"
        raise UsageError(f"--split {' '.join(splits)}: no case of {manifest} is of it; it has {splits_there}")
    return chosen


def _views_of_study(inputs: Sequence[str], *, find: bool) -> dict[str, str]:
    """View to scan, of ``view=scan`` for every view of one study; empty where the inputs are scans."""
    pairs = [_VIEW.fullmatch(text) for text in inputs]
    if not any(pair and not Path(text).exists() for pair, text in zip(pairs, inputs, strict=True)):
        return {}
    if find:
        raise UsageError("--find-series: for folders of studies, not for the views of one study")
    if not all(pairs):
        raise UsageError("expected scans, or view=scan for every view of one study, got both")
    return {pair[1]: _place(pair[2]) for pair in pairs if pair}


def _check_manifest_options(
    inputs: list[str], manifest: str, series: str | None, allowed: Sequence[str], *, find: bool
) -> None:
    """A manifest says by itself what these options say of scans."""
    if len(inputs) > 1:
        raise UsageError(f"expected one manifest, or scans, got {len(inputs)} inputs with {manifest} among them")
    if series:
        raise UsageError("--series: a manifest has its own series column; leave the option out")
    if allowed:
        raise UsageError(f"--allow-{allowed[0]}: a manifest says it itself, in its series column: {allowed[0]}=allow")
    if find:
        raise UsageError("--find-series: a manifest names its scans itself; leave the option out")


def _cases_of_series(text: str, series: str | None, *, quiet: bool) -> list[Case]:
    """The series of a DICOM study or a tree of them, one case each; none where it is no DICOM or cannot be listed, and
    then the input is a case that says so."""
    from anymc3d.cli.say import show
    from anymc3d.data.dicom.series_search import find_series
    from anymc3d.data.readers import takes_series
    from anymc3d.errors import ScanError
    from anymc3d.predict.study import study_case

    path = Path(text).resolve()
    if not takes_series(path):
        return []
    try:
        study = find_series(path, series)
    except ScanError:
        return []
    if not quiet:
        show(f"{path.name}: {len(study.series)} series found, {study.left_out} left out (no scans, or not asked for)")
    return [
        study_case(str(series_found.reference), None, case=series_found.name, series=series_found.rule)
        for series_found in study.series
    ]


def _place(text: str) -> str:
    """A path from the root, or an address as it is."""
    from anymc3d.data.remote import is_address

    return text if is_address(text) else str(Path(text).resolve())


def _with_region(cases: list[Case], args: argparse.Namespace) -> list[Case]:
    """The one scan of the command with what was said of its region."""
    from dataclasses import replace

    covariates = _covariates(args.covariate)
    if args.mask is None and args.center is None and not covariates:
        return cases
    if len(cases) != 1 or args.input[0].lower().endswith(_TABLES):
        raise UsageError(
            "--mask, --center, --covariate: for one scan; a manifest has columns mask, center_x, center_y, center_z, "
            "and one per covariate"
        )
    masks = {} if args.mask is None else {"mask": str(Path(args.mask).resolve())}
    center = None if args.center is None else tuple(args.center)
    return [replace(cases[0], masks=masks, center=center, cells={**cases[0].cells, **covariates})]


def _covariates(texts: Sequence[str]) -> dict[str, str]:
    """``age=63`` -> column and cell.

    Raises:
        UsageError: no ``=``, or one name twice.
    """
    pairs = [text.partition("=") for text in texts]
    for text, (name, equals, _) in zip(texts, pairs, strict=True):
        if not equals or not name.strip():
            raise UsageError(f"--covariate: expected NAME=VALUE such as age=63, got {text!r}")
    covariates = {name.strip(): value.strip() for name, _, value in pairs}
    if len(covariates) < len(pairs):
        raise UsageError("--covariate: one name appears twice")
    return covariates


def _check_ids(cases: list[Case]) -> None:
    first: dict[str, int] = {}
    for number, case in enumerate(cases, start=1):
        if first.setdefault(case.id, number) != number:
            what = f"inputs {first[case.id]} and {number} have the same file name, which is the case id"
            raise UsageError(f"{what}; list them in a manifest with a case column")
