"""``anymc3d doctor``: checks the installation."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import os
import platform
import shutil
from typing import Any

from anymc3d.home import home_folder
from anymc3d.version import __version__

PACKAGES = ("torch", "numpy", "nibabel", "safetensors", "PyYAML", "scikit-learn", "matplotlib", "tqdm")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Check and print; exit code 2 when something that training needs is missing."""
    from anymc3d.cli.main import print_json

    checks = check_installation()
    if args.json:
        print_json(checks)
    else:
        for check in checks:
            print(f"{'ok  ' if check['ok'] else 'FAIL'}  {check['what']}: {check['found']}")
    return 0 if all(check["ok"] for check in checks) else 2


def check_installation() -> list[dict[str, Any]]:
    """One entry per check: ``what``, ``found``, ``ok``."""
    found = [{"what": "anymc3d", "found": f"{__version__}, Python {platform.python_version()}", "ok": True}]
    for package in PACKAGES:
        try:
            found.append({"what": package, "found": importlib.metadata.version(package), "ok": True})
        except importlib.metadata.PackageNotFoundError:
            found.append({"what": package, "found": f"missing; pip install {package}", "ok": False})
    if all(check["ok"] for check in found):
        found += [_torch(), _stray_torchvision(), _backbones()]
    return [*found, _home()]


def _torch() -> dict[str, Any]:
    import torch

    from anymc3d.device import choose_dtype

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
    hint = "none yet; 'anymc3d backbone get NAME' or 'anymc3d backbone import PATH'"
    return {"what": "backbones in the store", "found": ", ".join(names) or hint, "ok": True}


def _home() -> dict[str, Any]:
    folder = home_folder()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free // 2**30
    writable = os.access(existing, os.W_OK)
    advice = "" if writable else "; not writable: set ANYMC3D_HOME to a folder that is"
    return {"what": "home folder", "found": f"{folder} ({free} GiB free){advice}", "ok": writable}
