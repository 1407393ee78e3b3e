"""CPU seconds of a training epoch by how many blocks are adapted: the first, which computes the trunk, and later ones.

    OMP_NUM_THREADS=1 python benchmarks/last_blocks/epoch_seconds.py

One thread; the rows take turns, medians of the rounds. ViT-S/14 with random weights, 8 cases of 16 slices of 98 x 98,
batch of two, forward, backward and AdamW; the augmentation of the paper. Prints a table.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from anymc3d.data.array_store import ArrayStore
from anymc3d.models.backbones import card
from anymc3d.models.classifier import Encoding, VolumeClassifier
from anymc3d.models.store import LoadedBackbone, find_backbone
from anymc3d.models.vit import random_vit
from anymc3d.settings.views import ViewSettings
from anymc3d.train.batch import BatchLoader
from anymc3d.train.draws import batches, visits
from anymc3d.train.trunk_tokens import TrunkPass

BLOCKS = (None, 12, 6, 3, 2, 1)
CASES, SLICES, SIZE = 8, 16, 98
VIEWS = {"image": ViewSettings(size=(SIZE, SIZE, SLICES))}


class RandomSlices:
    """Cases of random slices."""

    def load(self, index: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(index)
        return {"image": rng.random((SLICES, 1, SIZE, SIZE)).astype(np.float16)}


class Run:
    """A training with one copy of each case, so that every later epoch reads what the first one computed."""

    def __init__(self, backbone: LoadedBackbone, blocks: int | None, dtype: torch.dtype, folder: Path) -> None:
        self.backbone = backbone.module
        self.classifier = VolumeClassifier(self.backbone, views=["image"], num_logits=2, blocks=blocks)
        self.encoding = Encoding(mean=backbone.card.mean, std=backbone.card.std, dtype=dtype)
        self.optimizer = torch.optim.AdamW(self.classifier.parameters(), lr=1e-4)
        self.folder, self.trunk = folder, None
        if blocks is not None:
            store = ArrayStore(folder, limit_bytes=10**10, what="trunk tokens", setting="")
            options = {"views": VIEWS, "augmentation": "paper", "copies": 1, "seed": 0, "store": store}
            self.trunk = TrunkPass(self.classifier, backbone, self.encoding, **options)
        self.loader = BatchLoader(
            RandomSlices(), VIEWS, device=torch.device("cpu"), augmentation="paper", trunk=self.trunk
        )

    def forget(self) -> None:
        """So that the next epoch computes the trunk."""
        for path in self.folder.glob("*.safetensors"):
            path.unlink()

    def epoch(self, number: int) -> float:
        """CPU seconds."""
        started = time.process_time()
        for _, batch in self.loader.steps(batches(visits(range(CASES)), 2), number):
            self.optimizer.zero_grad(set_to_none=True)
            logits = self.classifier(self.backbone, batch, self.encoding).logits
            torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1])).backward()
            self.optimizer.step()
        return time.process_time() - started


def table(folder: Path, rounds: int, dtype: torch.dtype) -> list[str]:
    tensors = random_vit(card("dinov2-small").config).state_dict()
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "v.safetensors")
    backbone = find_backbone(str(folder / "v.safetensors"))
    runs = {blocks: Run(backbone, blocks, dtype, folder / f"{dtype}-{blocks}") for blocks in BLOCKS}
    first: dict[int | None, list[float]] = {blocks: [] for blocks in BLOCKS}
    later: dict[int | None, list[float]] = {blocks: [] for blocks in BLOCKS}
    for number in range(rounds):
        for blocks, run in runs.items():
            run.forget()
            first[blocks].append(run.epoch(number))
            later[blocks].append(run.epoch(number + rounds))
    lines = ["| blocks adapted | first epoch, s | later epochs, s | times faster than the whole |", "|---|---|---|---|"]
    for blocks in BLOCKS:
        name = "all and the patch embedding" if blocks is None else f"last {blocks}"
        gain = statistics.median(a / b for a, b in zip(later[None], later[blocks], strict=True))
        spent = [f"{statistics.median(times[blocks]):.2f}" for times in (first, later)]
        lines.append(f"| {name} | {' | '.join(spent)} | {gain:.1f} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}")
    for dtype in (torch.float32, torch.bfloat16):
        with tempfile.TemporaryDirectory() as name:
            print(dtype, *table(Path(name), arguments.rounds, dtype), sep="\n", flush=True)


if __name__ == "__main__":
    main()
