"""A tree of DICOM files as an archive exports it: one row for every series that is a scan, with its rule."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from anymc3d.adapters.rows import Adapted, AdaptOptions
from anymc3d.adapters.side_tables import by_case, label_columns, read_labels
from anymc3d.data.dicom.series_search import find_series
from anymc3d.errors import ScanError


def adapt_dicom_tree(folder: Path, options: AdaptOptions) -> Adapted:
    """``image`` is the folder (or archive) of a series, ``series`` the rule that chooses it there.

    ``options.series``: which series are taken, as ``predict --series``. With a table its rows are joined by the id of
    the case, and what it does not know is left out.
    """
    adapted = Adapted()
    findings = adapted.findings
    try:
        tree = find_series(folder, options.series)
    except ScanError as error:
        findings.error(error.what)
        return adapted
    if tree.left_out:
        findings.warn(f"{tree.left_out} series are not scans, or not what --series asks for: left out")
    if not tree.series:
        findings.error("no series in this tree is a scan; anymc3d predict --show-tags shows what there is")
        return adapted
    names = [series.name for series in tree.series]
    twice = [name for name, count in Counter(names).items() if count > 1]
    findings.error_if(twice, "two series would get one id")
    cells = {} if options.labels is None else read_labels(options.labels, findings, key=options.id)
    known = by_case(cells, names, "ids of the table", findings)
    if options.labels is not None:
        tell = findings.warn_if if options.partial else findings.error_if
        tell(sorted(known.keys() - set(names)), "the table has a row and there is no such series")
        findings.warn_if([name for name in names if name not in known], "a series has no row in the table: left out")
    for series in tree.series:
        if options.labels is not None and series.name not in known:
            continue
        row = known.get(series.name, {})
        patient = row.get("patient") or series.name
        reference = {"image": str(series.reference), "series": series.rule}
        adapted.rows.append({**row, "case": series.name, "patient": patient, **reference})
    if not any(row.get("patient") for row in known.values()):
        findings.warn("each series is taken as a patient of its own; give the table a column 'patient'")
    adapted.labels = label_columns(known.values())
    return adapted
