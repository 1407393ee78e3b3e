"""One, four and twelve tasks on one scan, by how many blocks they adapt; peak memory; few slices in one call.

    OMP_NUM_THREADS=1 python benchmarks/many_tasks.py

CPU seconds of one thread, from file to answers; the rows take turns, medians of the rounds. The backbone is a random
ViT-S/14 and no plugin was trained: the times do not depend on it. Writes ``benchmarks/many_tasks.md`` and keeps the
remarks at its end, which were written by hand.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from anymc3d.data.preprocess import CODE_VERSION
from anymc3d.models import shared_trunk as trunk
from anymc3d.models import vit
from anymc3d.models.backbones import card
from anymc3d.models.classifier import Encoding, VolumeClassifier, to_backbone_input
from anymc3d.models.mixed_batch import mixed_tokens
from anymc3d.models.shared_trunk import Tail
from anymc3d.models.store import LoadedBackbone, find_backbone
from anymc3d.models.vit import random_vit
from anymc3d.plugins import Plugin, load_plugin, save_plugin
from anymc3d.plugins.card import BackboneRecord, PluginCard
from anymc3d.predict.predictor import Predictor
from anymc3d.settings.config import LabelSettings
from anymc3d.settings.training import MethodSettings
from anymc3d.settings.views import ViewSettings

TASKS = (1, 4, 12)
BLOCKS = (None, 6, 3, 2, 1)
SIZE, SLICES = 224, 12
MEMORY_SIZE, MEMORY_SLICES = 98, (100, 300, 1000)
FEW = ((98, 1), (98, 2), (98, 4), (98, 8), (98, 16), (98, 32), (224, 1), (224, 2), (224, 4))
"""Pixels along each side, and slices."""
DTYPES = (torch.float32, torch.bfloat16)
REPORT_PATH = Path(__file__).with_suffix(".md")
REMARKS = "## Remarks"


def make_backbone(folder: Path, network: str = "dinov2-small") -> LoadedBackbone:
    """A random ViT of a card's shape in a file, so that predictors find it."""
    path = folder / "vit.safetensors"
    if not path.exists():
        tensors = random_vit(card(network).config).state_dict()
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    return find_backbone(str(path))


def make_plugin(folder: Path, backbone: LoadedBackbone, blocks: int | None, number: int, size: int) -> Plugin:
    """A plugin whose every tensor is as after training."""
    name = f"{'whole' if blocks is None else f'last{blocks}'}-{number}"
    path = folder / f"{name}-{size}.safetensors"
    if not path.exists():
        record = BackboneRecord(
            name="random ViT",
            fingerprint=backbone.fingerprint,
            positions="official",
            embed_dim=backbone.module.embed_dim,
            patch_size=backbone.module.patch_size,
            mean=backbone.card.mean,
            std=backbone.card.std,
            licence="none",
        )
        plugin_card = PluginCard(
            name=name,
            labels=LabelSettings(columns=("y",), kind="binary", classes=("0", "1")),
            modality="other",
            preprocessing={"image": ViewSettings(size=(size, size, None), plane="axial")},
            backbone=record,
            method=MethodSettings(blocks=blocks),
            fusion="query",
            code_version=CODE_VERSION,
        )
        save_plugin(path, plugin_card, made_classifier(backbone.module, blocks, number).tensors())
    return load_plugin(path)


def made_classifier(backbone: nn.Module, blocks: int | None, number: int) -> VolumeClassifier:
    classifier = VolumeClassifier(backbone, views=["image"], num_logits=2, blocks=blocks, seed=number)
    generator = torch.Generator().manual_seed(number)
    with torch.no_grad():
        for parameter in classifier.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    return classifier


def make_scan(folder: Path, size: int, slices: int) -> Path:
    path = folder / f"scan{size}x{slices}.nii"
    if not path.exists():
        voxels = np.random.default_rng(0).normal(size=(size, size, slices)).astype(np.float32)
        nib.save(nib.Nifti1Image(voxels, np.diag([1.0, 1.0, 3.0, 1.0])), path)
    return path


def predictor_of(
    folder: Path, blocks: int | None, tasks: int, size: int, *, network: str = "dinov2-small", **options: str
) -> Predictor:
    """Random plugins on a random backbone; ``options`` of the predictor: device (the processor), precision."""
    backbone = make_backbone(folder, network)
    plugins = [make_plugin(folder, backbone, blocks, number, size) for number in range(tasks)]
    return Predictor(plugins, backbone=str(folder / "vit.safetensors"), **{"device": "cpu"} | options)


def name_of(blocks: int | None) -> str:
    return "all blocks and the patch embedding" if blocks is None else f"last {blocks}"


def tasks_table(folder: Path, rounds: int, shown: Sequence[int | None] = BLOCKS) -> Iterator[str]:
    """CPU seconds of a scan, by blocks and number of tasks."""
    scan = make_scan(folder, SIZE, SLICES)
    rows = {(blocks, tasks): predictor_of(folder, blocks, tasks, SIZE) for blocks in shown for tasks in TASKS}
    spent: dict[tuple[int | None, int], list[float]] = {row: [] for row in rows}
    alone = check_same(rows, scan)
    for _ in range(rounds):
        for row, predictor in rows.items():
            started = time.process_time()
            predictor.predict(scan)
            spent[row].append(time.process_time() - started)
    yield f"## {SLICES} slices of {SIZE} x {SIZE}, float32"
    yield ""
    heads = [f"{n} tasks, s" if n > 1 else "1 task, s" for n in TASKS]
    yield f"| blocks adapted | {' | '.join(heads)} | 12 / 1 | 12 of the paper's / these 12 |"
    yield "|---|" + "---|" * (len(TASKS) + 2)
    for blocks in shown:
        cells = [f"{statistics.median(spent[blocks, tasks]):.2f}" for tasks in TASKS]
        times = statistics.median(many / one for many, one in zip(spent[blocks, 12], spent[blocks, 1], strict=True))
        gain = statistics.median(a / b for a, b in zip(spent[None, 12], spent[blocks, 12], strict=True))
        yield f"| {name_of(blocks)} | {' | '.join(cells)} | **{times:.2f}** | {gain:.1f} |"
    yield ""
    yield f"Twelve together answer as one alone: logits at most {alone:.0e} apart. Medians of {rounds} rounds."
    yield ""


def ways_table(folder: Path, rounds: int, shown: Sequence[int] = (3, 1)) -> Iterator[str]:
    """The last block for the class token as it is, and as it was: with keys and values, and without common products."""
    scan = make_scan(folder, SIZE, SLICES)
    rows = {(blocks, tasks): predictor_of(folder, blocks, tasks, SIZE) for blocks in shown for tasks in (1, 12)}
    found = {"as it was": (lambda projection: False, lambda *asked: None), "as it is": (vit.has_parts, trunk._common)}
    spent: dict[tuple[int, int, str], list[float]] = {}
    for turn in range(rounds + 1):
        for (blocks, tasks), predictor in rows.items():
            for way, (vit.has_parts, trunk._common) in found.items():
                started = time.process_time()
                predictor.predict(scan)
                if turn:
                    spent.setdefault((blocks, tasks, way), []).append(time.process_time() - started)
    yield f"## Twelve tasks against one, {SLICES} slices of {SIZE} x {SIZE}, float32"
    yield ""
    yield f"| blocks adapted | {' | '.join(found)} |"
    yield "|---|---|---|"
    for blocks in shown:
        pairs = [zip(spent[blocks, 12, way], spent[blocks, 1, way], strict=True) for way in found]
        cells = [f"{statistics.median(many / one for many, one in pair):.2f}" for pair in pairs]
        yield f"| {name_of(blocks)} | {' | '.join(cells)} |"
    yield ""


def check_same(rows: dict[tuple[int | None, int], Predictor], scan: Path) -> float:
    """The largest difference between logits together and alone."""
    most = 0.0
    for blocks in {blocks for blocks, _ in rows}:
        together = rows[blocks, 12].predict(scan)
        alone = rows[blocks, 1].predict(scan)
        most = max(most, abs(together[0].logits["y"] - alone.logits["y"]))
    if most > 1e-5:
        raise SystemExit(f"together and alone differ by {most}")
    return most


def peak_mb(folder: Path, blocks: int | None, tasks: int, slices: int) -> float:
    """Peak resident memory of a process that does nothing else."""
    command = [sys.executable, __file__, "--child", str(folder), str(blocks or 0), str(tasks), str(slices)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def memory_child(folder: Path, blocks: int, tasks: int, slices: int) -> None:
    scan = make_scan(folder, MEMORY_SIZE, slices)
    predictor_of(folder, blocks or None, tasks, MEMORY_SIZE).predict(scan)
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print(int(line.split()[1]) / 1024)


def memory_table(folder: Path) -> Iterator[str]:
    yield f"## Peak memory, slices of {MEMORY_SIZE} x {MEMORY_SIZE}"
    yield ""
    yield "MB of a process of its own, from start to answer. The scan is decoded to float32 and prepared to float16."
    yield ""
    yield "| | " + " | ".join(f"{number} slices" for number in MEMORY_SLICES) + " |"
    yield "|---|" + "---|" * len(MEMORY_SLICES)
    scan = [6 * MEMORY_SIZE**2 * slices / 2**20 for slices in MEMORY_SLICES]
    yield "| of which the scan, both forms | " + " | ".join(f"{size:.0f}" for size in scan) + " |"
    for blocks, tasks in ((None, 1), (2, 1), (2, 12)):
        cells = [f"{peak_mb(folder, blocks, tasks, slices):.0f}" for slices in MEMORY_SLICES]
        what = "1 task" if tasks == 1 else f"{tasks} tasks"
        yield f"| {what}, {name_of(blocks)} | {' | '.join(cells)} |"
    yield ""


def few_table(folder: Path, rounds: int, dtype: torch.dtype) -> Iterator[str]:
    """Twelve plugins that adapt everything: one after the other, or in one call."""
    backbone = make_backbone(folder)
    tails = [
        Tail(made_classifier(backbone.module, None, n), "image", backbone.module, backbone.trunk) for n in range(12)
    ]
    encoding = Encoding(mean=backbone.card.mean, std=backbone.card.std, dtype=dtype)
    loras = [tail.classifier.lora["image"] for tail in tails]
    kind = "float32" if dtype == torch.float32 else "bfloat16"
    yield f"## Few slices, twelve plugins that adapt everything, {kind}"
    yield ""
    yield "| pixels, slices | tokens of each | one by one, ms | in one call, ms | times faster | tokens apart |"
    yield "|---|---|---|---|---|---|"
    for size, number in FEW:
        slices = torch.rand(number, 1, size, size, generator=torch.Generator().manual_seed(0))
        images = to_backbone_input(slices, 14, encoding)
        ways = {
            "one by one": lambda x=images: [tail.class_tokens(x, encoding) for tail in tails],
            "in one call": lambda x=images: mixed_tokens(backbone.module, loras, x, encoding),
        }
        spent: dict[str, list[float]] = {way: [] for way in ways}
        found = {}
        with torch.inference_mode():
            for turn in range(rounds + 1):
                for way, run in ways.items():
                    started = time.process_time()
                    found[way] = run()
                    if turn:
                        spent[way].append(time.process_time() - started)
        apart = max(float((a - b).abs().max()) for a, b in zip(*found.values(), strict=True))
        cells = [f"{1e3 * statistics.median(times):.0f}" for times in spent.values()]
        gain = statistics.median(a / b for a, b in zip(*spent.values(), strict=True))
        tokens = number * (1 + (size // 14) ** 2)
        yield f"| {size}, {number} | {tokens} | {' | '.join(cells)} | {gain:.2f} | {apart:.0e} |"
    yield ""


def remarks() -> list[str]:
    """The end of the page as it stands, from the heading of the remarks on."""
    text = REPORT_PATH.read_text(encoding="utf-8") if REPORT_PATH.exists() else ""
    return (REMARKS + text.partition(REMARKS)[2]).splitlines() if REMARKS in text else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--part", choices=("tasks", "few", "memory", "ways"), help="one part, which is only printed")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.child:
        folder, *numbers = arguments.child
        memory_child(Path(folder), *map(int, numbers))
        return
    page = [
        "# Many tasks on one scan",
        "",
        "ViT-S/14 with random weights, plugins of rank 8. One thread, CPU seconds from file to answers, by turns.",
        f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}.",
        "",
        "    OMP_NUM_THREADS=1 python benchmarks/many_tasks.py",
        "",
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parts = {
            "tasks": lambda: tasks_table(folder, arguments.rounds),
            "few": lambda: chain(*(few_table(folder, 2 * arguments.rounds, dtype) for dtype in DTYPES)),
            "memory": lambda: memory_table(folder),
        }
        for part in [arguments.part] if arguments.part else parts:
            lines = list(parts[part]() if part in parts else ways_table(folder, arguments.rounds))
            print("\n".join(lines), flush=True)
            page += lines
    if arguments.part:
        return
    page += remarks()
    REPORT_PATH.write_text("\n".join(page) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
