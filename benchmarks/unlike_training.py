"""How well ``ood_score`` tells what is unlike the training scans, on real scans with planted faults and foreign scans.

    python benchmarks/unlike_training.py OUT.json --hippocampus DIR --adrenal NPZ --ixi DIR --totalsegmentator DIR
    python benchmarks/unlike_training.py OUT.json --table
    python benchmarks/unlike_training.py - --hippocampus DIR --ixi DIR --totalsegmentator DIR --only hippo --splits 40

The folders are those that SOURCE texts name: hippocampus crops of the Medical Segmentation Decathlon (``images``,
``labels``), AdrenalMNIST3D at 64, ten IXI heads with label maps (``nifti``, ``dlmuse``), TotalSegmentator's reference
scans. A task is planned as ``anymc3d plan`` plans it, the training cases are measured and the statistics fitted by the
functions that ``train`` calls, and held-out cases are scored by those of ``predict``; no network takes part in either.
False alarms are of held-out cases as they are; a fault is planted in these same cases; foreign scans are as they are.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from anymc3d.cli.main import main as command
from anymc3d.data.case_scans import PreparedCase
from anymc3d.data.intensity import guess_modality, mismatch, profile, summarise
from anymc3d.data.ood_measures import Measures, measure_case
from anymc3d.data.preprocess import prepare_view
from anymc3d.data.readers import read_volume
from anymc3d.data.scan import scan_facts
from anymc3d.data.volume import Volume, resize, to_ras
from anymc3d.demo.dataset import make_dataset
from anymc3d.errors import ScanError
from anymc3d.evaluate.ood import ScanStatistics, fit_statistics, score
from anymc3d.files import atomic
from anymc3d.files.tables import read_table
from anymc3d.settings.task_file import read_task
from anymc3d.settings.views import ViewSettings
from anymc3d.train.study import load_study

Scans = list[Volume]
SEED = 0


@dataclass(frozen=True)
class Bench:
    """One data set: its view, scans to learn from, held-out ones, and scans of other kinds by name."""

    view: ViewSettings
    train: Scans
    held_out: Scans
    foreign: Mapping[str, Scans]
    asked: tuple[str, ...]
    """The faults that are planted in the held-out scans."""


def of(voxels: np.ndarray, affine: np.ndarray) -> Volume:
    return Volume(np.ascontiguousarray(voxels, dtype=np.float32), np.asarray(affine, dtype=np.float64))


def flipped(*axes: int) -> Callable[[Volume, np.random.Generator], Volume]:
    def plant(scan: Volume, rng: np.random.Generator) -> Volume:
        ras = to_ras(scan)
        return of(np.flip(ras.voxels, axes), ras.affine)

    return plant


def noise(scan: Volume, rng: np.random.Generator) -> Volume:
    return of(rng.normal(scan.voxels.mean(), scan.voxels.std() + 1e-3, scan.shape), scan.affine)


def noisy(scan: Volume, rng: np.random.Generator) -> Volume:
    return of(scan.voxels + rng.normal(0, 0.5 * scan.voxels.std(), scan.shape), scan.affine)


def label_map(scan: Volume, rng: np.random.Generator) -> Volume:
    return of(np.digitize(scan.voxels, np.quantile(scan.voxels, [0.2, 0.4, 0.6, 0.8, 0.95])), scan.affine)


def organ_labels(scan: Volume, rng: np.random.Generator) -> Volume:
    """Of a mask: three labels in place of one, in thirds along the last axis."""
    thirds = 1 + np.arange(scan.shape[2]) * 3 // scan.shape[2]
    return of((scan.voxels > 127) * thirds, scan.affine)


def inverted(scan: Volume, rng: np.random.Generator) -> Volume:
    return of(np.percentile(scan.voxels, 99.5) - scan.voxels, scan.affine)


def spread_out(scan: Volume, rng: np.random.Generator) -> Volume:
    affine = scan.affine.copy()
    affine[:3, :3] *= 4
    return of(scan.voxels, affine)


def coarse(scan: Volume, rng: np.random.Generator) -> Volume:
    x, y, z = (max(2, length // 4) for length in scan.shape)
    return resize(scan, (x, y, z))


FAULTS: Mapping[str, Callable[[Volume, np.random.Generator], Volume]] = {
    "noise": noise,
    "noise added (half the SD)": noisy,
    "label map (6 levels)": label_map,
    "label map (3 organs)": organ_labels,
    "upside down (S)": flipped(2),
    "upside down (turned about R)": flipped(1, 2),
    "front to back": flipped(1),
    "left to right": flipped(0),
    "contrast inverted": inverted,
    "4 x spacing in the header": spread_out,
    "4 x spacing, same extent": coarse,
}
OF_SCANS = tuple(name for name in FAULTS if name != "label map (3 organs)")
OF_MASKS = tuple(name for name in FAULTS if name != "label map (6 levels)")


def crops(source: Volume, shape: Sequence[int], spacing: float, count: int, rng: np.random.Generator) -> Scans:
    """Random places of another scan in voxels of ``spacing`` mm, none of them empty."""
    ras = to_ras(source)
    voxels = ndimage.zoom(ras.voxels, [step / spacing for step in ras.spacing], order=1)
    size = [min(pair) for pair in zip(shape, voxels.shape, strict=True)]
    found: Scans = []
    while len(found) < count:
        first = [int(rng.integers(0, have - want + 1)) for have, want in zip(voxels.shape, size, strict=True)]
        piece = voxels[tuple(slice(a, a + b) for a, b in zip(first, size, strict=True))]
        if piece.std() > 0.3 * voxels.std():
            found.append(of(piece, np.diag([spacing, spacing, spacing, 1.0])))
    return found


def hippocampus(args: argparse.Namespace, folder: Path) -> Bench:
    images = sorted((args.hippocampus / "images").glob("*.nii.gz"))
    rows = [f"{path.name.removesuffix('.nii.gz')},{path},{i % 2}" for i, path in enumerate(images)]
    (folder / "cases.csv").write_text("\n".join(["case,image,label", *rows]) + "\n")
    view, splits = planned(folder / "cases.csv", "label")
    scans = [read_volume(str(path)) for path in images]
    rng = np.random.default_rng(SEED)
    shape = (35, 51, 36)
    whole = [read_volume(str(path)) for path in sorted((args.ixi / "nifti").glob("*.nii.gz"))]
    of_heads = [crop for head in whole for crop in crops(head, shape, 1.0, 4, rng)]
    ct, mr = (read_volume(str(args.totalsegmentator / f"example_{name}.nii.gz")) for name in ("ct", "mr_sm"))
    held_out = [scan for scan, split in zip(scans, splits, strict=True) if split == "test"]
    drawn = [p for p, split in zip(images, splits, strict=True) if split == "test"]
    foreign = {
        "other modality: CT crops": crops(ct, shape, 1.0, 40, rng),
        "other body part: crops of the head (T1, 2 mm)": of_heads,
        "other body part: whole heads": whole,
        "other body part: abdominal MR crops": crops(mr, shape, 1.0, 40, rng),
        "label map: the masks": [read_volume(str(args.hippocampus / "labels" / path.name)) for path in drawn],
    }
    train = [scan for scan, split in zip(scans, splits, strict=True) if split == "train"]
    return Bench(view, train, held_out, foreign, OF_SCANS)


def adrenal(args: argparse.Namespace, folder: Path) -> Bench:
    task = folder / "task.yaml"
    command(["plan", str(args.adrenal), "--labels", "label", "-o", str(task), "--quiet"])
    view = read_task(task).views["image"]
    with np.load(args.adrenal) as archive:
        train = [of(voxels, np.eye(4)) for voxels in archive["train_images"][:: args.every]]
        held_out = [of(voxels, np.eye(4)) for voxels in archive["test_images"][:: args.every]]
    rng = np.random.default_rng(SEED)
    ct = read_volume(str(args.totalsegmentator / "example_ct.nii.gz"))
    maps = [*sorted((args.ixi / "dlmuse").glob("*.nii.gz"))[:2], args.totalsegmentator / "example_seg.nii.gz"]
    foreign = {
        "other modality: CT crops": crops(ct, (64, 64, 64), 1.5, 30, rng),
        "other body part: masks of other organs": [mask for path in maps for mask in organ_masks(path)],
    }
    return Bench(view, train, held_out, foreign, OF_MASKS)


def organ_masks(path: Path) -> Iterator[Volume]:
    """Every structure of a label map as a mask of 64 x 64 x 64 that it fills, as an adrenal gland fills its own."""
    labels = to_ras(read_volume(str(path))).voxels.astype(np.int32)
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None or (labels[box] == number).sum() < 100:
            continue
        piece = (labels[box] == number).astype(np.float32)
        side = max(piece.shape) + 4
        around = [((side - length) // 2, side - length - (side - length) // 2) for length in piece.shape]
        yield of(np.round(255 * ndimage.zoom(np.pad(piece, around), 64 / side, order=1)), np.eye(4))


def heads(args: argparse.Namespace, folder: Path) -> Bench:
    """The scans that ``anymc3d demo`` makes: heads from one template, each of another shape, of three scanners."""
    make_dataset(folder, num_train=60, num_val=2, num_test=40, seed=SEED)
    view, splits = planned(folder / "manifest.csv", "ring")
    scans = [read_volume(row["image"]) for row in read_manifest(folder / "manifest.csv")]
    rng = np.random.default_rng(SEED)
    ct, mr = (read_volume(str(args.totalsegmentator / f"example_{name}.nii.gz")) for name in ("ct", "mr_sm"))
    like = to_ras(scans[0])
    foreign = {
        "other modality: CT crops": crops(ct, like.shape, like.spacing[0], 30, rng),
        "other body part: abdominal MR crops": crops(mr, like.shape, like.spacing[0], 30, rng),
        "other site: real heads (IXI)": [read_volume(str(p)) for p in sorted((args.ixi / "nifti").glob("*.nii.gz"))],
    }
    by_split = {name: [scan for scan, own in zip(scans, splits, strict=True) if own == name] for name in set(splits)}
    return Bench(view, by_split["train"], by_split["test"], foreign, OF_SCANS)


def read_manifest(path: Path) -> list[dict[str, str]]:
    return [row | {"image": str(path.parent / row["image"])} for row in read_table(path)]


def planned(manifest: Path, label: str) -> tuple[ViewSettings, list[str]]:
    """The view that ``anymc3d plan`` writes, and the split of every case."""
    task = manifest.parent / "task.yaml"
    command(["plan", str(manifest), "--labels", label, "-o", str(task), "--quiet"])
    settings = read_task(task)
    return settings.views["image"], list(load_study(settings).splits)


BENCHES: Mapping[str, Callable[[argparse.Namespace, Path], Bench]] = {
    "hippocampus crops (T1 MR)": hippocampus,
    "adrenal glands (masks of CT)": adrenal,
    "heads of the demo (made from one T1 template)": heads,
}


def measured(scan: Volume, view: ViewSettings) -> Measures | None:
    """None of a scan that is an error row, because nothing is left to see."""
    try:
        return measure_case(PreparedCase({"image": prepare_view(scan, view)}, {"image": scan_facts(scan)}, {}))
    except ScanError:
        return None


def scored(statistics: ScanStatistics, cases: Sequence[Measures | None]) -> np.ndarray:
    """An error row is no answer, as an alarm is none."""
    return np.array([np.inf if case is None else score(statistics.distances(case)) for case in cases])


def run(bench: Bench, sizes: Sequence[int]) -> Iterator[dict[str, object]]:
    """Rows: false alarms, and of every fault and foreign kind AUROC and alarms, by number of training cases."""
    began = time.process_time()
    train = [measured(scan, bench.view) for scan in bench.train]
    own = [measured(scan, bench.view) for scan in bench.held_out]
    milliseconds = 1000 * (time.process_time() - began) / (len(train) + len(own))
    rng = np.random.default_rng(SEED)
    asked = {f: [measured(FAULTS[f](scan, rng), bench.view) for scan in bench.held_out] for f in bench.asked}
    asked |= {name: [measured(scan, bench.view) for scan in scans] for name, scans in bench.foreign.items()}
    for size in [size for size in sizes if size < len(train)] + [len(train)]:
        chosen = np.random.default_rng(SEED).permutation(len(train))[:size]
        statistics = fit_statistics([train[i] for i in chosen], [str(i) for i in chosen])
        if statistics is None:
            raise SystemExit(f"expected statistics of {size} cases")
        inside = scored(statistics, own)
        common = {"training": size, "held_out": len(inside), "milliseconds": round(milliseconds, 1)}
        yield common | {
            "kind": "as they are",
            "cases": len(inside),
            "auroc": None,
            "alarms": float((inside > 1).mean()),
        }
        for name, cases in asked.items():
            outside = scored(statistics, cases)
            truth = np.repeat([0, 1], [len(inside), len(outside)])
            auroc = float(roc_auc_score(truth, np.minimum(np.concatenate([inside, outside]), 1e9)))
            yield common | {"kind": name, "cases": len(cases), "auroc": auroc, "alarms": float((outside > 1).mean())}


def false_alarms(bench: Bench, sizes: Sequence[int], splits: int, held_out: int = 78) -> Iterator[str]:
    """Of random splits of all scans: the share of held-out scans with an alarm of ``ood_score``, of intensities on
    another level (:func:`anymc3d.data.intensity.mismatch`), and of either."""
    scans = [*bench.train, *bench.held_out]
    measures, profiles = [measured(scan, bench.view) for scan in scans], [profile(scan) for scan in scans]
    modality = guess_modality(profiles[0]).modality
    for size in sizes:
        rates = []
        for number in range(splits):
            order = np.random.default_rng([SEED, number]).permutation(len(scans))
            train, rest = order[:size], order[size : size + held_out]
            statistics = fit_statistics([measures[i] for i in train], [str(i) for i in train])
            if statistics is None:
                raise SystemExit(f"expected statistics of {size} cases")
            far = scored(statistics, [measures[i] for i in rest]) > 1
            summary = summarise([profiles[i] for i in train])
            level = np.array([mismatch(profiles[i], summary, modality) is not None for i in rest])
            rates.append([far.mean(), level.mean(), (far | level).mean()])
        own, level, either = 100 * np.mean(rates, axis=0)
        yield f"{size} training scans: ood_score {own:.2f} %, intensities {level:.2f} %, either {either:.2f} %"


def table(rows: Sequence[Mapping[str, object]]) -> Iterator[str]:
    """The results as Markdown: AUROC and share of alarms by number of training cases."""
    for name in dict.fromkeys(row["set"] for row in rows):
        own = [row for row in rows if row["set"] == name]
        sizes = list(dict.fromkeys(row["training"] for row in own))
        yield f"\n**{name}**, {own[0]['held_out']} held-out scans\n"
        yield f"| scans | n | {' | '.join(f'{size} training scans' for size in sizes)} |"
        yield f"|---|---|{'---|' * len(sizes)}"
        for kind in dict.fromkeys(row["kind"] for row in own):
            found = [row for row in own if row["kind"] == kind]
            cells = [
                f"{row['alarms']:.0%} alarms" + ("" if row["auroc"] is None else f", AUROC {row['auroc']:.3f}")
                for row in found
            ]
            yield f"| {kind} | {found[0]['cases']} | {' | '.join(cells)} |"


def main() -> None:
    """Measure, or print the table of what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    for name in ("hippocampus", "adrenal", "ixi", "totalsegmentator"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--sizes", type=int, nargs="*", default=[20, 50], help="training cases, besides all of them")
    parser.add_argument("--every", type=int, default=1, help="take each so many-th case of AdrenalMNIST3D")
    parser.add_argument("--only", default="", help="data sets whose name has this in it")
    parser.add_argument("--splits", type=int, default=0, help="only false alarms, over so many random splits")
    parser.add_argument("--table", action="store_true", help="print the table of what is there")
    args = parser.parse_args()
    if args.splits:
        for name, make in BENCHES.items():
            if args.only in name:
                with tempfile.TemporaryDirectory() as folder:
                    print(name, *false_alarms(make(args, Path(folder)), args.sizes, args.splits), sep="\n")
        return
    rows = json.loads(args.out.read_text()) if args.out.exists() else []
    if not args.table:
        for name, make in BENCHES.items():
            if args.only in name:
                with tempfile.TemporaryDirectory() as folder:
                    found = [{"set": name} | row for row in run(make(args, Path(folder)), args.sizes)]
                rows = [row for row in rows if row["set"] != name] + found
                atomic.write_json(args.out, rows)
    print("\n".join(table(rows)))


if __name__ == "__main__":
    main()
