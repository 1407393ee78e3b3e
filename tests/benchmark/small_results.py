"""A small table of results with something for every layout, as ``results.csv`` holds it."""

from __future__ import annotations

from pathlib import Path

from anymc3d.benchmark.results import COLUMNS
from anymc3d.files.tables import write_table

METHODS = {
    "query": ("anymc3d", "dinov3-large", "query", "none", 1_197_058),
    "average": ("anymc3d", "dinov3-large", "mean", "none", 1_196_034),
    "small": ("anymc3d", "dinov3-small", "query", "none", 231_554),
    "v2": ("anymc3d", "dinov2-large", "query", "none", 1_195_618),
    "masks": ("anymc3d", "dinov3-large", "query", "nnunet", 2_854_121),
    "frozen": ("frozen", "dinov3-large", "query", "none", 3_074),
    "medicalnet-lora": ("medicalnet-lora", "", "", "", 1_139_386),
    "densenet": ("densenet121-3d", "", "", "", 11_244_674),
    "stopped": ("m3t", "", "", "", None),
}
AUROCS = {
    ("liver", 400): (0.93, 0.91, 0.90, 0.92, 0.94, 0.91, 0.86, 0.82),
    ("liver", 80): (0.88, 0.86, 0.85, 0.87, 0.88, 0.87, 0.74, 0.66),
    ("kidney", 300): (0.97, 0.95, 0.95, 0.96, 0.98, 0.93, 0.90, 0.88),
}


def rows():
    """Two tasks, one of them with two numbers of training cases; ``stopped`` failed on one and never ran elsewhere."""
    for (task, cases), values in AUROCS.items():
        for (method, described), value in zip(METHODS.items(), values, strict=False):
            frame = _frame(task, cases, method, described)
            yield frame | _auroc(value)
            if method != "query":
                yield from _pair(frame, value - values[0])
            if (task, cases, method) == ("liver", 400, "query"):
                yield from _graded(frame)
    yield _frame("liver", 400, "stopped", METHODS["stopped"]) | {"metric": "failed", "reason": "out of memory"}


def write_small_results(folder: Path) -> Path:
    """Write ``results.csv`` and ``datasets.csv`` into ``folder``."""
    write_table(folder / "results.csv", COLUMNS, rows())
    data = {"task": "liver", "name": "liver-injury", "modality": "CT", "normalise": "[-150,250]", "size": "96x96x32"}
    counts = {"total": 540, "train": 400, "val": 60, "test": 80, "positive_percent": 10.5}
    write_table(folder / "datasets.csv", [*data, "views", *counts], [data | counts | {"views": 1}])
    return folder


def _frame(task, cases, method, described):
    system, backbone, fusion, segmentation, parameters = described
    return {
        "task": task,
        "method": method,
        "seed": "0",
        "train_cases": cases,
        "system": system,
        "backbone": backbone,
        "fusion": fusion,
        "segmentation": segmentation,
        "trials": 1,
        "trainable_parameters": parameters,
        "train_seconds_per_volume": None if parameters is None else 0.31,
        "predict_seconds_per_volume": None if parameters is None else 0.12,
        "total_parameters": None if parameters is None else parameters + 22_000_000,
        "peak_memory_bytes": None if parameters is None else 3_400_000_000,
        "memory_per_volume_bytes": None if parameters is None else 1_150_000_000,
    }


def _auroc(value):
    bounds = {
        "ci_low": round(value - 0.04, 3),
        "ci_high": round(min(1.0, value + 0.03), 3),
        "ci_method": "delong_logit",
    }
    return {"label": "injury", "metric": "auroc", "group": "all", "split": "test", "value": value} | bounds | COUNTS


COUNTS = {"n": 80, "n_positive": 9}


def _pair(frame, difference):
    place = {"label": "injury", "group": "all", "split": "test", "reference": "query"}
    for metric, value in (
        ("auroc_difference", round(difference, 3)),
        ("auroc_difference_p", 0.01),
        ("auroc_difference_p_holm", 0.04),
    ):
        yield frame | place | {"metric": metric, "value": value} | COUNTS


def _graded(frame):
    place = {"label": "injury", "group": "grade=0 vs 1+2", "split": "test"}
    yield frame | place | {"metric": "auroc", "value": 0.93} | COUNTS
    for metric, value in (("accuracy", 0.9), ("sensitivity", 0.8), ("specificity", 0.91)):
        yield frame | place | {"metric": metric, "value": value, "operating_point": "youden"} | COUNTS
