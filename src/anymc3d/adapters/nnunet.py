"""nnU-Net raw data sets: ``imagesTr/<case>_0000.nii.gz``, ``labelsTr/<case>.nii.gz``, ``dataset.json``.

Channels become views (one channel: ``image``). The masks become ``mask``. Class labels are not part of the layout:
they come from a table of the user's own (``--labels``). ``splits_final.json`` becomes ``fold``, ``imagesTs`` ``test``.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from anymc3d.adapters.findings import Findings
from anymc3d.adapters.rows import Adapted, AdaptOptions, Row, patient_of
from anymc3d.adapters.side_tables import by_case, label_columns, listing, read_json, read_labels
from anymc3d.data.case import SCAN_SUFFIXES

_CHANNEL = re.compile(r"(.+)_(\d{4})")


def adapt_nnunet(folder: Path, options: AdaptOptions) -> Adapted:
    """One row per case of ``imagesTr``, and per case of ``imagesTs`` that the label table names."""
    adapted = Adapted()
    findings = adapted.findings
    header = read_json(folder / "dataset.json", findings)
    if not isinstance(header, dict):
        findings.error("expected dataset.json with the names of the channels")
        return adapted
    ending = header.get("file_ending", ".nii.gz")
    channels = _channels(header, findings)
    if ending not in SCAN_SUFFIXES:
        findings.error(f"file_ending {ending!r} is not read (read are {', '.join(SCAN_SUFFIXES)}); convert the images")
    labels = read_labels(options.labels, findings) if options.labels else {}
    labels = {_CHANNEL.sub(r"\1", name) if name.endswith("_0000") else name: row for name, row in labels.items()}
    if findings.has_errors:
        return adapted
    train = _cases(folder / "imagesTr", ending, channels, findings)
    test = _cases(folder / "imagesTs", ending, channels, findings)
    labels = by_case(labels, [*train, *test], "ids of the label table", findings)
    if not train:
        findings.error(f"no image in imagesTr called <case>_0000{ending}{_other_layout(folder, header)}")
        return adapted
    _check_counts(header, train, folder, ending, findings)
    folds = _folds(folder, train, findings)
    chosen = {**train, **{name: images for name, images in test.items() if name in labels}}
    findings.error_if(sorted(set(train) & set(test)), "a case is in imagesTr and in imagesTs")
    has_test = len(chosen) > len(train)
    for name, images in chosen.items():
        mask = folder / ("labelsTr" if name in train else "labelsTs") / f"{name}{ending}"
        row = _row(name, images, mask if mask.is_file() else None, options, findings)
        if row is not None:
            split = {"split": "train" if name in train else "test"} if has_test else {}
            fold = {"fold": folds.get(name, "")} if folds else {}
            adapted.rows.append({**row, **split, **fold, **labels.get(name, {})})
    _report(adapted, labels, chosen, test, options)
    return adapted


def _other_layout(folder: Path, header: Mapping[str, Any]) -> str:
    """The Decathlon's folders have nnU-Net's names, and its list of cases."""
    if not isinstance(header.get("training"), list):
        return ""
    return (
        "; this is the layout of the Medical Segmentation Decathlon, whose dataset.json lists its cases: "
        f"anymc3d data adapt monai {folder / 'dataset.json'}"
    )


def _channels(header: Mapping[str, Any], findings: Findings) -> dict[str, str]:
    """Channel number of four digits to view; ``channel_names``, or ``modality`` in the first version."""
    named = header.get("channel_names", header.get("modality"))
    if not isinstance(named, dict) or not named or not all(str(key).isdigit() for key in named):
        findings.error('dataset.json: expected "channel_names": {"0": "CT"}')
        return {}
    views = {f"{int(key):04d}": re.sub(r"[^A-Za-z0-9_-]+", "_", str(name)).strip("_") for key, name in named.items()}
    if len(set(views.values())) < len(views) or "" in views.values():
        views = {key: f"c{int(key)}" for key in views}
        findings.warn("channel names are not different names: the views are called c0, c1, …")
    return views


def _cases(folder: Path, ending: str, channels: Mapping[str, str], findings: Findings) -> dict[str, dict[str, Path]]:
    """Case to view to image; a case that lacks a channel is an error, as it is for nnU-Net."""
    by_case: dict[str, dict[str, Path]] = defaultdict(dict)
    for path in listing(folder):
        match = _CHANNEL.fullmatch(path.name.removesuffix(ending)) if path.name.endswith(ending) else None
        if match is None:
            findings.warn(f"a file in {folder.name} is not called <case>_0000{ending} and left out", path.name)
        elif match.group(2) not in channels:
            findings.error("an image is of a channel that dataset.json does not name", f"{folder.name}/{path.name}")
        else:
            by_case[match.group(1)][channels[match.group(2)]] = path
    for name, images in by_case.items():
        absent = [f"_{number}" for number, view in channels.items() if view not in images]
        findings.error_if(absent and [f"{folder.name}/{name}: {', '.join(absent)}"], "a case lacks a channel")
    return dict(by_case)


def _row(
    name: str, images: Mapping[str, Path], mask: Path | None, options: AdaptOptions, findings: Findings
) -> Row | None:
    patient = patient_of(options.patient, name, name)
    if patient is None:
        findings.error(f"--patient {options.patient!r} is not found in a case's name", name)
        return None
    if len(images) == 1:
        scans = {"image": str(next(iter(images.values()))), "mask": str(mask or "")}
    else:
        scans = {f"image.{view}": str(path) for view, path in images.items()}
        scans |= {f"mask.{view}": str(mask or "") for view in images}
    return {"case": name, "patient": patient, **scans}


def _check_counts(
    header: Mapping[str, Any], train: Mapping[str, object], folder: Path, ending: str, findings: Findings
) -> None:
    declared = header.get("numTraining")
    if isinstance(declared, int) and declared != len(train):
        findings.warn(f"dataset.json says numTraining {declared}, imagesTr holds {len(train)} cases")
    masks = {path.name.removesuffix(ending) for path in listing(folder / "labelsTr") if path.name.endswith(ending)}
    findings.warn_if(sorted(set(train) - masks), "a case has no mask in labelsTr")
    findings.warn_if(sorted(masks - set(train)), "a mask in labelsTr belongs to no case and is left out")


def _folds(folder: Path, train: Mapping[str, object], findings: Findings) -> dict[str, str]:
    """Case to the fold that validates it; each case in exactly one, or the file is no cross-validation."""
    path = next((p for p in (folder / "splits_final.json", folder / "splits.json") if p.is_file()), None)
    if path is None:
        return {}
    splits = read_json(path, findings)
    if not isinstance(splits, list) or not all(isinstance(s, dict) and isinstance(s.get("val"), list) for s in splits):
        findings.error(f'{path.name}: expected [{{"train": [...], "val": [...]}}, …]')
        return {}
    folds: dict[str, str] = {}
    for number, split in enumerate(splits):
        for name in split["val"]:
            if name in folds:
                findings.error(f"{path.name}: a case is in val of two folds", f"{name}: {folds[name]} and {number}")
            folds[name] = str(number)
    findings.error_if(sorted(set(map(str, folds)) - set(train)), f"{path.name}: a case is not in imagesTr")
    findings.error_if(sorted(set(train) - set(folds)), f"{path.name}: a case is in val of no fold")
    return folds


def _report(
    adapted: Adapted,
    labels: Mapping[str, Mapping[str, str]],
    chosen: Mapping[str, object],
    test: Mapping[str, object],
    options: AdaptOptions,
) -> None:
    findings = adapted.findings
    adapted.labels = label_columns(labels.values())
    if options.labels is None:
        findings.warn("the layout has no class labels: give a table with --labels, or add columns to the manifest")
    else:
        findings.warn_if([name for name in chosen if name not in labels], "a case is not in the label table")
        findings.warn_if(sorted(set(labels) - set(chosen)), "a row of the label table belongs to no case here")
    left = [name for name in test if name not in labels]
    if left:
        findings.ok(f"{len(left)} cases of imagesTs have no labels and are left out")
    if options.patient is None and not any("patient" in row for row in labels.values()):
        findings.warn("each case is taken as a patient of its own; --patient REGEX finds the patient in its name")
