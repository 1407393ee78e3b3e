"""``anymc3d plan MANIFEST.csv --labels COL[,COL…] -o task.yaml``."""

from __future__ import annotations

import argparse
from pathlib import Path

from anymc3d.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("manifest", type=Path, metavar="MANIFEST.csv", help="the table of cases, or a MedMNIST .npz")
    parser.add_argument("--labels", required=True, metavar="COL[,COL…]", help="the label column, or several of 0/1")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="task.yaml", help="the task file to write")
    parser.add_argument(
        "--backbone", default="dinov2-small", metavar="NAME", help="name, folder or file (default: dinov2-small)"
    )
    parser.add_argument("--name", help="of the task (default: the label column)")
    parser.add_argument("--image", metavar="COLUMN", help="the image column to use (default: all, one view each)")
    parser.add_argument("--views", metavar="PLANES", help="planes of one image, such as axial,coronal,sagittal")
    parser.add_argument("--seed", type=int, default=0, help="of the split, when the manifest has none (default: 0)")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing task file")
    parser.add_argument("--json", action="store_true", help="print settings and reasons as JSON")
    parser.add_argument("--quiet", action="store_true", help="no progress bar, no summary")


def run(args: argparse.Namespace) -> int:
    """Measure, write the task file, and say why.

    Raises:
        UsageError: the task file exists, or the arguments do not fit.
        ManifestError: every fault of the data set.
    """
    if args.out.exists() and not args.overwrite:
        raise UsageError(f"{args.out} exists; --overwrite replaces it, or choose another name with -o")
    from tqdm import tqdm

    from anymc3d.cli.main import print_json
    from anymc3d.plan import plan_task
    from anymc3d.task_file import is_path, task_to_dict, write_task

    with tqdm(
        desc="reading headers", unit="scan", disable=True if args.quiet or args.json else None, leave=False
    ) as bar:
        plan = plan_task(
            args.manifest,
            _names(args.labels),
            name=args.name,
            backbone_name=str(Path(args.backbone).absolute()) if is_path(args.backbone) else args.backbone,
            image_column=args.image,
            planes=_names(args.views or ""),
            seed=args.seed,
            progress=bar.update,
        )
    write_task(args.out, plan.settings, plan.reasons)
    if args.json:
        print_json({"task": str(args.out), "settings": task_to_dict(plan.settings), "reasons": dict(plan.reasons)})
    elif not args.quiet:
        print(args.out.read_text(encoding="utf-8"), end="")
        print(f"\nwritten to {args.out}; change what you know better, then: anymc3d train {args.out} -o RUN")
    return 0


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())
