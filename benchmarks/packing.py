"""Token packing: patches that hold air are left out before the first block. How many there are, and what it brings.

Three questions, each measured without building it in: what share of the patches of real scans holds air; how much
faster the network is with that share of its tokens; and how far the class tokens and the logits of a frozen probe move.
A patch is air where none of its pixels is above a threshold of the view's range (0 to 1). The class token, its position
and the positions of the patches that stay are untouched. CPU seconds of one thread, by turns, medians. Needs the
weights in ``../shared/models/dinov2-small-fp16``, else random ones:

    python benchmarks/packing.py --adrenal NPZ --hippocampus DIR --ixi DIR --ct FILE

writes ``benchmarks/packing.md`` and keeps the remarks at its end, which were written by hand.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from speed_contestants import Work, encoding, our_backbone
from torch import Tensor

from anymc3d.data.preprocess import prepare_view
from anymc3d.data.readers import read_volume
from anymc3d.data.volume import Volume
from anymc3d.evaluate.metrics import auroc
from anymc3d.models.classifier import run_backbone, to_backbone_input
from anymc3d.models.seam import TrunkTokens
from anymc3d.models.vit import VisionTransformer
from anymc3d.settings.views import ViewSettings

PATCH, CHUNK, ROUNDS = 14, 16, 5
THRESHOLDS = (0.0, 0.02, 0.05, 0.1)
SHARES = (1.0, 0.75, 0.5, 0.25)
"""Of the patches that stay, for the speed."""
MOVED_AT = 0.05
PROBE_CASES = 240
WHOLE = {"size": (224, 224, 16), "plane": "axial"}
SMALL = {"size": (98, 98, 16), "plane": "axial"}
PAGE = Path(__file__).with_suffix(".md")
REMARKS = "## Remarks"


@dataclass(frozen=True)
class Set:
    """Prepared slices (S, 1, H, W) of some scans, one after the other, ``slices_each`` of every scan."""

    name: str
    slices: Tensor
    slices_each: int


def prepared(volume: Volume, view: ViewSettings) -> Tensor:
    return torch.from_numpy(np.asarray(prepare_view(volume, view).slices, dtype=np.float32))


def sets(args: argparse.Namespace) -> Iterator[Set]:
    with np.load(args.adrenal) as archive:
        masks = [Volume(voxels=v.astype(np.float32), affine=np.eye(4)) for v in archive["train_images"][:40]]
    small, whole = ViewSettings(**SMALL), ViewSettings(**WHOLE)
    window = ViewSettings(**WHOLE, normalise="window", windows=((-160.0, 240.0),))
    hippocampi = [read_volume(str(path)) for path in sorted((args.hippocampus / "images").glob("*.nii.gz"))[:40]]
    heads = [read_volume(str(path)) for path in sorted((args.ixi / "nifti").glob("*.nii.gz"))]
    for name, scans, view in (
        ("adrenal glands, masks of CT (AdrenalMNIST3D), 98 px", masks, small),
        ("hippocampus crops, T1 MR, 98 px", hippocampi, small),
        ("whole heads, T1 MR (IXI), 224 px", heads, whole),
        ("abdomen, CT in a soft tissue window, 224 px", [read_volume(str(args.ct))], window),
    ):
        slices = torch.cat([prepared(scan, view) for scan in scans])
        yield Set(f"{name}; {len(scans)} scans", slices, len(slices) // len(scans))


def brightest(slices: Tensor) -> Tensor:
    """(S, 1, H, W) -> (S, N), the largest pixel of each patch, rows first."""
    return F.max_pool2d(slices, PATCH).flatten(1)


def class_tokens(network: VisionTransformer, slices: Tensor, stays: Tensor) -> Tensor:
    """(S, D): of every slice with the patches that ``stays`` (S, N) names; slices of one number of patches together."""
    settings = encoding(torch.float32, CHUNK)
    found = torch.zeros(len(slices), network.embed_dim)
    counts = stays.sum(1)
    for count in counts.unique().tolist():
        for rows in torch.nonzero(counts == count).flatten().split(64):
            start = network(to_backbone_input(slices[rows], PATCH, settings), stop=0)
            kept = torch.nonzero(stays[rows])[:, 1].reshape(len(rows), count) + 1
            index = torch.cat([torch.zeros(len(rows), 1, dtype=torch.long), kept], dim=1)
            tokens = start.tokens.gather(1, index.unsqueeze(-1).expand(-1, -1, network.embed_dim))
            found[rows] = network(TrunkTokens(tokens, 0, start.grid), class_token_only=True).tokens[:, 0]
    return found


def shares_table(all_sets: list[Set], network: VisionTransformer) -> Iterator[str]:
    yield "## How much air there is, and what leaving it out changes"
    yield ""
    heads = [f"air at {t:g}" for t in THRESHOLDS]
    yield f"| scans | {' | '.join(heads)} | tokens that stay, in calls of {CHUNK} | class tokens moved: median, worst |"
    yield "|---|" + "---|" * (len(THRESHOLDS) + 2)
    for one in all_sets:
        top = brightest(one.slices)
        cells = [f"{100 * float((top <= t).float().mean()):.0f} %" for t in THRESHOLDS]
        stays = top > MOVED_AT
        counts = stays.sum(1).sort().values
        padded = sum(int(part.max()) * len(part) for part in counts.split(CHUNK)) / stays.numel()
        some = torch.linspace(0, len(one.slices) - 1, min(64, len(one.slices))).long()
        exact = class_tokens(network, one.slices[some], torch.ones_like(stays[some]))
        moved = (class_tokens(network, one.slices[some], stays[some]) - exact).norm(dim=1) / exact.norm(dim=1)
        cells += [f"{100 * padded:.0f} %", f"{100 * float(moved.median()):.0f} %, {100 * float(moved.max()):.0f} %"]
        yield f"| {one.name} | {' | '.join(cells)} |"
    yield ""
    yield f"The two columns on the right are at a threshold of {MOVED_AT:g}: slices sorted by what stays, each call"
    yield "padded to its fullest slice; distance from the class token with all patches, relative to its norm."
    yield ""


def speed_table(network: VisionTransformer) -> Iterator[str]:
    yield "## How much faster with fewer tokens"
    yield ""
    yield "| pixels, format | " + " | ".join(f"{100 * share:.0f} % stay" for share in SHARES) + " |"
    yield "|---|" + "---|" * len(SHARES)
    for work in (Work(98, 24, 1), Work(224, 8, 1)):
        for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
            settings = encoding(dtype, 64)
            weights = network.matrices(dtype) if dtype == torch.bfloat16 else {}
            start = network(to_backbone_input(work.slices(torch.device("cpu")), PATCH, settings), stop=0)
            spent: dict[float, list[float]] = {share: [] for share in SHARES}
            for number in range(ROUNDS + 1):
                for share in SHARES:
                    tokens = start.tokens[:, : 1 + round(share * (start.tokens.shape[1] - 1))].contiguous()
                    begun = time.process_time()
                    run_backbone(network, weights, TrunkTokens(tokens, 0, start.grid), settings, class_token_only=True)
                    if number:
                        spent[share].append(time.process_time() - begun)
            gains = [
                statistics.median(a / b for a, b in zip(spent[1.0], spent[share], strict=True)) for share in SHARES
            ]
            yield f"| {work.size}, {name} | " + " | ".join(f"{gain:.2f} x" for gain in gains) + " |"
    yield ""


def probe_table(network: VisionTransformer, adrenal: Path) -> Iterator[str]:
    """FittedClassifier and looked at on training cases alone."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    number, size, each = 2 * PROBE_CASES, 70, 6
    with np.load(adrenal) as archive:
        scans = torch.from_numpy(archive["train_images"][:number].astype(np.float32) / 255)
        labels = archive["train_labels"][:number].reshape(-1)
    slices = scans[:, torch.linspace(8, 55, each).round().long()].flatten(0, 1).unsqueeze(1)
    slices = F.interpolate(slices, size=(size, size), mode="bilinear", align_corners=False)
    stays = brightest(slices) > MOVED_AT
    features = {}
    for name, which in (("all", torch.ones_like(stays)), ("packed", stays)):
        tokens = torch.cat(
            [class_tokens(network, *part) for part in zip(slices.split(96), which.split(96), strict=True)]
        )
        features[name] = tokens.unflatten(0, (number, each)).mean(1).numpy()
    is_known = np.arange(number) < PROBE_CASES
    logits = {}
    for fitted, looked in (("all", "all"), ("all", "packed"), ("packed", "packed")):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000))
        model.fit(features[fitted][is_known], labels[is_known])
        logits[fitted, looked] = model.decision_function(features[looked][~is_known])
    exact = logits["all", "all"]
    yield "## A frozen probe on real scans"
    yield ""
    yield f"AdrenalMNIST3D, {PROBE_CASES} training cases to fit on, {PROBE_CASES} others of that split to look at, the"
    yield f"mean of {each} slices of {size} pixels; {100 * float(stays.float().mean()):.0f} % of the patches stay."
    yield "The test split was not opened."
    yield ""
    yield "| fitted with | looked at with | AUROC | largest change of a logit | logits' standard deviation |"
    yield "|---|---|---|---|---|"
    for (fitted, looked), values in logits.items():
        change, value = float(np.abs(values - exact).max()), float(auroc(labels[~is_known], values).value)
        yield f"| {fitted} | {looked} | {value:.3f} | {change:.2f} | {exact.std():.2f} |"
    yield ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("--adrenal", "--hippocampus", "--ixi", "--ct"):
        parser.add_argument(name, type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    network = our_backbone(None, torch.device("cpu"))
    page = [
        "# Patches of air left out",
        "",
        f"DINOv2 ViT-S/14, torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}; one thread, CPU time, "
        f"by turns, medians of {ROUNDS} rounds.",
        "",
        "    python benchmarks/packing.py --adrenal NPZ --hippocampus DIR --ixi DIR --ct FILE",
        "",
    ]
    with torch.no_grad():
        for part in (
            shares_table(list(sets(arguments)), network),
            speed_table(network),
            probe_table(network, arguments.adrenal),
        ):
            lines = list(part)
            print("\n".join(lines), flush=True)
            page += lines
    before = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    remarks = REMARKS + before.partition(REMARKS)[2] if REMARKS in before else f"{REMARKS}\n"
    PAGE.write_text("\n".join([*page, remarks]).rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
