"""T1 to T5: injuries of bowel, liver, kidneys and spleen (RATIC), and pancreatic cancer (PANORAMA)."""

from __future__ import annotations

from collections.abc import Mapping

from anymc3d.recipes.recipe import Counts, PrintedAuroc, Recipe, RecipeLabels
from anymc3d.settings.views import RoiSettings, ViewSettings
from anymc3d.settings.windows import window

RATIC = "RATIC (RSNA 2023 abdominal trauma): Kaggle competition rsna-2023-abdominal-trauma-detection"
RATIC_TERMS = "competition terms, non-commercial; not to be redistributed"
RATIC_CITATION = (
    "Rudie et al., The RSNA Abdominal Traumatic Injury CT (RATIC) Dataset, Radiology: Artificial Intelligence, 2024"
)
FIVE_FRACTIONS = (0.7, 0.1, 0.2)
BY_PATIENT = "by patient, stratified on the label: the unit is the series, and two phases of a patient would leak"
RATIC_REASONS = {
    "data.fractions": "the paper: 70/10/20; whether by patient is not printed, here it is",
    "labels.columns": "the unit is the series, with its patient's label; low and high grade are 1",
}
RATIC_NOTES = (
    "margin of the crop not printed: 10 mm",
    "rule for cut organs not printed: left out when the organ is missing or 20 % of its largest area lies on an end",
)


def _organ_view(size: tuple[int, int, int], *organs: str) -> ViewSettings:
    return ViewSettings(
        size=size,
        plane="axial",
        normalise="window",
        windows=(window("abdomen"),),
        roi=RoiSettings(
            source="totalsegmentator",
            organs=organs,
            margin_mm=(10.0, 10.0, 10.0),
            on_empty="exclude",
            on_cut="exclude",
            cut_share=0.2,
        ),
    )


def _binary(column: str) -> RecipeLabels:
    return RecipeLabels(kind="binary", columns=(column,), classes=("0", "1"))


def _injury(
    id: str,
    organ: str,
    view: ViewSettings,
    counts: Counts,
    printed: tuple[PrintedAuroc, ...],
    *,
    reasons: Mapping[str, str] | None = None,
    notes: tuple[str, ...] = (),
) -> Recipe:
    """Injury of one organ in RATIC; ``reasons`` and ``notes`` beside those of all its tasks."""
    return Recipe(
        id=id,
        name=f"{organ}-injury",
        title=f"{organ.capitalize()} injury",
        modality="CT",
        labels=_binary(f"{organ}_injury"),
        views={"image": view},
        fractions=FIVE_FRACTIONS,
        split_rule=BY_PATIENT,
        counts=counts,
        access="public",
        data=RATIC,
        terms=RATIC_TERMS,
        citation=RATIC_CITATION,
        adapter="ratic",
        printed=printed,
        reasons=RATIC_REASONS | dict(reasons or {}),
        notes=(*RATIC_NOTES, *notes),
    )


T1 = _injury(
    "T1",
    "bowel",
    _organ_view((288, 224, 126), "small_bowel", "duodenum", "colon"),
    Counts(total=4679, train=3276, val=467, test=936, positive_percent=2.23),
    (
        PrintedAuroc(value=0.9543, model="AnyMC3D, DINOv3 ViT-L", where="Table 8; Table 7 prints 0.954"),
        PrintedAuroc(value=0.956, model="AnyMC3D, DINOv2 ViT-L", where="Table 7", other_backbone=True),
    ),
    notes=("with or without duodenum not printed: with",),
)
T2 = _injury(
    "T2",
    "liver",
    _organ_view((288, 256, 80), "liver"),
    Counts(total=4701, train=3290, val=471, test=940, positive_percent=10.09),
    (
        PrintedAuroc(value=0.9219, model="AnyMC3D, DINOv3 ViT-L", where="Table 8; Table 7 prints 0.922"),
        PrintedAuroc(value=0.914, model="AnyMC3D, DINOv2 ViT-L", where="Table 7", other_backbone=True),
    ),
)
T3 = _injury(
    "T3",
    "kidney",
    _organ_view((288, 128, 64), "kidney_right", "kidney_left"),
    Counts(total=4677, train=3274, val=469, test=934, positive_percent=5.99),
    (
        PrintedAuroc(value=0.988, model="AnyMC3D, DINOv3 ViT-L", where="Table 6"),
        PrintedAuroc(value=0.984, model="AnyMC3D, DINOv3 ViT-L", where="Table 7; Table 8 prints 0.9842"),
    ),
    reasons={"view.roi": "both kidneys in one crop: the size is wide from left to right"},
    notes=("Table 6 prints 0.988, Tables 7 and 8 print 0.984 for the same model",),
)
T4 = _injury(
    "T4",
    "spleen",
    _organ_view((160, 160, 70), "spleen"),
    Counts(total=4695, train=3285, val=471, test=939, positive_percent=11.59),
    (
        PrintedAuroc(value=0.9527, model="AnyMC3D, DINOv3 ViT-L", where="Table 8; Table 7 prints 0.953"),
        PrintedAuroc(value=0.957, model="AnyMC3D, DINOv2 ViT-L", where="Table 7", other_backbone=True),
    ),
    notes=(
        "Table 8's counts add up to 938 test series, Table 3 says 939",
        "1.20 M parameters with DINOv3 ViT-L; the 1.32 M printed for this task are of the MedImageInsight backbone",
    ),
)
T5 = Recipe(
    id="T5",
    name="pdac",
    title="Pancreatic ductal adenocarcinoma",
    modality="CT",
    labels=_binary("pdac"),
    views={
        "image": ViewSettings(
            size=(432, 240, 70),
            plane="axial",
            normalise="window",
            windows=(window("abdomen"),),
            roi=RoiSettings(source="mask", classes=(1, 4, 5), margin_mm=(100.0, 50.0, 15.0), on_empty="whole"),
        )
    },
    fractions=FIVE_FRACTIONS,
    split_rule="by patient, stratified on the label",
    counts=Counts(total=2238, train=1566, val=224, test=448, positive_percent=30.20),
    access="public",
    data="PANORAMA: Zenodo 13715870, 13742336, 11034011, 10999754; labels in DIAGNijmegen/panorama_labels",
    terms="CC BY-NC 4.0",
    citation=(
        "Alves et al., The PANORAMA Study Protocol: Pancreatic Cancer Diagnosis - Radiologists Meet AI, Zenodo, 2024"
    ),
    adapter="panorama",
    printed=(
        PrintedAuroc(value=0.962, model="AnyMC3D, DINOv3 ViT-L", where="Table 6"),
        PrintedAuroc(value=0.933, model="AnyMC3D, DINOv3 ViT-S", where="Table 6", other_backbone=True),
        PrintedAuroc(value=0.943, model="AnyMC3D, DINOv3 ViT-B", where="Table 6", other_backbone=True),
        PrintedAuroc(value=0.973, model="AnyMC3D with auxiliary segmentation", where="as quoted by public notes"),
    ),
    reasons={
        "data.fractions": "the paper: 70/10/20",
        "view.roi": (
            "the paper: a low-resolution pancreas segmentation's box, 100/50/15 mm around it: PANDX/low/manifest.csv of"
            " anymc3d pandx has it as label 1; of the data set's own masks the box of tumour, parenchyma and duct"
            " (1, 4, 5), which knows the lesion; an empty mask leaves the scan whole"
        ),
    },
    notes=(
        "only manual masks outline lesions reliably; whether the paper used automatic ones is not printed",
        "the paper's best result needs auxiliary segmentation of the six structures",
    ),
)

RECIPES: tuple[Recipe, ...] = (T1, T2, T3, T4, T5)
