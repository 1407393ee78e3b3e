"""How many planted wrong labels ``doctor --out-of-fold`` finds, and how many right ones it doubts.

    python benchmarks/label_noise.py OUT MANIFEST --labels LABEL [--share 0.05] [--seeds 3] [key=value ...]

For each seed a share of the 0/1 labels outside the test split is exchanged, ``train --quick`` gives out-of-fold
answers of the data set as it then is, and the doubts are compared with what was exchanged. Nobody knows how many labels
were wrong before: these count as right. Rows of ``OUT/results.json``; the same command goes on after a kill.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from anymc3d.cli.main import main as command
from anymc3d.data.manifest import read_manifest, write_manifest
from anymc3d.evaluate.label_noise import doubts
from anymc3d.files import atomic
from anymc3d.files.tables import read_table


def exchanged(args: argparse.Namespace, seed: int, folder: Path) -> tuple[Path, dict[str, int], set[str]]:
    """The manifest with wrong labels, the labels that it gives, and which are wrong."""
    manifest = read_manifest(args.manifest, labels=[args.labels])
    pool = [case for case in manifest.cases if case.split != "test"]
    rng = np.random.default_rng(seed)
    if args.cases and args.cases < len(pool):
        pool = [pool[i] for i in sorted(rng.permutation(len(pool))[: args.cases])]
    wrong = {pool[i].id for i in rng.permutation(len(pool))[: round(args.share * len(pool))]}
    given = {case.id: int(case.cells[args.labels]) ^ (case.id in wrong) for case in pool}
    path = folder / "cases.csv"
    write_manifest(path, manifest, {args.labels: [str(given[case.id]) for case in pool]}, cases=pool)
    return path, given, wrong


def one_seed(args: argparse.Namespace, seed: int) -> dict[str, object]:
    folder = args.out / f"seed_{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    path, given, wrong = exchanged(args, seed, folder)
    task, run = folder / "task.yaml", folder / "run"
    if not (run / "oof.csv").exists():
        code = command(["plan", str(path), "--labels", args.labels, "-o", str(task), "--quiet", "--overwrite"])
        code = code or command(["train", str(task), "-o", str(run), "--quick", "--quiet", *args.settings])
        if code:
            raise SystemExit(f"{folder}: exit code {code}")
    rows = read_table(run / "oof.csv")
    positive = np.array([float(row[f"probability.{args.labels}"]) for row in rows])
    labels = np.array([given[row["case"]] for row in rows])
    is_wrong = np.array([row["case"] in wrong for row in rows])
    found = doubts(labels, np.stack([1 - positive, positive], axis=1))
    if isinstance(found, str):
        raise SystemExit(found)
    doubted = np.zeros(len(rows), dtype=bool)
    doubted[found.cases] = True
    first = found.cases[: is_wrong.sum()]
    return {
        "seed": seed,
        "cases": len(rows),
        "exchanged": int(is_wrong.sum()),
        "auroc_true_labels": float(roc_auc_score(labels ^ is_wrong, positive)),
        "doubted": int(doubted.sum()),
        "found": float(doubted[is_wrong].mean()),
        "false_alarms": float(doubted[~is_wrong].mean()),
        "precision_of_first": float(is_wrong[first].mean()),
        "estimated_share": found.noise,
    }


def table(rows: list[Mapping[str, object]]) -> Iterator[str]:
    names = ("found", "false_alarms", "precision_of_first", "estimated_share", "auroc_true_labels")
    yield f"| seed | cases | exchanged | doubted | {' | '.join(name.replace('_', ' ') for name in names)} |"
    yield f"|{'---|' * (4 + len(names))}"
    for row in rows:
        plain = [str(row[name]) for name in ("seed", "cases", "exchanged", "doubted")]
        yield f"| {' | '.join([*plain, *(f'{row[name]:.3f}' for name in names)])} |"


def main() -> None:
    """Run the seeds that are missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--labels", required=True)
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cases", type=int, default=0, help="take so many cases of the pool (default: all)")
    parser.add_argument("settings", nargs="*", help="overrides of the task file")
    args = parser.parse_intermixed_args()
    results = args.out / "results.json"
    rows = json.loads(results.read_text()) if results.exists() else []
    for seed in range(args.seeds):
        if all(row["seed"] != seed for row in rows):
            rows.append(one_seed(args, seed))
            atomic.write_json(results, rows)
    print("\n".join(table(rows)))


if __name__ == "__main__":
    main()
