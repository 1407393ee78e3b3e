"""BIDS: ``sub-01/[ses-02/]anat/sub-01[_ses-02]_T1w.nii.gz`` and ``participants.tsv``.

One suffix: one row per scan. Several suffixes: one row per session, one view each. Columns of ``participants.tsv`` and
of the sessions tables become columns of the manifest; which of them is the label, the user says to ``plan``.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from anymc3d.adapters.findings import Findings
from anymc3d.adapters.rows import Adapted, AdaptOptions, Row, free_column
from anymc3d.adapters.side_tables import by_case, cleaned, keyed, label_columns, listing, read_labels, read_rows
from anymc3d.data.case import default_id

_SUFFIX = re.compile(r".*_([A-Za-z0-9]+)\.nii(\.gz)?")
_DATA_TYPES = ("anat", "func", "dwi", "pet", "perf", "fmap")


def adapt_bids(folder: Path, options: AdaptOptions) -> Adapted:
    """Rows for the scans whose suffix is one of ``options.suffixes``."""
    adapted = Adapted()
    findings = adapted.findings
    people = _participants(folder, findings)
    side = read_labels(options.labels, findings) if options.labels else {}
    subjects = [path for path in listing(folder) if path.is_dir() and path.name.startswith("sub-")]
    if not subjects:
        findings.error("no folder sub-… here; give the folder that holds them (not derivatives)")
    if findings.has_errors:
        return adapted
    people = by_case(people, [path.name for path in subjects], "ids of participants.tsv", findings)
    with_scan = set()
    for subject in subjects:
        for session, scans in _sessions(subject, options):
            for row in _rows(subject.name, session, scans, options, findings):
                with_scan.add(subject.name)
                facts = {**people.get(subject.name, {}), **_session_facts(subject, session, findings)}
                adapted.rows.append({**row, **facts})
        options.progress(1)
    side = by_case(side, [row["case"] for row in adapted.rows], "ids of the label table", findings)
    adapted.rows = [{**row, **side.get(row["case"], {})} for row in adapted.rows]
    _compare(subjects, people, with_scan, options, findings)
    if people:
        adapted.rows = [row for row in adapted.rows if f"sub-{row['patient']}" in people]
    adapted.labels = label_columns(side.values())
    columns = sorted({column for person in people.values() for column in person})
    findings.ok(f"columns of participants.tsv: {', '.join(columns) or 'none'}; name the label to 'anymc3d plan'")
    return adapted


def _participants(folder: Path, findings: Findings) -> dict[str, dict[str, str]]:
    """Subject folder to the cells of its row, ``n/a`` emptied."""
    path = folder / "participants.tsv"
    if not path.is_file():
        findings.warn("no participants.tsv: the manifest has no columns but scans and patients")
        return {}
    rows = keyed(read_rows(path, findings, needed=("participant_id",)), "participant_id", path.name, findings)
    bare = [name for name in rows if not name.startswith("sub-")]
    findings.warn_if(bare, "a participant_id lacks 'sub-'; it is taken as if it had it")
    return {
        name if name.startswith("sub-") else f"sub-{name}": _facts(row, "participant_id") for name, row in rows.items()
    }


def _facts(row: Mapping[str, str], key: str) -> dict[str, str]:
    return {free_column(column): cleaned(cell) for column, cell in row.items() if column != key}


def _sessions(subject: Path, options: AdaptOptions) -> Iterator[tuple[str, dict[str, list[Path]]]]:
    """(session or '', suffix to scans) of one subject; nothing where a session has no scan of a wanted suffix."""
    sessions = [path for path in listing(subject) if path.is_dir() and path.name.startswith("ses-")]
    for place in [subject, *sessions]:
        by_suffix: dict[str, list[Path]] = defaultdict(list)
        for kind in _DATA_TYPES:
            for path in listing(place / kind):
                match = _SUFFIX.fullmatch(path.name)
                wanted = match is not None and match.group(1) in options.suffixes
                if wanted and (options.match is None or re.search(options.match, path.name)):
                    by_suffix[match.group(1)].append(path)  # type: ignore[union-attr]
        if by_suffix:
            yield "" if place == subject else place.name, dict(by_suffix)


def _rows(
    subject: str, session: str, scans: Mapping[str, list[Path]], options: AdaptOptions, findings: Findings
) -> list[Row]:
    patient = subject.removeprefix("sub-")
    session_cell = {"session": session.removeprefix("ses-")} if session else {}
    if len(options.suffixes) == 1:
        paths = next(iter(scans.values()))
        return [
            {"case": default_id(path.name), "patient": patient, "image": str(path), **session_cell} for path in paths
        ]
    several = [f"{subject} {session}: {', '.join(p.name for p in paths)}" for paths in scans.values() if len(paths) > 1]
    if several:
        findings.error("a session has several scans of one suffix; choose with --match, such as --match run-1", several)
        return []
    case = f"{subject}_{session}" if session else subject
    images = {f"image.{suffix}": str(scans[suffix][0]) if suffix in scans else "" for suffix in options.suffixes}
    absent = [suffix for suffix in options.suffixes if suffix not in scans]
    findings.warn_if(absent and [f"{case}: {', '.join(absent)}"], "a session lacks a suffix: its cell is empty")
    return [{"case": case, "patient": patient, **images, **session_cell}]


def _session_facts(subject: Path, session: str, findings: Findings) -> dict[str, str]:
    path = subject / f"{subject.name}_sessions.tsv"
    if not session or not path.is_file():
        return {}
    rows = keyed(read_rows(path, findings, needed=("session_id",)), "session_id", path.name, findings)
    return _facts(rows.get(session, {}), "session_id")


def _compare(
    subjects: list[Path],
    people: Mapping[str, object],
    with_scan: set[str],
    options: AdaptOptions,
    findings: Findings,
) -> None:
    names = {path.name for path in subjects}
    suffixes = "/".join(options.suffixes)
    if people:
        absent = sorted(set(people) - names)
        (findings.warn_if if options.partial else findings.error_if)(absent, "a participant has no folder")
        findings.warn_if(sorted(names - set(people)), "a folder's subject is not in participants.tsv: left out")
    none = sorted((names & set(people) if people else names) - with_scan)
    (findings.warn_if if options.partial else findings.error_if)(none, f"a subject has no {suffixes} scan")
