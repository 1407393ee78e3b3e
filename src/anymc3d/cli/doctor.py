"""``anymc3d doctor [MANIFEST.csv]``: checks the installation, or finds every fault of a data set."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import os
import platform
import shutil
from pathlib import Path
from typing import Any

from anymc3d.cli.say import answer, say, say_text
from anymc3d.errors import UsageError
from anymc3d.files.home import home_folder
from anymc3d.files.pointers import absent
from anymc3d.settings.extras import EXTRAS
from anymc3d.version import __version__

PAGE, DATA = "doctor.html", "doctor.json"
DOUBTS, DOUBTS_PICTURE = "label_doubts.csv", "label_doubts.png"
PACKAGES = ("torch", "numpy", "nibabel", "safetensors", "PyYAML", "scikit-learn", "matplotlib", "tqdm")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument(
        "manifest",
        type=Path,
        nargs="?",
        metavar="MANIFEST.csv",
        help="the table of cases, or a MedMNIST .npz; without it the installation is checked",
    )
    parser.add_argument("--labels", metavar="COL[,COL…]", help="the label column, or several of 0/1")
    parser.add_argument("--task", type=Path, metavar="task.yaml", help="expect this task's labels, classes, modality")
    parser.add_argument(
        "--out-of-fold",
        type=Path,
        metavar="OOF.csv",
        help="out-of-fold predictions of these cases, such as RUN/oof.csv of 'train --quick': rank the labels that a "
        f"confident answer contradicts ({DOUBTS} and {DOUBTS_PICTURE} with -o)",
    )
    parser.add_argument("--headers-only", action="store_true", help="do not decode voxels: fast, and sees less")
    parser.add_argument("-o", "--out", type=Path, metavar="OUT", help=f"folder for {PAGE} and {DATA}")
    parser.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        help="processes that read scans (default: one per processor; 0: this one, without limits of time and memory)",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--quiet", action="store_true", help="of a data set only the verdict")


def run(args: argparse.Namespace) -> int:
    """Check and print.

    Returns:
        2 when something that training needs is missing, or the data set has errors; otherwise 0.

    Raises:
        UsageError: options that cannot go together.
        TaskFileError: every fault of the task file.
    """
    if args.manifest is not None:
        return _run_data_set(args)
    stray = [name for name in ("labels", "task", "out_of_fold", "headers_only", "out", "jobs") if getattr(args, name)]
    if stray:
        raise UsageError(
            f"--{stray[0].replace('_', '-')} is for a data set: name its manifest, anymc3d doctor MANIFEST.csv"
        )
    from anymc3d.cli.main import print_json

    checks = check_installation()
    parts = optional_parts()
    if args.json:
        print_json([*checks, *parts])
    else:
        for check in checks:
            (say if check["ok"] else answer)(f"{check['state']:<5}  {check['what']}: {check['found']}")
        say("", "optional parts, by the name of their extra:")
        say(*(f"{part['state']:<7}  {part['what']:<11}  {part['found']}" for part in parts))
    return 0 if all(check["ok"] for check in checks) else 2


def _check_options(args: argparse.Namespace) -> None:
    if args.labels and args.task:
        raise UsageError("--labels and --task: give one of them; the task file names its labels")
    if args.out_of_fold and not (args.labels or args.task):
        raise UsageError("--out-of-fold: name the labels it is compared with, by --labels or --task")
    if args.jobs is not None and args.jobs < 0:
        raise UsageError(f"--jobs: expected 0 or more, got {args.jobs}")
    if args.out is not None and args.out.exists() and not args.out.is_dir():
        raise UsageError(f"{args.out}: expected a folder, got a file; choose another name with -o")
    if not args.manifest.exists():
        raise UsageError(f"{args.manifest}: {absent(args.manifest)}")


def _run_data_set(args: argparse.Namespace) -> int:
    _check_options(args)
    from anymc3d.cli.main import print_json
    from anymc3d.cost.progress import Progress
    from anymc3d.doctor.examine import examine
    from anymc3d.doctor.label_doubts import write_doubts
    from anymc3d.doctor.page import to_html
    from anymc3d.doctor.report import make_report, to_json
    from anymc3d.doctor.text import to_text
    from anymc3d.files import atomic
    from anymc3d.settings.task_file import read_task

    labels = [name.strip() for name in (args.labels or "").split(",") if name.strip()]
    task = read_task(args.task) if args.task else None
    with Progress(what="looking at scans", unit="file", quiet=args.quiet or args.json) as bar:
        seen = examine(
            args.manifest,
            labels=labels,
            task=task,
            headers_only=args.headers_only,
            processes=len(os.sched_getaffinity(0)) if args.jobs is None else args.jobs,
            out_of_fold=args.out_of_fold,
            progress=bar.update,
            on_total=bar.reset,
        )
    report = make_report(seen)
    if args.out is not None:
        atomic.write_json(args.out / DATA, to_json(report))
        atomic.write_text(args.out / PAGE, to_html(report))
        if args.out_of_fold is not None:
            write_doubts(args.out, DOUBTS, DOUBTS_PICTURE, seen.doubted.doubts)
    if args.json:
        print_json(to_json(report))
    elif args.quiet:
        answer(f"{report.manifest}: {report.verdict}")
    else:
        say_text(to_text(report))
        if args.out is not None:
            say("", f"written to {args.out / PAGE} and {args.out / DATA}")
    return report.exit_code


def optional_parts() -> list[dict[str, Any]]:
    """One entry per extra of the package: ``what`` it is called, ``found``: what it is for and how to have it,
    ``state``: ``present`` or ``missing``, which is no fault."""
    entries = []
    for name, extra in EXTRAS.items():
        lacking = f"; pip install 'anymc3d[{name}]'" if extra.missing else ""
        state = "missing" if extra.missing else "present"
        entries.append({"what": name, "found": extra.purpose + lacking, "ok": True, "state": state, "kind": "extra"})
    return entries


def check_installation() -> list[dict[str, Any]]:
    """One entry per check: ``what``, ``found``, ``ok``, and ``state``: ``ok``, ``FAIL``, or ``to do``, where nothing is
    wrong and nothing can be trained before it is done."""
    checks = [{"kind": "check", **check} for check in _checks()]
    return [{**check, "state": check.get("state", "ok" if check["ok"] else "FAIL")} for check in checks]


def _checks() -> list[dict[str, Any]]:
    checks = [{"what": "anymc3d", "found": f"{__version__}, Python {platform.python_version()}", "ok": True}]
    for package in PACKAGES:
        try:
            checks.append({"what": package, "found": importlib.metadata.version(package), "ok": True})
        except importlib.metadata.PackageNotFoundError:
            checks.append({"what": package, "found": f"missing; pip install {package}", "ok": False})
    if all(check["ok"] for check in checks):
        checks += [_torch(), _stray_torchvision(), _backbones()]
    return [*checks, _home()]


def _torch() -> dict[str, Any]:
    import torch

    from anymc3d.cost.device import choose_dtype

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    native = "bf16 is native" if choose_dtype("auto", device) is torch.bfloat16 else "bf16 is not native: fp32"
    return {"what": "device", "found": f"{device.type}, {name}, {native}", "ok": True}


def _stray_torchvision() -> dict[str, Any]:
    if importlib.util.find_spec("torchvision") is None:
        return {"what": "torchvision", "found": "absent, as it should be", "ok": True}
    return {
        "what": "torchvision",
        "found": "installed; anymc3d does not use it, and a build for another torch breaks other packages' imports",
        "ok": True,
    }


def _backbones() -> dict[str, Any]:
    from anymc3d.models.store import stored_records

    names = [record.name for record in stored_records()]
    what = "backbones in the store"
    if names:
        return {"what": what, "found": ", ".join(names), "ok": True}
    hint = "none yet, and nothing is trained without one: 'anymc3d backbone get dinov2-small', or import PATH"
    return {"what": what, "found": hint, "ok": True, "state": "to do"}


def _home() -> dict[str, Any]:
    folder = home_folder()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free // 2**30
    writable = os.access(existing, os.W_OK)
    advice = "" if writable else "; not writable: set ANYMC3D_HOME to a folder that is"
    return {"what": "home folder", "found": f"{folder} ({free} GiB free){advice}", "ok": writable}
