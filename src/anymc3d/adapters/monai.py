"""MONAI data lists: a JSON with ``training``, ``validation`` and ``testing``, or folds of ``train`` and ``val``.

``image`` is a path, or a list of paths (channels, one view each). ``label`` is a class (number or text), several 0 or
1, or the path of a mask. ``fold`` is kept. Other numbers and texts of an entry become metadata.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from anymc3d.adapters.findings import Findings
from anymc3d.adapters.rows import Adapted, AdaptOptions, Row, free_column, patient_of
from anymc3d.adapters.side_tables import by_case, is_there, label_columns, listing, read_json, read_labels
from anymc3d.data.case import SCAN_SUFFIXES, default_id
from anymc3d.data.patients import names_patient

LISTS = {"training": "train", "train": "train", "validation": "val", "val": "val", "testing": "test", "test": "test"}
"""List of the file to split of the manifest."""
_IMAGE_KEYS, _LABEL_KEYS = ("image", "images"), ("label", "labels", "class")
_SHOWN_CHARACTERS = 200


def adapt_monai(path: Path, options: AdaptOptions) -> Adapted:
    """One row per entry. ``path``: the JSON, or a folder that holds exactly one; images are relative to its folder."""
    adapted = Adapted()
    findings = adapted.findings
    file = _list_file(path, findings)
    content = read_json(file, findings) if file is not None else None
    if file is None or findings.has_errors:
        return adapted
    if not isinstance(content, dict):
        findings.error(f'{file.name}: expected {{"training": [...], "validation": [...], "testing": [...]}}')
        return adapted
    side = read_labels(options.labels, findings) if options.labels else {}
    for entry, place, extra_cells in _entries(content, file.name, findings):
        row = _row(entry, place, file.parent, options, adapted)
        if row is not None:
            adapted.rows.append({**row, **extra_cells})
    side = by_case(side, [row["case"] for row in adapted.rows], "ids of the label table", findings)
    adapted.rows = [{**row, **side.get(row["case"], {})} for row in adapted.rows]
    adapted.labels = (*adapted.labels, *label_columns(side.values()))
    _settle_splits(adapted)
    adapted.labels = tuple(dict.fromkeys(adapted.labels))
    if not adapted.rows and not findings.has_errors:
        nnunet = f"; for nnU-Net: anymc3d data adapt nnunet {file.parent}" if "channel_names" in content else ""
        findings.error(f"{file.name}: no entry in any of the lists {', '.join(LISTS)}{nnunet}")
    if not adapted.labels:
        findings.warn("no entry has a class label: give a table with --labels, or add columns to the manifest")
    return adapted


def _list_file(path: Path, findings: Findings) -> Path | None:
    if path.is_file():
        return path
    candidates = [path_below for path_below in listing(path) if path_below.suffix == ".json"]
    if len(candidates) == 1:
        return candidates[0]
    findings.error(
        f"expected one .json in the folder, found {len(candidates)}; give the file itself",
        [candidate.name for candidate in candidates],
    )
    return None


def _entries(content: Mapping[str, Any], name: str, findings: Findings) -> Iterator[tuple[Any, str, dict[str, str]]]:
    """Every entry, where it stands, and its split and fold."""
    if content and all(isinstance(value, dict) and "val" in value for value in content.values()):
        for fold, lists in content.items():
            yield from (
                (entry, f"{name}: fold {fold}, val {number}", {"fold": str(fold)})
                for number, entry in enumerate(lists["val"])
            )
        return
    unknown = [key for key, value in content.items() if isinstance(value, list) and key not in LISTS]
    findings.warn_if(unknown, f"{name}: a list is none of {', '.join(LISTS)} and left out")
    for key, split in LISTS.items():
        entries = content.get(key, [])
        if not isinstance(entries, list):
            findings.error(f"{name}: {key!r} is not a list")
            continue
        for number, entry in enumerate(entries):
            fold = entry.get("fold") if isinstance(entry, dict) else None
            if not _is_name(fold):
                findings.error("a fold is neither a text nor a whole number", f"{key} {number}")
            yield entry, f"{key} {number}", {"split": split, "fold": _class(fold)}


def _row(entry: Any, place: str, base: Path, options: AdaptOptions, adapted: Adapted) -> Row | None:
    findings = adapted.findings
    entry = {"image": entry} if isinstance(entry, str) else entry
    images = _images(entry, base) if isinstance(entry, dict) else []
    if not images:
        findings.error("an entry has no image", place)
        return None
    absent = [str(path)[:_SHOWN_CHARACTERS] for path in images if not is_there(path)]
    if absent:
        (findings.warn if options.partial else findings.error)("an image is not here", f"{place}: {absent[0]}")
        return None
    case = default_id(images[0].name)
    patient_keys = {key: value for key, value in entry.items() if names_patient(key) and value is not None}
    patient = _patient(patient_keys, case, place, options, findings)
    if patient is None:
        return None
    labels = _labels(entry, place, base, findings)
    classes = {column: cell for column, cell in labels.items() if column != "mask"}
    adapted.labels = (*adapted.labels, *(column for column in classes if column not in adapted.labels))
    skipped = {*_IMAGE_KEYS, *_LABEL_KEYS, *patient_keys, "fold"}
    rest = {
        free_column(key): str(value)
        for key, value in entry.items()
        if key not in skipped and isinstance(value, str | int | float)
    }
    return {"case": case, "patient": patient, **_scans(images, labels.get("mask")), **classes, **rest}


def _scans(images: Sequence[Path], mask: str | None) -> Row:
    """The cells of the images and of their mask; several images are one view each, all with the same mask."""
    if len(images) == 1:
        return {"image": str(images[0])} | ({} if mask is None else {"mask": mask})
    numbered = range(len(images))
    masks = {} if mask is None else {f"mask.c{number}": mask for number in numbered}
    return {f"image.c{number}": str(images[number]) for number in numbered} | masks


def _patient(keys: Mapping[str, Any], case: str, place: str, options: AdaptOptions, findings: Findings) -> str | None:
    """Of an entry, by the keys that may name the patient, or by the case's name; None where that is not known."""
    if len(keys) > 1 and "patient" not in keys and len({_class(value) for value in keys.values()}) > 1:
        findings.error(f"several keys may name the patient ({', '.join(keys)}); call one of them 'patient'", place)
        return None
    cell = keys.get("patient", next(iter(keys.values()), None))
    if not _is_name(cell):
        shown = str(cell)[:_SHOWN_CHARACTERS]
        findings.error("a patient is neither a text nor a whole number", f"{place}: {shown}")
        return None
    patient = _class(cell) if cell is not None else patient_of(options.patient, case, case)
    if patient is None:
        findings.error(f"--patient {options.patient!r} is not found in a case's name", case)
    return patient


def _images(entry: Mapping[str, Any], base: Path) -> list[Path]:
    value = next((entry[key] for key in _IMAGE_KEYS if key in entry), None)
    values = value if isinstance(value, list) else [value]
    return [base / value for value in values] if all(isinstance(value, str) and value for value in values) else []


def _labels(entry: Mapping[str, Any], place: str, base: Path, findings: Findings) -> dict[str, str]:
    """``label`` (a class), ``label_0`` … (several), or ``mask`` (a path)."""
    value = next((entry[key] for key in _LABEL_KEYS if key in entry), None)
    if value is None:
        return {}
    if isinstance(value, dict):
        return {free_column(str(key)): _class(item) for key, item in value.items()}
    if isinstance(value, list):
        return {f"label_{number}": _class(item) for number, item in enumerate(value)}
    if isinstance(value, str) and value.lower().endswith(SCAN_SUFFIXES):
        mask = base / value
        if not is_there(mask):
            findings.warn("a mask is not here", f"{place}: {mask}")
            return {}
        return {"mask": str(mask)}
    return {"label": _class(value)}


def _class(value: Any) -> str:
    """A class as text: 1.0 and true are 1."""
    if isinstance(value, bool) or (isinstance(value, float) and value.is_integer()):
        return str(int(value))
    return "" if value is None else str(value)


def _is_name(value: Any) -> bool:
    """Of a patient or fold; 3.0 is 3, as pandas writes it."""
    whole = isinstance(value, float) and value.is_integer()
    return value is None or whole or (isinstance(value, str | int) and not isinstance(value, bool))


def _settle_splits(adapted: Adapted) -> None:
    """A manifest has splits in all rows or in none; training lists with folds alone need none."""
    splits = {row.get("split", "") for row in adapted.rows}
    folds = [row.get("fold", "") for row in adapted.rows if row.get("split", "train") == "train"]
    if splits <= {"train"}:
        for row in adapted.rows:
            row.pop("split", None)
    elif "val" not in splits:
        adapted.findings.warn("there is no validation list: 'anymc3d data split --keep-test' deals one out of train")
    if not any(folds):
        for row in adapted.rows:
            row.pop("fold", None)
    elif not all(folds):
        adapted.findings.error("some entries have a fold and others of the training list have none")
