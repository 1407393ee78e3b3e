"""What ``gpu.py`` measures: the table of its parts, each a generator of rows.

Weights are random and nothing is trained: times and memory do not depend on it. What cannot be measured here is a row
with its reason. Milliseconds are medians of wall time between synchronisations; on a processor they say nothing.
"""

from __future__ import annotations

import csv
import gc
import inspect
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from many_tasks import made_classifier, make_scan, predictor_of
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from anymc3d.cost.device import DTYPES
from anymc3d.cost.memory import forget_peak, peak_memory
from anymc3d.data.augmentation.augment import apply, draw, recipe
from anymc3d.data.manifest import read_manifest
from anymc3d.errors import AnyMC3DError
from anymc3d.models.backbones import card
from anymc3d.models.classifier import (
    Encoding,
    PackedSlices,
    compute_weights,
    run_backbone,
    to_backbone_input,
    trunk_of,
)
from anymc3d.models.vit import VisionTransformer, random_vit
from anymc3d.predict.cohort import predict_cohort

FAILURES = (RuntimeError, ValueError, TypeError, AttributeError, AssertionError, ImportError, OSError, AnyMC3DError)
"""What a measurement may end with and be a row: no memory, a kernel that is not there, a compiler that gives up."""

Row = dict[str, Any]
Program = Callable[[], object]


class NotHere(Exception):
    """Why something cannot be measured on this machine."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How large everything is."""

    networks: dict[str, str]
    """S, B, L -> name of the backbone whose shape it is."""
    pixels: int
    slices: int
    """Of the volume that is timed."""
    large: tuple[int, int]
    """Slices and pixels of the volume whose memory is measured; the paper's largest."""
    matmul: int
    rounds: int
    draws: int
    """Of the augmentation, whose volumes differ."""
    blocks: tuple[int | None, ...]
    tasks: tuple[int, ...]
    cases: int
    workers: tuple[int, ...]
    compiler: str


FULL = Scale(
    networks={"S": "dinov2-small", "B": "dinov2-base", "L": "dinov2-large"},
    pixels=224,
    slices=64,
    large=(240, 476),
    matmul=8192,
    rounds=10,
    draws=30,
    blocks=(None, 6, 3, 1),
    tasks=(1, 4, 12),
    cases=48,
    workers=(1, 2, 4, 8, 16),
    compiler="inductor",
)
MINIATURE = Scale(
    networks=dict.fromkeys("SBL", "tiny-random"),
    pixels=28,
    slices=2,
    large=(3, 42),
    matmul=16,
    rounds=1,
    draws=1,
    blocks=(None, 1),
    tasks=(1, 2),
    cases=2,
    workers=(1, 2),
    compiler="eager",
)


@dataclass(frozen=True)
class Bench:
    """Where, and how large."""

    scale: Scale
    device: torch.device

    @property
    def is_cuda(self) -> bool:
        return self.device.type == "cuda"

    def wait(self) -> None:
        if self.is_cuda:
            torch.cuda.synchronize(self.device)

    def milliseconds(self, program: Program, rounds: int | None = None) -> float:
        """Median of the rounds, after two that are not counted."""
        times = []
        for number in range((rounds or self.scale.rounds) + 2):
            self.wait()
            began = time.perf_counter()
            program()
            self.wait()
            if number > 1:
                times.append(1e3 * (time.perf_counter() - began))
        return statistics.median(times)

    def clear(self) -> None:
        """Give the card back what a measurement left, a failed one above all."""
        if self.is_cuda:
            gc.collect()
            torch.cuda.empty_cache()


@dataclass(frozen=True)
class Part:
    """A part of the table: ``limit_s`` of wall time; ``run`` gives its rows one by one."""

    title: str
    limit_s: float
    run: Callable[[Bench], Iterator[Row]]


def row(what: str, value: float | None, unit: str, reason: str = "") -> Row:
    return {"what": what, "value": value, "unit": unit, "reason": reason}


def tried(bench: Bench, what: str, unit: str, measure: Callable[[], float]) -> Row:
    """The row of one measurement, or of why there is none."""
    try:
        return row(what, measure(), unit)
    except NotHere as missing:
        return row(what, None, unit, str(missing))
    except FAILURES as failure:
        said = str(failure).strip().splitlines() or [""]
        return row(what, None, unit, f"{type(failure).__name__}: {said[0][:300]}")
    finally:
        bench.clear()


class Setup:
    """A frozen network of one size, a plugin's tensors on it, and the slices of a volume."""

    def __init__(self, bench: Bench, size: str, dtype: torch.dtype, blocks: int | None = None) -> None:
        scale, self.card = bench.scale, card(bench.scale.networks[size])
        self.bench = bench
        self.module: VisionTransformer = random_vit(self.card.config).eval().requires_grad_(False)
        self.classifier = made_classifier(self.module, blocks, 0).to(bench.device)
        self.module.to(bench.device)
        self.encoding = Encoding(mean=self.card.mean, std=self.card.std, dtype=dtype)
        slices = torch.rand(scale.slices, 1, scale.pixels, scale.pixels, generator=torch.Generator().manual_seed(0))
        self.slices = slices.to(bench.device)
        self.images = to_backbone_input(self.slices, self.module.patch_size, self.encoding)
        self.frozen = compute_weights(self.module, {}, dtype)

    @property
    def parameters(self) -> list[torch.nn.Parameter]:
        return list(self.classifier.parameters())

    def tokens(self) -> Tensor:
        """Class tokens of the slices in one call, without fusion and head: what can be compiled or captured."""
        weights = self.classifier.adapted_weights(self.module, "image", self.encoding.dtype)
        return run_backbone(self.module, weights, self.images, self.encoding, class_token_only=True).tokens[:, 0]

    def dense_tokens(self) -> Tensor:
        """The same, with the gradient of each adapted matrix formed by autograd, which a compiler follows."""
        lora, merged = self.classifier.lora["image"], {}
        for path, a, b in zip(lora.paths, lora.a, lora.b, strict=True):
            base = self.module.get_submodule(path).weight
            product = torch.addmm(base.flatten(1), b.flatten(1), a.flatten(1), alpha=lora.scale)
            merged[f"{path}.weight"] = product.view_as(base).to(self.encoding.dtype)
        weights = self.frozen | merged
        return run_backbone(self.module, weights, self.images, self.encoding, class_token_only=True).tokens[:, 0]

    def logits(self, packed: PackedSlices | None = None, encoding: Encoding | None = None) -> Tensor:
        packed = packed or PackedSlices(self.slices, (len(self.slices),))
        return self.classifier(self.module, {"image": packed}, encoding or self.encoding).logits

    def step(self, answer: Callable[[], Tensor], **options: bool) -> Program:
        """Forward, backward and AdamW."""
        optimizer = torch.optim.AdamW(self.parameters, lr=1e-6, **options)

        def program() -> None:
            optimizer.zero_grad(set_to_none=True)
            answer().float().square().mean().backward()
            optimizer.step()

        return program


def without_gradients(answer: Callable[[], Tensor]) -> Program:
    def program() -> Tensor:
        with torch.no_grad():
            return answer()

    return program


def captured(bench: Bench, program: Program) -> Program:
    """The program as one CUDA graph."""
    if not bench.is_cuda:
        raise NotHere("CUDA graphs need a CUDA device")
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            program()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        program()
    return graph.replay


def matmul_peak(bench: Bench, dtype: torch.dtype) -> float:
    """Operations a second of a large square product: what this card reaches, not what its sheet says."""
    side = bench.scale.matmul
    left, right = (torch.randn(side, side, device=bench.device, dtype=dtype) for _ in range(2))
    return 2 * side**3 / (1e-3 * bench.milliseconds(lambda: left @ right))


def operations(program: Program) -> int:
    with FlopCounterMode(display=False) as counter:
        program()
    return counter.get_total_flops()


def speed_of(size: str) -> Callable[[Bench], Iterator[Row]]:
    """Prediction and training step of one size, and their share of the measured peak."""

    def rows(bench: Bench) -> Iterator[Row]:
        setups = {}
        for name, dtype in DTYPES.items():
            peak = matmul_peak(bench, dtype)
            yield row(f"{name}, peak of a square product", peak / 1e12, "10^12 operations/s")
            setup = setups[name] = Setup(bench, size, dtype)
            jobs = {
                "prediction, whole classifier": without_gradients(setup.logits),
                "training step, whole classifier": setup.step(setup.logits),
                "prediction, backbone with LoRA": without_gradients(setup.tokens),
                "training step, backbone with LoRA": setup.step(setup.tokens),
            }
            for job, program in jobs.items():
                measured = tried(bench, f"{name}, eager, {job}", "ms a slice", lambda p=program: per_slice(bench, p))
                yield measured
                yield tried(
                    bench,
                    f"{name}, eager, {job}: share of the peak",
                    "",
                    lambda p=program, m=measured["value"], top=peak: share(bench, p, m, top),
                )
        for name, setup in setups.items():  # at the end: a capture that fails can leave the card unusable
            yield from graph_rows(bench, setup, name)

    return rows


def graph_rows(bench: Bench, setup: Setup, name: str) -> Iterator[Row]:
    capturable = {"capturable": True} if bench.is_cuda else {}
    jobs = {
        "prediction, backbone with LoRA": lambda: without_gradients(setup.tokens),
        "training step, backbone with LoRA": lambda: setup.step(setup.tokens, **capturable),
    }
    for job, make in jobs.items():
        measure = lambda m=make: per_slice(bench, captured(bench, m()))  # noqa: E731
        yield tried(bench, f"{name}, CUDA graph, {job}", "ms a slice", measure)


def per_slice(bench: Bench, program: Program) -> float:
    return bench.milliseconds(program) / bench.scale.slices


def share(bench: Bench, program: Program, ms_a_slice: float | None, peak: float) -> float:
    if ms_a_slice is None:
        raise NotHere("its time was not measured")
    return operations(program) / (1e-3 * ms_a_slice * bench.scale.slices * peak)


def compiled_of(size: str) -> Callable[[Bench], Iterator[Row]]:
    """``torch.compile`` in bf16, which takes longer than everything else: the seconds of the first call beside it."""

    def rows(bench: Bench) -> Iterator[Row]:
        setup = Setup(bench, size, torch.bfloat16)
        answers = {
            "prediction, backbone with LoRA": lambda answer: without_gradients(answer),
            "training step, backbone with LoRA, gradients of whole matrices": lambda answer: setup.step(answer),
        }
        for job, make in answers.items():
            yield tried(
                bench, f"bf16, eager, {job}", "ms a slice", lambda m=make: per_slice(bench, m(setup.dense_tokens))
            )
            program = make(torch.compile(setup.dense_tokens, backend=bench.scale.compiler, dynamic=False))
            began = time.perf_counter()
            first = tried(
                bench, f"bf16, compiled, {job}: first call", "s", lambda p=program, b=began: first_call(bench, p, b)
            )
            yield first
            if first["value"] is not None:
                yield tried(bench, f"bf16, compiled, {job}", "ms a slice", lambda p=program: per_slice(bench, p))

    return rows


def first_call(bench: Bench, program: Program, began: float) -> float:
    program()
    bench.wait()
    return time.perf_counter() - began


def memory_of(size: str) -> Callable[[Bench], Iterator[Row]]:
    """A training step of one large volume in bf16, with the activations recomputed and without."""

    def rows(bench: Bench) -> Iterator[Row]:
        setup = Setup(bench, size, torch.bfloat16)
        slices, pixels = bench.scale.large
        volume = torch.rand(slices, 1, pixels, pixels).half().to(bench.device)
        packed = PackedSlices(volume, (slices,))
        for name, recompute in (("activations recomputed", True), ("activations kept", False)):
            encoding = Encoding(mean=setup.card.mean, std=setup.card.std, dtype=torch.bfloat16, recompute=recompute)
            program = setup.step(lambda e=encoding: setup.logits(packed, e))
            forget_peak(bench.device)
            what = f"{slices} slices of {pixels} x {pixels}, bf16 step, {name}"
            seconds = tried(bench, what, "s", lambda p=program: 1e-3 * bench.milliseconds(p, rounds=1))
            yield seconds
            peak = None if seconds["value"] is None else peak_memory(bench.device) / 2**30
            yield row(f"{what}: peak memory", peak, "GiB", seconds["reason"])
            setup.classifier.zero_grad(set_to_none=True)

    return rows


def augmentation(bench: Bench) -> Iterator[Row]:
    """The paper's augmentation, its mean over draws, beside a bf16 training step of the same volume."""
    setup = Setup(bench, "S", torch.bfloat16)
    generator = torch.Generator().manual_seed(0)
    shape = tuple(setup.slices.shape)

    def change() -> Tensor:
        return apply(draw(recipe("paper"), generator=generator, shape=shape), setup.slices, value_range=(0.0, 1.0))

    def many() -> None:
        for _ in range(bench.scale.draws):
            change()

    spent = tried(bench, "augmentation of a volume", "ms", lambda: bench.milliseconds(many, 1) / bench.scale.draws)
    step = tried(
        bench, "training step of that volume, S, bf16", "ms", lambda: bench.milliseconds(setup.step(setup.logits))
    )
    yield from (spent, step)
    both = (spent["value"], step["value"])
    part = None if None in both else both[0] / sum(both)
    yield row("augmentation's share of both", part, "", "" if part is not None else "one of them was not measured")


def last_blocks(bench: Bench) -> Iterator[Row]:
    """Training steps that adapt the last K blocks, on trunk tokens that are at hand, against the whole network."""
    for name, dtype in DTYPES.items():
        for blocks in bench.scale.blocks:
            setup = Setup(bench, "S", dtype, blocks)
            packed = PackedSlices(setup.slices, (len(setup.slices),))
            if setup.classifier.seam is not None:
                trunk = trunk_of(setup.module, setup.images, setup.classifier.seam, setup.encoding)
                packed = packed._replace(slices=setup.slices[:0], trunk=trunk)
            what = "the whole network" if blocks is None else f"last {blocks}, trunk tokens at hand"
            program = setup.step(lambda s=setup, p=packed: s.logits(p))
            yield tried(bench, f"S, {name} training step, {what}", "ms a slice", lambda p=program: per_slice(bench, p))


def many_tasks(bench: Bench) -> Iterator[Row]:
    """One scan from file to the answers of one and of several plugins."""
    scale = bench.scale
    options = {"network": scale.networks["S"], "device": str(bench.device), "precision": "bf16"}
    with tempfile.TemporaryDirectory() as name:
        scan = make_scan(Path(name), scale.pixels, scale.slices)
        for blocks in scale.blocks:
            kind = "whole network adapted" if blocks is None else f"last {blocks} adapted"
            found = {}
            for tasks in scale.tasks:
                predictor = predictor_of(Path(name), blocks, tasks, scale.pixels, **options)
                measure = lambda p=predictor: bench.milliseconds(lambda: p.predict(scan), min(3, scale.rounds))  # noqa: E731
                found[tasks] = tried(bench, f"S, bf16, {kind}: {tasks} task(s)", "ms a scan", measure)
                yield found[tasks]
            first, last = found[scale.tasks[0]]["value"], found[scale.tasks[-1]]["value"]
            ratio = None if None in (first, last) else last / first
            what = f"S, bf16, {kind}: {scale.tasks[-1]} against {scale.tasks[0]}"
            yield row(what, ratio, "times", "" if ratio is not None else "one of them was not measured")


def write_cohort(folder: Path, scale: Scale) -> Path:
    """Compressed scans of whole numbers, and their manifest."""
    rng, names = np.random.default_rng(0), [f"case{number:03d}" for number in range(scale.cases)]
    shape = (scale.pixels, scale.pixels, scale.slices)
    for name in names:
        voxels = rng.integers(0, 256, shape, dtype=np.int16)
        nib.save(nib.Nifti1Image(voxels, np.diag([1.0, 1.0, 3.0, 1.0])), folder / f"{name}.nii.gz")
    path = folder / "manifest.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("case", "image"), *((name, f"{name}.nii.gz") for name in names)])
    return path


def cohort(bench: Bench) -> Iterator[Row]:
    """Cases a second from compressed files, by the number of worker processes."""
    scale = bench.scale
    knows_workers = "workers" in inspect.signature(predict_cohort).parameters
    with tempfile.TemporaryDirectory() as name:
        cases = read_manifest(write_cohort(Path(name), scale)).cases
        options = {"network": scale.networks["S"], "device": str(bench.device), "precision": "bf16"}
        predictor = predictor_of(Path(name), None, 1, scale.pixels, **options)
        predictor.predict_case(cases[0])
        for workers in scale.workers:

            def measure(number: int = workers) -> float:
                if number > 1 and not knows_workers:
                    raise NotHere("predict_cohort has no workers in this version")
                chosen = {"workers": number} if knows_workers else {}
                return cases_a_second(predictor, cases, Path(name) / f"out{number}", chosen)

            what = f"S, bf16, {scale.slices} slices of {scale.pixels} x {scale.pixels}, workers {workers}"
            yield tried(bench, what, "cases/s", measure)


def cases_a_second(predictor: Any, cases: Sequence[Any], out: Path, options: dict[str, int]) -> float:
    began = time.perf_counter()
    done = predict_cohort(predictor, cases, out, precision="bf16", quiet=True, **options)
    if done.exit_code:
        raise NotHere(f"cases failed: {next(r['message'] for r in done.rows if r['status'] == 'error')}")
    return len(cases) / (time.perf_counter() - began)


def agreement(bench: Bench) -> Iterator[Row]:
    """Do the logits here agree with those of a processor in fp32?"""
    own = Bench(bench.scale, torch.device("cpu"))
    reference = Setup(own, "S", torch.float32)
    few = PackedSlices(reference.slices[:4], (min(4, len(reference.slices)),))
    with torch.no_grad():
        expected = reference.logits(few)
    yield row("largest fp32 logit on the processor", float(expected.abs().max()), "")
    for name, dtype in DTYPES.items():
        setup = Setup(bench, "S", dtype)
        packed = few._replace(slices=few.slices.to(bench.device))

        def apart(s: Setup = setup, p: PackedSlices = packed) -> float:
            with torch.no_grad():
                return float((s.logits(p).cpu().float() - expected).abs().max())

        yield tried(bench, f"largest difference from it, {name} here", "", apart)


def several_processes(bench: Bench) -> Iterator[Row]:
    """Training in several processes, which one card cannot show."""
    cards = torch.cuda.device_count() if bench.is_cuda else 0
    reason = f"{cards} CUDA devices are here, and NCCL refuses two processes on one"
    if cards > 1:
        reason = (
            f"this script uses one of the {cards} cards; torchrun --nproc_per_node {cards} -m anymc3d train uses all"
        )
    yield row("training over several cards", None, "times faster", reason)


PARTS: dict[str, Part] = {
    "agreement": Part("logits against those of a processor", 45, agreement),
    "speed-S": Part("ViT-S/14, 64 slices of 224 x 224", 45, speed_of("S")),
    "speed-B": Part("ViT-B/14, 64 slices of 224 x 224", 45, speed_of("B")),
    "speed-L": Part("ViT-L/14, 64 slices of 224 x 224", 60, speed_of("L")),
    "memory-S": Part("ViT-S/14, the paper's largest volume", 40, memory_of("S")),
    "memory-B": Part("ViT-B/14, the paper's largest volume", 45, memory_of("B")),
    "memory-L": Part("ViT-L/14, the paper's largest volume", 60, memory_of("L")),
    "augmentation": Part("augmentation's share of a training step", 30, augmentation),
    "last-blocks": Part("adapting the last blocks on kept trunk tokens", 30, last_blocks),
    "many-tasks": Part("twelve tasks against one on a scan", 60, many_tasks),
    "cohort": Part("a cohort from files", 90, cohort),
    "compiled-S": Part("torch.compile, ViT-S/14", 75, compiled_of("S")),
    "compiled-B": Part("torch.compile, ViT-B/14", 75, compiled_of("B")),
    "compiled-L": Part("torch.compile, ViT-L/14", 90, compiled_of("L")),
    "several-processes": Part("several cards", 20, several_processes),
}
"""In the order they run: what matters most first, what takes longest last."""
