"""THE table of data-set layouts: name -> what it is, what it expects, and the function that reads it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from anymc3d.adapters.bids import adapt_bids
from anymc3d.adapters.class_folders import adapt_class_folders
from anymc3d.adapters.ct_rate import adapt_ct_rate
from anymc3d.adapters.dicom_tree import adapt_dicom_tree
from anymc3d.adapters.medmnist import adapt_medmnist
from anymc3d.adapters.monai import adapt_monai
from anymc3d.adapters.nnunet import adapt_nnunet
from anymc3d.adapters.panorama import adapt_panorama
from anymc3d.adapters.ratic import adapt_ratic
from anymc3d.adapters.rows import Adapted, AdaptOptions
from anymc3d.adapters.table_folder import adapt_table_folder
from anymc3d.errors import LayoutError, did_you_mean


@dataclass(frozen=True)
class Adapter:
    """One layout. ``options``: the fields of :class:`AdaptOptions` that it uses; others are refused."""

    name: str
    summary: str
    expects: str
    """The files and folders that it looks for."""
    citation: str
    licence: str
    """Of the data set where the layout is one data set; empty for layouts that anybody can use."""
    options: tuple[str, ...]
    adapt: Callable[[Path, AdaptOptions], Adapted]


_OF_ALL = ("progress",)

ADAPTERS: dict[str, Adapter] = {
    adapter.name: adapter
    for adapter in (
        Adapter(
            "ratic",
            "abdominal trauma CT of the RSNA 2023 challenge (tasks T1 to T4)",
            "train_images/<patient>/<series>/<n>.dcm, train_2024.csv or train.csv, train_series_meta.csv,"
            " segmentations/<series>.nii",
            "Rudie et al., Radiology: AI 2024",
            "non-commercial research, terms of the challenge",
            ("partial",),
            adapt_ratic,
        ),
        Adapter(
            "panorama",
            "contrast-enhanced CT of the pancreas (task T5)",
            "<patient>_<study>_0000.nii.gz, automatic_labels/, manual_labels/, clinical_information.xlsx",
            "Alves et al., 2024",
            "CC BY-NC 4.0",
            ("partial",),
            adapt_panorama,
        ),
        Adapter(
            "ct-rate",
            "chest CT with 18 findings (task T11)",
            "dataset/{train_fixed,valid_fixed}/train_1/train_1_a/train_1_a_1.nii.gz, multi_abnormality_labels/,"
            " metadata/",
            "Hamamci et al., 2024",
            "CC BY-NC-SA 4.0",
            ("partial", "release", "convert", "num_checked", "num_validation", "seed"),
            adapt_ct_rate,
        ),
        Adapter(
            "nnunet",
            "an nnU-Net raw data set",
            "imagesTr/<case>_0000.nii.gz, labelsTr/<case>.nii.gz, dataset.json, splits_final.json",
            "Isensee et al., Nature Methods 2021",
            "",
            ("labels", "patient"),
            adapt_nnunet,
        ),
        Adapter(
            "monai",
            "a MONAI data list",
            'one .json: {"training": [{"image": ..., "label": ..., "fold": 0}], "validation": [], "testing": []}',
            "Cardoso et al., 2022",
            "",
            ("partial", "labels", "patient"),
            adapt_monai,
        ),
        Adapter(
            "medmnist",
            "a MedMNIST 3D file",
            "<name>.npz with train_images, train_labels and the same for val and test",
            "Yang et al., Scientific Data 2023",
            "CC BY 4.0",
            (),
            adapt_medmnist,
        ),
        Adapter(
            "bids",
            "a BIDS data set",
            "sub-01/[ses-01/]anat/sub-01_T1w.nii.gz, participants.tsv",
            "Gorgolewski et al., Scientific Data 2016",
            "",
            ("partial", "labels", "match", "suffixes"),
            adapt_bids,
        ),
        Adapter(
            "csv",
            "a folder of scans and a table with their ids",
            "scans at any depth (files, DICOM folders) and --table labels.csv with a column of ids",
            "",
            "",
            ("partial", "labels", "id", "patient", "match"),
            adapt_table_folder,
        ),
        Adapter(
            "dicom-tree",
            "a tree of DICOM files, as an archive exports it",
            "DICOM files at any depth, or a .zip of them; --table labels.csv joins labels by the id of a case",
            "",
            "",
            ("partial", "labels", "id", "series"),
            adapt_dicom_tree,
        ),
        Adapter(
            "folders",
            "one folder per class",
            "<class>/<scan> or <split>/<class>/<scan>; a scan is a file or a folder of DICOM files",
            "",
            "",
            ("patient", "match"),
            adapt_class_folders,
        ),
    )
}


def adapt(layout: str, folder: Path, options: AdaptOptions | None = None) -> Adapted:
    """Read a folder (or the one file) of a public layout into rows of a manifest, with everything that was found.

    Nothing is written but CT-RATE's corrected copies, where asked for; :func:`anymc3d.adapters.rows.write_adapted`
    writes the manifest.

    Raises:
        UsageError: the layout is unknown, the folder is not there, or an option is of another layout.
    """
    if layout not in ADAPTERS:
        raise LayoutError(f"unknown layout {layout!r}{did_you_mean(layout, ADAPTERS)}")
    entry, options = ADAPTERS[layout], options or AdaptOptions()
    foreign = [
        field.name
        for field in dataclasses.fields(options)
        if getattr(options, field.name) != field.default and field.name not in (*entry.options, *_OF_ALL)
    ]
    if foreign:
        names = ", ".join(name.replace("_", "-") for name in foreign)
        raise LayoutError(f"layout {layout} takes no option {names}; it takes {', '.join(entry.options) or 'none'}")
    for name in ("patient", "match"):
        _check_pattern(name, getattr(options, name))
    if not folder.exists():
        raise LayoutError(f"{folder}: there is no such folder; {layout} expects {entry.expects}")
    return entry.adapt(folder, options)


def _check_pattern(option: str, pattern: str | None) -> None:
    try:
        re.compile(pattern or "")
    except re.error as error:
        raise LayoutError(f"--{option} {pattern!r}: not a regular expression ({error}); ^(p[0-9]+) is one") from None
