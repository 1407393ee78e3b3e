"""The series of a study with their numbers and descriptions, for the person at the terminal alone.

Messages, tables and logs never hold these texts, which may name a patient. This module is the one way out for them, and
only ``--show-tags`` may use it: nothing that is written to a file.
"""

from __future__ import annotations

from pathlib import Path

from anymc3d.data.dicom.header import DicomFile
from anymc3d.data.dicom.inventory import opened_inventory
from anymc3d.data.dicom.listing import facts_of, row_of
from anymc3d.data.dicom.rules import Rule
from anymc3d.data.dicom.series import series_of
from anymc3d.data.dicom.tags import foreign_errors
from anymc3d.printable import shown

_SHOWN = ("SeriesDescription", "ProtocolName", "ConvolutionKernel", "SequenceName", "ImageType")


def shown_series(reference: Path) -> list[str]:
    """One line for each series: hash, size and spacing, number, and what the scanner calls it.

    Raises:
        ScanError: the study cannot be listed.
    """
    with foreign_errors(reference, "the series cannot be listed"), opened_inventory(reference) as inventory:
        rows = [(facts_of(uid, files), files) for uid, files in series_of(inventory, Rule()).items()]
    return [f"{row_of(facts)}; {_described(files[0])}" for facts, files in rows]


def _described(file: DicomFile) -> str:
    texts = [f"SeriesNumber={shown(file.tags.get('SeriesNumber', ''))}"]
    texts += [f"{name}={shown(text)}" for name in _SHOWN if (text := file.tags.get(name))]
    return "; ".join(texts)
