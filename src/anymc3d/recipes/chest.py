"""T6 and T7: lung nodules around a point of interest (private); T11: eighteen findings of chest CT (CT-RATE)."""

from __future__ import annotations

from anymc3d.recipes.recipe import PAPER, Counts, PrintedAuroc, Recipe, RecipeLabels
from anymc3d.settings.views import RoiSettings, ViewSettings
from anymc3d.settings.windows import window

CT_RATE_LABELS = (
    "Medical material",
    "Arterial wall calcification",
    "Cardiomegaly",
    "Pericardial effusion",
    "Coronary artery wall calcification",
    "Hiatal hernia",
    "Lymphadenopathy",
    "Emphysema",
    "Atelectasis",
    "Lung nodule",
    "Lung opacity",
    "Pulmonary fibrotic sequela",
    "Pleural effusion",
    "Mosaic attenuation pattern",
    "Peribronchial thickening",
    "Consolidation",
    "Bronchiectasis",
    "Interlobular septal thickening",
)
"""The label columns of CT-RATE, in the order of its tables and of the VLM3D challenge."""
PRIVATE = "private data of the paper's authors: the recipe runs on a manifest of your own"
PRIVATE_TERMS = "not distributed"


def _nodule_view(size: tuple[int, int, int], box_mm: float) -> ViewSettings:
    return ViewSettings(
        size=size,
        plane="axial",
        normalise="window",
        windows=(window("lung"),),
        roi=RoiSettings(source="point", size_mm=(box_mm, box_mm, box_mm)),
    )


T6 = Recipe(
    id="T6",
    name="nodule-malignancy",
    title="Malignancy of lung nodules",
    modality="CT",
    labels=RecipeLabels(kind="binary", columns=("malignant",), classes=("0", "1")),
    views={"image": _nodule_view((224, 224, 70), 112.0)},
    fractions=(0.6, 0.1, 0.3),
    split_rule="by patient, stratified on the label",
    counts=Counts(total=1140, train=684, val=115, test=341, positive_percent=76.32),
    access="private",
    data=PRIVATE,
    terms=PRIVATE_TERMS,
    citation=PAPER,
    reasons={
        "data.fractions": "the paper: 60/10/30",
        "labels.columns": "a stand-in: name your own column with --labels",
        "view.roi": "one row per nodule with center_x, center_y, center_z; 112 mm are ours, the paper prints none",
    },
    notes=("crop in millimetres not printed: 112",),
)
T7 = Recipe(
    id="T7",
    name="nodule-spiculation",
    title="Spiculation of lung nodules",
    modality="CT",
    labels=RecipeLabels(kind="binary", columns=("spiculated",), classes=("0", "1")),
    views={"image": _nodule_view((128, 128, 64), 64.0)},
    fractions=(0.636, 0.182, 0.182),
    split_rule="by scan at least (5,668 nodules of 3,884 scans): give the scan, or better the patient, as 'patient'",
    counts=Counts(total=5668, train=3604, val=1032, test=1032, positive_percent=14.04),
    access="private",
    data=PRIVATE,
    terms=PRIVATE_TERMS,
    citation=PAPER,
    printed=(
        PrintedAuroc(value=0.903, model="AnyMC3D, DINOv3 ViT-L", where="Table 6"),
        PrintedAuroc(value=0.881, model="AnyMC3D, DINOv3 ViT-S", where="Table 6", other_backbone=True),
        PrintedAuroc(value=0.902, model="AnyMC3D, DINOv3 ViT-B", where="Table 6", other_backbone=True),
    ),
    reasons={
        "data.fractions": "as the paper's counts: 3,604 / 1,032 / 1,032",
        "labels.columns": "a stand-in: name your own column with --labels",
        "view.roi": "one row per nodule with center_x, center_y, center_z; 64 mm are ours, the paper prints none",
    },
    notes=("crop in millimetres not printed: 64",),
)
T11 = Recipe(
    id="T11",
    name="ct-rate",
    title="Eighteen findings of chest CT",
    modality="CT",
    labels=RecipeLabels(kind="multilabel", columns=CT_RATE_LABELS, count=18),
    views={
        "image": ViewSettings(
            size=(476, 476, 240),
            plane="axial",
            normalise="window",
            windows=(window("ct-rate-wide"), window("abdomen"), window("lung")),
        )
    },
    fractions=(0.9, 0.04, 0.06),
    split_rule="the official valid part is test; 2,000 volumes of the official train part, by patient, are val",
    counts=Counts(total=50188, train=45149, val=2000, test=3039),
    access="public",
    data="CT-RATE: Hugging Face ibrahimhamamci/CT-RATE, after a registration",
    terms="CC BY-NC-SA 4.0",
    citation=(
        "Hamamci et al., Developing Generalist Foundation Models from a Multimodal Dataset for 3D Computed Tomography,"
        " arXiv 2403.17834, 2024"
    ),
    adapter="ct-rate",
    backbone="dinov2-base",
    metric="macro auroc",
    printed=(
        PrintedAuroc(value=0.882, model="AnyMC3D, DINOv2", where="one of two printed values"),
        PrintedAuroc(value=0.884, model="AnyMC3D, DINOv2", where="the other printed value"),
    ),
    printed_parameters="0.5 M",
    reasons={
        "data.fractions": "used only when the manifest has no split; the adapter writes the official one",
        "view.size": "paper, Table 3: 476 is 34 patches of 14 pixels, so this task ran on DINOv2",
        "backbone.name": "patch 14 by the size, ViT-B as in the challenge entry; the table does not print which",
    },
    notes=(
        "0.882 and 0.884 are both printed for this task; CT-CLIP stands at 0.748 and 0.768",
        "Table 3 counts reconstructions (50,188); supplement B2 counts 25,692 scans",
        "in the first release voxels need slope and intercept of the metadata; the adapter sees which release it is",
    ),
)

RECIPES: tuple[Recipe, ...] = (T6, T7, T11)
