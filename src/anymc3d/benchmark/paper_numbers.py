"""Numbers that the paper and notes about it print, each with where it stands; where two are printed, both are here.

They were measured on other data than your own benchmark, and are shown beside it for orientation. None is the result
of a run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SUPPLEMENT = "supplement"
NOTES = "public notes on the paper"


@dataclass(frozen=True, kw_only=True)
class Quoted:
    """An AUROC that public notes quote; ``values``: all where several are printed."""

    system: str
    values: tuple[float, ...]
    source: str = NOTES

    @property
    def text(self) -> str:
        return " / ".join(f"{value:.3f}" for value in self.values)


@dataclass(frozen=True, kw_only=True)
class Average(Quoted):
    """AUROC averaged over ten tasks (T1 to T10)."""

    rank: str = ""
    parameters: str = ""
    """Trainable, as printed."""


AVERAGES: tuple[Average, ...] = (
    Average(system="AnyMC3D (MedImageInsight)", values=(0.894,), rank="1.7", parameters="1.32 M"),
    Average(system="AnyMC3D (DINOv3 ViT-L)", values=(0.894,), rank="2.0", parameters="1.20 M"),
    Average(system="MST", values=(0.869,), parameters="23.05 M"),
    Average(system="AnyMC3D (MedGemma)", values=(0.866,), parameters="1.2-2.0 M"),
    Average(system="3D DenseNet-121", values=(0.833,), parameters="11.24 M"),
    Average(system="RSNA-Kaggle", values=(0.810,), parameters="25.04 M"),
    Average(system="3D ResNet-18", values=(0.809,), parameters="11-33 M"),
    Average(system="VoCo", values=(0.793,)),
    Average(system="MedImageInsight, frozen", values=(0.785,), parameters="0.03 M"),
    Average(system="MedicalNet", values=(0.783,)),
    Average(system="MedGemma, frozen", values=(0.690,)),
)


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A printed AUROC; ``system``, ``variant``: the line of its table; ``values``: all where several are printed."""

    table: str
    system: str
    variant: str = ""
    task: str = ""
    values: tuple[float, ...] = ()
    parameters: str = ""
    """Trainable, as printed."""
    source: str = SUPPLEMENT

    @property
    def text(self) -> str:
        return " / ".join(f"{value:.4f}".rstrip("0") if value * 1000 % 1 else f"{value:.3f}" for value in self.values)


STRATEGIES: tuple[Figure, ...] = tuple(
    Figure(table="Table 4", system=system, variant=variant, task="T4", values=(value,), parameters=parameters)
    for system, variant, value, parameters in (
        ("MedicalNet", "linear probing", 0.654, "0.004 M"),
        ("MedicalNet", "LoRA", 0.889, "1.14 M"),
        ("MedicalNet", "full finetuning", 0.899, "46.16 M"),
        ("VoCo", "linear probing", 0.702, "0.002 M"),
        ("VoCo", "LoRA", 0.838, "0.07 M"),
        ("VoCo", "full finetuning", 0.919, "50.49 M"),
    )
)
STRATEGY_NOTE = "supplement C4 says below 1 M parameters for the small variants, Table 4 prints 1.14 M"

FUSIONS: tuple[Figure, ...] = (
    Figure(table="Table 5", system="mean", variant="average", task="T5", values=(0.958,), parameters="0"),
    Figure(table="Table 5", system="max", variant="max", task="T5", values=(0.946,), parameters="0"),
    Figure(table="Table 5", system="median", variant="median", task="T5", values=(0.944,), parameters="0"),
    Figure(table="Table 5", system="lstm", variant="LSTM", task="T5", values=(0.903,), parameters="5.5 M"),
    Figure(
        table="Table 5", system="transformer", variant="Transformer", task="T5", values=(0.950,), parameters="7.0 M"
    ),
    Figure(table="Table 5", system="query", variant="query", task="T5", values=(0.962,), parameters="0.001 M"),
)
"""``system``: the entry of FUSIONS; parameters of the fusion alone."""

SIZES: tuple[Figure, ...] = tuple(
    Figure(table="Table 6", system=system, variant=variant, task=task, values=(value,), parameters=parameters)
    for system, variant, parameters, values in (
        ("dinov3-small", "ViT-S", "0.23 M", (0.980, 0.933, 0.881)),
        ("dinov3-base", "ViT-B", "0.46 M", (0.975, 0.943, 0.902)),
        ("dinov3-large", "ViT-L", "1.20 M", (0.988, 0.962, 0.903)),
    )
    for task, value in zip(("T3", "T5", "T7"), values, strict=True)
)
VERSIONS: tuple[Figure, ...] = tuple(
    Figure(table="Table 7", system=system, variant=variant, task=task, values=(value,))
    for system, variant, values in (
        ("dinov2-large", "DINOv2", (0.956, 0.914, 0.988, 0.957)),
        ("dinov3-large", "DINOv3", (0.954, 0.922, 0.984, 0.953)),
    )
    for task, value in zip(("T1", "T2", "T3", "T4"), values, strict=True)
)
VERSION_NOTE = "for T3 with DINOv3 ViT-L, Table 6 prints 0.988, Table 7 0.984 and Table 8 0.9842"


ANY_GRADE = "0 vs 1+2"


@dataclass(frozen=True, kw_only=True)
class Severity:
    """One line of Table 8: grades of an injury against none, at the threshold of Youden's J of any grade."""

    task: str
    organ: str
    positive: int
    negative: int
    auroc: float | None
    """None where it is printed and was not at hand here."""
    accuracy: float
    sensitivity: float
    specificity: float
    grades: str = ANY_GRADE


SEVERITY: tuple[Severity, ...] = tuple(
    Severity(
        task=task,
        organ=organ,
        positive=positive,
        negative=negative,
        auroc=figures[0],
        accuracy=figures[1],
        sensitivity=figures[2],
        specificity=figures[3],
    )
    for task, organ, positive, negative, figures in (
        ("T1", "bowel", 21, 915, (0.9543, 0.8996, 0.9524, 0.8984)),
        ("T2", "liver", 94, 846, (0.9219, 0.8617, 0.8511, 0.8629)),
        ("T3", "kidney", 55, 879, (0.9842, 0.9636, 0.9636, 0.9636)),
        ("T4", "spleen", 109, 829, (0.9527, 0.9318, 0.8807, 0.9385)),
    )
) + tuple(
    Severity(
        task="T2",
        organ="liver",
        positive=num_found + missed,
        negative=846,
        auroc=None,
        accuracy=(num_found + 730) / (num_found + missed + 846),
        sensitivity=num_found / (num_found + missed),
        specificity=730 / 846,
        grades=grades,
    )
    for grades, num_found, missed in (("0 vs 1", 62, 14), ("0 vs 2", 18, 0))
)
"""The lines of single grades are printed for liver, kidney and spleen. Those of the liver follow from counts: 14 of 94
injuries are missed, all of the low grade, and 116 of 846 healthy livers are called."""
SEVERITY_NOTE = (
    "Table 8's spleen counts add up to 938, Table 3 prints 939 test series; of its lines of single grades only the "
    "liver's are here, without their AUROC"
)

DECODERS: tuple[Figure, ...] = (
    Figure(table="Figure 7", system="none", variant="no segmentation", task="T5", values=(0.962,)),
    Figure(table="Figure 7", system="nnunet", variant="nnU-Net-style 3D decoder", task="T5", values=(0.973,)),
    Figure(table="Figure 7", system="eomt-2d", variant="EoMT 2D", task="T5"),
    Figure(table="Figure 7", system="eomt-3d", variant="EoMT 3D", task="T5"),
)
DECODER_NOTE = (
    "0.962 to 0.973 by auxiliary segmentation is quoted by public notes; of EoMT they say that 3D is below 2D and "
    "both are above no segmentation"
)


@dataclass(frozen=True, kw_only=True)
class Share(Quoted):
    """A point of the label-efficiency curve: AUROC with a share of the training cases."""

    task: str
    share: float


LABEL_EFFICIENCY: tuple[Share, ...] = (
    Share(system="AnyMC3D (DINOv3 ViT-L)", task="T3", share=0.2, values=(0.924,)),
    Share(system="3D DenseNet-121", task="T3", share=0.2, values=(0.741,)),
    Share(system="AnyMC3D (DINOv3 ViT-L)", task="T3", share=1.0, values=(0.988, 0.984), source="Table 6 / Table 7"),
)

OTHERS: tuple[Figure, ...] = (
    Figure(table="Figure 9", system="AnyMC3D (DINOv2 ViT-B), 10 plug-ins", task="VLM3D", values=(0.888,)),
    Figure(table="main", system="PanDx", task="T5", values=(0.949,), source=NOTES),
    Figure(table="main", system="AnyMC3D (DINOv2)", task="T11", values=(0.882, 0.884), source="sources differ"),
    Figure(table="main", system="CT-CLIP", task="T11", values=(0.748, 0.768), source="sources differ"),
    Figure(table="main", system="CT-Net", task="T11", values=(0.631,), source=NOTES),
    Figure(table="main", system="AnyMC3D", task="T12", values=(0.820,), source=NOTES),
    Figure(table="main", system="DeepCNTD-Net", task="T12", values=(0.768,), source=NOTES),
)
"""Single tasks of systems that were made for them."""

PARAMETERS: Sequence[tuple[str, float]] = (
    ("AnyMC3D (MedImageInsight)", 1.32),
    ("AnyMC3D (DINOv3 ViT-L)", 1.20),
    ("MST", 23.05),
    ("3D DenseNet-121", 11.24),
    ("RSNA-Kaggle", 25.04),
    ("MedImageInsight, frozen", 0.03),
)
"""Figure 8: millions of trainable parameters of systems whose average AUROC is printed too (:data:`AVERAGES`)."""
