"""The public data sets that have an adapter or that ``anymc3d data get`` fetches: one visible table.

A file is fetched only where its address is plain and its hash is published. Hashes here are those of their publisher
(md5 in the MedMNIST package, version 3; Zenodo record 10519652), never our own invention.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

_ZENODO = "https://zenodo.org/records/10519652/files"
_MEDMNIST_CITATION = "Yang et al., MedMNIST v2, Scientific Data 2023"


@dataclass(frozen=True)
class PublicFile:
    """One file that can be fetched: where it is, what its publisher says its md5 is, and the most it can weigh."""

    address: str
    md5: str
    max_bytes: int


@dataclass(frozen=True)
class PublicSet:
    """What a person must know before using a public data set."""

    name: str
    title: str
    layout: str
    """The adapter that reads it."""
    modality: str
    size: str
    """Scans, not bytes: publishers change the packing."""
    licence: str
    gate: str
    """What stands before the download; empty where nothing does."""
    citation: str
    page: str
    get: str
    """How to get it by hand, where it is not fetched."""
    file: PublicFile | None = None


MEDMNIST_CLASSES: dict[str, tuple[str, ...]] = {
    "organmnist3d": (
        *("liver", "kidney-right", "kidney-left", "femur-right", "femur-left", "bladder"),
        *("heart", "lung-right", "lung-left", "spleen", "pancreas"),
    ),
    "nodulemnist3d": ("benign", "malignant"),
    "adrenalmnist3d": ("normal", "hyperplasia"),
    "fracturemnist3d": ("buckle rib fracture", "nondisplaced rib fracture", "displaced rib fracture"),
    "vesselmnist3d": ("vessel", "aneurysm"),
    "synapsemnist3d": ("inhibitory synapse", "excitatory synapse"),
}
"""Label number to class, as published."""

_MEDMNIST: dict[str, tuple[str, tuple[int, int, int], str, str]] = {
    "organmnist3d": (
        *("CT", (971, 161, 610)),
        *("a0c5a1ff56af4f155c46d46fbb45a2fe", "58a2205adf14a9d0a189cb06dc78bf10"),
    ),
    "nodulemnist3d": (
        *("CT", (1158, 165, 310)),
        *("8755a7e9e05a4d9ce80a24c3e7a256f3", "c47c5b7d457bf6332200d2ea6d64ecd8"),
    ),
    "adrenalmnist3d": (
        *("CT shapes", (1188, 98, 298)),
        *("bbd3c5a5576322bc4cdfea780653b1ce", "17721accfe9fb005146a47d33bc54b2f"),
    ),
    "fracturemnist3d": (
        *("CT", (1027, 103, 240)),
        *("6aa7b0143a6b42da40027a9dda61302f", "f01d7e6316aedf4210da0da5b7437b42"),
    ),
    "vesselmnist3d": (
        *("MRA shapes", (1335, 191, 382)),
        *("b41fd4f7e7e2feedddb201585ecafa1b", "6bb274a8846e1097066dcd64e2c4520f"),
    ),
    "synapsemnist3d": (
        *("microscopy", (1230, 177, 352)),
        *("1235b78a3cd6280881dd7850a78eadb6", "43bd14ebf3af9d3dd072446fedc14d5e"),
    ),
}
"""Modality; train, val, test; md5 of the 28-cubed and of the 64-cubed file."""


def _medmnist(name: str, side: int) -> PublicSet:
    modality, volumes, *hashes = _MEDMNIST[name]
    stem = name if side == 28 else f"{name}_64"
    return PublicSet(
        name=stem,
        title=f"{name.removesuffix('mnist3d').capitalize()}MNIST3D, {side} voxels a side",
        layout="medmnist",
        modality=modality,
        size=f"{sum(volumes):,} volumes ({'/'.join(map(str, volumes))})",
        licence="CC BY 4.0",
        gate="",
        citation=_MEDMNIST_CITATION,
        page="https://zenodo.org/records/10519652",
        get="",
        file=PublicFile(
            address=f"{_ZENODO}/{stem}.npz?download=1",
            md5=hashes[0] if side == 28 else hashes[1],
            max_bytes=sum(volumes) * side**3 + 2**20,
        ),
    )


_LARGE = (
    PublicSet(
        name="ratic",
        title="RATIC, abdominal trauma CT (RSNA 2023)",
        layout="ratic",
        modality="CT",
        size="4,711 series of 3,147 patients",
        licence="non-commercial research, terms of the challenge",
        gate="a Kaggle account that accepts the rules of the challenge",
        citation="Rudie et al., The RSNA Abdominal Traumatic Injury CT (RATIC) Dataset, Radiology: AI 2024",
        page="https://www.kaggle.com/competitions/rsna-2023-abdominal-trauma-detection",
        get="accept the rules on its Kaggle page and download it there (competition"
        " rsna-2023-abdominal-trauma-detection), unpack it",
    ),
    PublicSet(
        name="panorama",
        title="PANORAMA, contrast-enhanced CT of the pancreas",
        layout="panorama",
        modality="CT",
        size="2,238 studies",
        licence="CC BY-NC 4.0",
        gate="",
        citation="Alves et al., The PANORAMA Study Protocol, 2024",
        page="https://zenodo.org/records/13715870",
        get="download the four batches from Zenodo (records 13715870, 13742336, 11034011, 10999754), unpack them into"
        " one folder, and clone github.com/DIAGNijmegen/panorama_labels beside them",
    ),
    PublicSet(
        name="ct-rate",
        title="CT-RATE, chest CT with reports and 18 findings",
        layout="ct-rate",
        modality="CT",
        size="50,188 volumes of 21,304 patients",
        licence="CC BY-NC-SA 4.0",
        gate="a Hugging Face account that accepts the terms",
        citation="Hamamci et al., Developing Generalist Foundation Models from a Multimodal Dataset for 3D CT, 2024",
        page="https://huggingface.co/datasets/ibrahimhamamci/CT-RATE",
        get="accept the terms on its Hugging Face page and download it with Hugging Face's own client: the folders"
        " train_fixed, valid_fixed, multi_abnormality_labels and metadata below dataset/",
    ),
)

PUBLIC_SETS: dict[str, PublicSet] = {
    entry.name: entry for entry in (*_LARGE, *(_medmnist(name, side) for name in _MEDMNIST for side in (28, 64)))
}


def md5_of(path: Path) -> str:
    """The md5 (hex) of a file: what publishers state; it guards against damage, not against forgery."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
