"""Frozen matrices in int8: how much faster a prediction is on four kinds of processors, and what it costs.

Activations are quantised in every call by their own range (dynamic int8), matrices once, per output channel. LoRA is
merged into the matrices before, which is the fastest that a plugin could be: beside a matrix that several plugins share
its two thin products would come on top. The kinds are one processor that is made to hide instruction sets from every
library in a process (``as_older_processor.c``, built by this script; needs gcc and CPUID faulting); clock and caches
stay those of the one processor, so only ratios within a table say something. CPU seconds of one thread, the rows take
turns, medians. Needs the extra ``test``, and the weights in ``../shared/models/dinov2-small-fp16``, else random ones:

    python benchmarks/int8.py --adrenal adrenalmnist3d_64.npz

writes ``benchmarks/int8.md`` and keeps the remarks at its end, which were written by hand.
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from speed_contestants import Work, encoding, our_backbone, our_classifier
from torch import Tensor, nn

from anymc3d.cost.device import number_format
from anymc3d.evaluate.metrics import auroc
from anymc3d.models.classifier import compute_weights, run_backbone, to_backbone_input
from anymc3d.models.vit import VisionTransformer

KINDS = {
    "all it has: AMX, bf16, VNNI": "",
    "AVX-512 and VNNI, no bf16, no AMX": "amx,bf16",
    "AVX2 and VNNI": "amx,bf16,avx512",
    "AVX2 alone": "amx,bf16,avx512,vnni",
}
WORKS = (Work(98, 24, 1), Work(224, 8, 1))
ROUNDS, CHUNK = 5, 64
STANDARD, FBGEMM, ONEDNN, ORT = "quantize_dynamic as it comes", "fbgemm", "oneDNN", "ONNX Runtime"
PROBE_SIZE, PROBE_SLICES, PROBE_CASES = 70, 6, 240
"""Pixels along each side, slices of a scan, and cases to fit on and as many to look at."""
PAGE = Path(__file__).with_suffix(".md")
REMARKS = "## Remarks"

Program = Callable[[Tensor], Tensor]
"""Normalised slices (S, 3, H, W) -> class tokens (S, D)."""


class Int8Linear(nn.Module):
    """A linear map with int8 weights, symmetric per output channel; activations by the range of each call."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach()
        scales, zeros = weight.abs().amax(dim=1).double() / 127, torch.zeros(len(weight), dtype=torch.long)
        stored = torch.quantize_per_channel(weight, scales, zeros, 0, torch.qint8)
        self.packed = torch.ops.quantized.linear_prepack(stored, linear.bias.detach())

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.ops.quantized.linear_dynamic(inputs, self.packed, False)


def merged(backbone: VisionTransformer) -> VisionTransformer:
    """The backbone as one plugin sees it, with its LoRA in the matrices."""
    weights = compute_weights(backbone, our_classifier(backbone).lora["image"].weights(backbone), torch.float32)
    module = copy.deepcopy(backbone)
    module.load_state_dict({name: weight.detach().clone() for name, weight in weights.items()}, strict=False)
    return module


def in_int8(network: VisionTransformer, engine: str) -> VisionTransformer:
    """A copy with every linear map in int8, by one of torch's engines."""
    torch.backends.quantized.engine = engine
    module = copy.deepcopy(network)
    for path, part in list(module.named_modules()):
        if isinstance(part, nn.Linear):
            parent, leaf = path.rsplit(".", 1)
            setattr(module.get_submodule(parent), leaf, Int8Linear(part))
    return module


def as_it_comes(network: VisionTransformer) -> nn.Module:
    """What ``torch.ao.quantization.quantize_dynamic`` makes with its own defaults."""
    torch.backends.quantized.engine = "x86"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(copy.deepcopy(network), {nn.Linear}, dtype=torch.qint8)


def by_torch(network: nn.Module) -> Program:
    return lambda images: network(images, class_token_only=True).tokens[:, 0]


def in_bf16(network: VisionTransformer) -> Program:
    settings = encoding(torch.bfloat16, CHUNK)
    weights = network.matrices(torch.bfloat16)

    def run(images: Tensor) -> Tensor:
        return run_backbone(network, weights, images, settings, class_token_only=True).tokens[:, 0].float()

    return run


def by_onnx_runtime(network: VisionTransformer, size: int, folder: Path) -> Program:
    """Exported once, its products with constant matrices in int8 per channel."""
    import onnxruntime
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logging.getLogger().setLevel(logging.ERROR)
    whole, small = folder / f"{size}.onnx", folder / f"{size}.int8.onnx"
    if not small.exists():

        class ClassToken(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.network = network

            def forward(self, images: Tensor) -> Tensor:
                return self.network(images, class_token_only=True).tokens[:, 0]

        number = {"images": {0: torch.export.Dim("slices", min=2, max=4096)}}
        example = torch.zeros(4, 3, size, size)
        torch.onnx.export(
            ClassToken(), (example,), whole, dynamo=True, dynamic_shapes=number, external_data=False, verbose=False
        )
        quantize_dynamic(
            whole, small, per_channel=True, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul", "Gemm"]
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(small), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda images: torch.from_numpy(session.run(None, {name: images.numpy()})[0])


def programs(network: VisionTransformer, size: int, folder: Path) -> dict[str, Program]:
    found = {"fp32": by_torch(network)}
    if number_format("auto", torch.device("cpu")) == "bf16":
        found["bf16"] = in_bf16(network)
    found[f"int8, {STANDARD}"] = by_torch(as_it_comes(network))
    found[f"int8, {FBGEMM}"] = by_torch(in_int8(network, "fbgemm"))
    found[f"int8, {ONEDNN}"] = by_torch(in_int8(network, "onednn"))
    found[f"int8, {ORT}"] = by_onnx_runtime(network, size, folder)
    return found


@torch.inference_mode()
def answers(program: Program, images: Tensor) -> Tensor:
    return program(images)


def measured(folder: Path) -> dict[str, Any]:
    """Size -> row -> milliseconds a slice, and how far the worst class token is off, relative to its norm."""
    network = merged(our_backbone(None, torch.device("cpu")))
    found: dict[str, Any] = {}
    for work in WORKS:
        rows = programs(network, work.size, folder)
        images = to_backbone_input(work.slices(torch.device("cpu")), 14, encoding(torch.float32, CHUNK))
        spent: dict[str, list[float]] = {name: [] for name in rows}
        tokens = {}
        for number in range(ROUNDS + 1):
            for name, program in rows.items():
                begun = time.process_time()
                tokens[name] = answers(program, images)
                if number:
                    spent[name].append(time.process_time() - begun)
        exact = tokens["fp32"]
        off = {name: float(((t - exact).norm(dim=1) / exact.norm(dim=1)).max()) for name, t in tokens.items()}
        best = min(statistics.median(spent[name]) for name in ("fp32", "bf16") if name in spent)
        for name, times in spent.items():
            middle = statistics.median(times)
            row = {"ms": 1e3 * middle / work.total, "faster": best / middle, "off": off[name]}
            found.setdefault(str(work.size), {})[name] = row
    return found


def probed(adrenal: Path, folder: Path) -> dict[str, Any]:
    """A frozen probe on real scans (training cases alone): row -> AUROC, and the largest change of a logit."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    with np.load(adrenal) as archive:
        scans = archive["train_images"][: 2 * PROBE_CASES].astype(np.float32) / 255
        labels = archive["train_labels"][: 2 * PROBE_CASES].reshape(-1)
    picked = torch.linspace(8, 55, PROBE_SLICES).round().long()
    slices = torch.from_numpy(scans)[:, picked].flatten(0, 1).unsqueeze(1)
    slices = nn.functional.interpolate(slices, size=(PROBE_SIZE, PROBE_SIZE), mode="bilinear", align_corners=False)
    network = our_backbone(None, torch.device("cpu"))
    settings = encoding(torch.float32, CHUNK)
    is_known = np.arange(2 * PROBE_CASES) < PROBE_CASES
    features, found = {}, {}
    for name, program in programs(network, PROBE_SIZE, folder).items():
        tokens = torch.cat([answers(program, to_backbone_input(part, 14, settings)) for part in slices.split(96)])
        features[name] = tokens.unflatten(0, (2 * PROBE_CASES, PROBE_SLICES)).mean(1).numpy()
    exact = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000))
    exact.fit(features["fp32"][is_known], labels[is_known])
    expected = exact.decision_function(features["fp32"][~is_known])
    for name, values in features.items():
        logits = exact.decision_function(values[~is_known])
        change = float(np.abs(logits - expected).max())
        found[name] = {"auroc": float(auroc(labels[~is_known], logits).value), "change": change}
    found["fp32"]["spread"] = float(expected.std())
    return found


def child(job: str, hidden: str, library: Path, folder: Path, adrenal: Path | None) -> Any:
    """Do one job in a process that does not see some instruction sets."""
    command = [sys.executable, __file__, "--child", job, "--folder", str(folder)]
    command += ["--adrenal", str(adrenal)] if adrenal else []
    limits = (
        {"HIDE": hidden, "LD_PRELOAD": str(library), "OMP_NUM_THREADS": "1"} if hidden else {"OMP_NUM_THREADS": "1"}
    )
    done = subprocess.run(command, env={**os.environ, **limits}, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def speed_section(kind: str, found: dict[str, Any]) -> list[str]:
    lines = [f"## {kind}", ""]
    heads = [f"{work.size} px, ms a slice | of the best of today | worst class token off" for work in WORKS]
    lines += [f"| | {' | '.join(heads)} |", "|---|" + "---|" * (3 * len(WORKS))]
    for name in found[str(WORKS[0].size)]:
        rows = [found[str(work.size)][name] for work in WORKS]
        cells = [f"{row['ms']:.1f} | {row['faster']:.2f} x | {100 * row['off']:.1f} %" for row in rows]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return [*lines, ""]


def probe_section(found: dict[str, dict[str, Any]]) -> list[str]:
    lines = [
        "## A frozen probe on real scans",
        "",
        f"AdrenalMNIST3D, {PROBE_CASES} training cases to fit a logistic regression on (in fp32), {PROBE_CASES} others "
        f"of the training split to look at; {PROBE_SLICES} slices of {PROBE_SIZE} pixels, their mean. The test split "
        "was not opened.",
        "",
        "| | AUROC | largest change of a logit | logits' standard deviation |",
        "|---|---|---|---|",
    ]
    for kind, rows in found.items():
        spread = rows["fp32"]["spread"]
        for name, row in rows.items():
            lines.append(f"| {name}; {kind} | {row['auroc']:.3f} | {row['change']:.3f} | {spread:.2f} |")
    return [*lines, ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--adrenal", type=Path, help="adrenalmnist3d_64.npz")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--child", choices=("speed", "probe"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.child:
        is_speed = arguments.child == "speed"
        job = measured(arguments.folder) if is_speed else probed(arguments.adrenal, arguments.folder)
        print(json.dumps(job))
        return
    with tempfile.TemporaryDirectory() as name:
        folder, library = Path(name), Path(name) / "as_older_processor.so"
        source = Path(__file__).with_name("as_older_processor.c")
        subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", library, source], check=True)
        page = [
            "# Frozen matrices in int8",
            "",
            f"DINOv2 ViT-S/14 with a plugin merged in, torch {torch.__version__}; one thread, CPU time, by turns, "
            f'medians of {ROUNDS} rounds. "Best of today" is the faster of fp32 and bf16 on that kind.',
            "",
            "    python benchmarks/int8.py --adrenal adrenalmnist3d_64.npz",
            "",
        ]
        probes = {}
        for kind, hidden in KINDS.items():
            page += speed_section(kind, child("speed", hidden, library, folder, None))
            print("\n".join(page), flush=True)
        if arguments.adrenal:
            for kind in (next(iter(KINDS)), list(KINDS)[-1]):
                probes[kind] = child("probe", KINDS[kind], library, folder, arguments.adrenal)
            page += probe_section(probes)
    before = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    remarks = REMARKS + before.partition(REMARKS)[2] if REMARKS in before else f"{REMARKS}\n"
    PAGE.write_text("\n".join([*page, remarks]).rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
