"""PANORAMA, contrast-enhanced CT of the pancreas (task T5): one case per study.

Layout (supplement B): ``<patient>_<study>_0000.nii.gz`` in one or several folders, ``automatic_labels/`` and
``manual_labels/`` with masks named without ``_0000``, and ``clinical_information.xlsx``. Only manual masks outline
lesions; automatic ones are a network's outlines of the anatomy around them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from anymc3d.adapters.findings import Findings
from anymc3d.adapters.rows import Adapted, AdaptOptions, Row
from anymc3d.adapters.side_tables import cleaned, find_below, keyed, read_rows
from anymc3d.adapters.xlsx import read_xlsx
from anymc3d.errors import ManifestError

TABLE = "clinical_information"
STUDY, PATIENT = "PANORAMA_study_id", "PANORAMA_patient_id"
LABELS = {"PDAC": "1", "non-PDAC": "0"}
MASK_FOLDERS = {"manual": "manual_labels", "automatic": "automatic_labels"}
"""The better one first: it wins where a study has both."""
COHORTS = {"MSD_dataset": "MSD", "NIH_dataset": "NIH"}
"""What the column ``level`` says of studies that came from other public sets."""
_IMAGE = re.compile(r"(\d+_\d+)_(\d{4})\.nii\.gz")
_AGE = re.compile(r"0*(\d{1,3})Y?", re.IGNORECASE)


def adapt_panorama(folder: Path, options: AdaptOptions) -> Adapted:
    """One row per study of the clinical table. The patient is the table's, never the beginning of the file's name.

    ``pdac`` is 0 or 1; ``mask_source`` says ``manual`` or ``automatic``; ``level`` how the label was found.
    """
    adapted = Adapted(labels=("pdac",))
    findings = adapted.findings
    studies = _clinical_table(folder, findings)
    images = _images(folder, findings)
    masks = {source: _masks(folder, name, findings) for source, name in MASK_FOLDERS.items()}
    if findings.has_errors:
        return adapted
    absent = sorted(set(studies) - set(images))
    (findings.warn_if if options.partial else findings.error_if)(absent, "a study of the table has no image")
    findings.warn_if(sorted(set(images) - set(studies)), "a scan is not in the table, so it has no label: left out")
    for study, facts in studies.items():
        if study in images:
            adapted.rows += _row(study, facts, images[study], masks, findings)
    both = sorted(set(masks["manual"]) & set(masks["automatic"]))
    findings.warn_if(both, "a study has a manual and an automatic mask; the manual one is used")
    for source, files in masks.items():
        strays = sorted(set(files) - set(studies))
        findings.warn_if(strays, f"a mask of {MASK_FOLDERS[source]} belongs to no study of the table and is left out")
    findings.warn_if((row["case"] for row in adapted.rows if not row["mask"]), "a study has no mask")
    used = {source: sum(row["mask_source"] == source for row in adapted.rows) for source in MASK_FOLDERS}
    findings.ok(
        f"masks: {used['manual']} manual, {used['automatic']} automatic (1 PDAC, 2 veins, 3 arteries,"
        " 4 parenchyma, 5 pancreatic duct, 6 common bile duct); lesions are reliable in manual ones only"
    )
    return adapted


def _clinical_table(folder: Path, findings: Findings) -> dict[str, dict[str, str]]:
    """Study to its row, from the workbook or from a CSV of the same name."""
    tables = [path for suffix in (".xlsx", ".csv") for path in find_below(folder, TABLE + suffix, depth=3)]
    if not tables:
        findings.error(f"no {TABLE}.xlsx in or below the folder; it is part of the label repository: put it there")
        return {}
    findings.warn_if(map(str, tables[1:]), f"several clinical tables; {tables[0]} is used")
    if tables[0].suffix == ".csv":
        rows = read_rows(tables[0], findings, needed=(STUDY, PATIENT, "label"))
    else:
        rows = _workbook_rows(tables[0], findings)
    return keyed(rows, STUDY, tables[0].name, findings)


def _workbook_rows(path: Path, findings: Findings) -> list[dict[str, str]]:
    try:
        rows = read_xlsx(path)
    except ManifestError as error:
        findings.error(f"{path.name} cannot be used", error.problems)
        return []
    absent = [column for column in (STUDY, PATIENT, "label") if rows and column not in rows[0]]
    findings.error_if(absent, f"{path.name} lacks columns of PANORAMA")
    return [] if absent else rows


def _images(folder: Path, findings: Findings) -> dict[str, Path]:
    """Study to image, wherever below the folder; one study twice is an error."""
    images: dict[str, Path] = {}
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(n for n in folders if n not in MASK_FOLDERS.values() and not n.startswith("."))
        for name in sorted(names):
            match = _IMAGE.fullmatch(name)
            if match is None:
                continue
            study, channel = match.groups()
            path = Path(parent, name)
            if channel != "0000":
                findings.error("expected one image per study, _0000, found another channel", str(path))
            elif study in images:
                findings.error("a study has two images", f"{images[study]} and {path}")
            else:
                images[study] = path
    if not images:
        findings.error("no image called <patient>_<study>_0000.nii.gz in or below the folder")
    return images


def _masks(folder: Path, name: str, findings: Findings) -> dict[str, Path]:
    masks: dict[str, Path] = {}
    for mask_folder in find_below(folder, name, depth=3):
        for path in sorted(mask_folder.glob("*.nii.gz")):
            study = path.name.removesuffix(".nii.gz")
            if study in masks:
                findings.error("a study has two masks of one kind", f"{masks[study]} and {path}")
            masks[study] = path
    return masks


def _row(
    study: str, facts: Mapping[str, str], image: Path, masks: Mapping[str, Mapping[str, Path]], findings: Findings
) -> list[Row]:
    label = LABELS.get(facts["label"])
    if label is None:
        expected = " or ".join(LABELS)
        findings.error(f"a label is outside its set: expected {expected}", f"{study}: {facts['label']!r}")
        return []
    if not facts[PATIENT]:
        findings.error("a study has no patient in the table", study)
        return []
    source = next((name for name, files in masks.items() if study in files), "")
    scanner = cleaned(facts.get("scanner", ""))
    level = facts.get("level", "")
    return [
        {
            "case": study,
            "patient": facts[PATIENT],
            "image": str(image),
            "mask": str(masks[source][study]) if source else "",
            "pdac": label,
            "mask_source": source,
            "level": level,
            "cohort": COHORTS.get(level, "PANORAMA"),
            "age": _age(facts.get("patient_age", ""), study, findings),
            "sex": cleaned(facts.get("patient_sex", "")),
            "scanner": "" if scanner == "0" else scanner,
        }
    ]


def _age(text: str, study: str, findings: Findings) -> str:
    """Years: the table writes ``065Y`` or ``65``; nothing where it is empty."""
    if not cleaned(text):
        return ""
    match = _AGE.fullmatch(text.strip())
    if match is None:
        findings.warn("an age is not a number of years and is left empty", f"{study}: {text!r}")
        return ""
    return match.group(1)
