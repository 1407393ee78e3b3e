"""Measures on disk, one small JSON file a case, by the content of its scans and masks: measuring a scan takes longer
than all fits on its measures.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from dataclasses import asdict
from pathlib import Path

from anymc3d.data.case_scans import CaseScans
from anymc3d.data.measures.case import MEASURES_VERSION, MeasureRequest, measure_case
from anymc3d.errors import RunFolderError
from anymc3d.files import atomic, home

logger = logging.getLogger(__name__)


def measured(scans: CaseScans, wanted: MeasureRequest, folder: Path | None = None) -> dict[str, float]:
    """The measures of a case, from the folder (default: ``measures`` in the home folder), or measured and kept there.

    Raises:
        ScanError: as :func:`anymc3d.data.measures.case.measure_case`.
        RunFolderError: the folder cannot be written.
    """
    folder = home.home_folder() / "measures" if folder is None else folder
    key = measure_key(scans, wanted)
    path = folder / f"{key}.json"
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored["key"] == key:
            return {str(name): math.nan if value is None else float(value) for name, value in stored["values"].items()}
    except FileNotFoundError:
        pass
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        logger.warning("kept measures %s are damaged (%s): measured again", path.name, error)
    values = measure_case(scans, wanted)
    plain = {name: None if math.isnan(value) else value for name, value in values.items()}
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        atomic.write_json(path, {"key": key, "values": plain})
    except OSError as error:
        raise RunFolderError(f"the folder {folder} cannot be used ({error.strerror or error}); free space") from error
    return values


def measure_key(scans: CaseScans, wanted: MeasureRequest) -> str:
    """Sha256 (hex) over all that decides the measures of a case."""
    case = scans.case
    masks = sorted({name for column in case.images if (name := case.mask(column)) is not None})
    facts = {
        "scans": scans.hashes(),
        "masks": {name: scans.mask_hash(name) for name in masks} if wanted.needs_mask else {},
        "mask_classes": case.mask_classes if wanted.needs_mask else "",
        "spacing": case.spacing,
        "wanted": asdict(wanted),
        "version": MEASURES_VERSION,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
