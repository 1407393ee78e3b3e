"""How long an epoch takes on this machine, from a few slices that really go forward and back through the backbone.

Weights do not matter for time, so random ones do. What is not in the number: reading and preparing the scans (once),
augmentation, validation. A busy machine measures itself slow, and that is what training will meet.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from anymc3d.cost.device import choose_device, choose_dtype, ran_out_of_memory
from anymc3d.errors import BackboneError
from anymc3d.models.backbones import BACKBONES, build_backbone
from anymc3d.models.build import build_classifier, is_baseline
from anymc3d.models.classifier import Encoding, PackedSlices
from anymc3d.models.store import find_backbone, read_record, ways
from anymc3d.settings.config import TaskSettings

ENOUGH_SECONDS = 1.0
MOST_SLICES = 4
"""Measured in one call; more slices a call are a little faster each."""
HOUR, MINUTE = 3600.0, 60.0
LONG = 2 * HOUR
"""Above it the quick way is named, too."""


@dataclass(frozen=True)
class TrainingTime:
    """What one training epoch takes, in seconds, and where."""

    seconds_per_scan: float
    num_scans: int
    device: str

    @property
    def seconds_per_epoch(self) -> float:
        """Seconds for all training scans."""
        return self.seconds_per_scan * self.num_scans

    def text(self, epochs: int) -> str:
        """One line for the terminal."""
        whole = epochs * self.seconds_per_epoch
        sooner = "; 'anymc3d train' with --quick gives a first answer far sooner" if whole > LONG else ""
        return (
            f"time: about {_shown(self.seconds_per_scan)} a scan, {_shown(self.seconds_per_epoch)} an epoch of"
            f" {self.num_scans} scans, {_shown(whole)} for {epochs} epochs on this machine ({self.device}; a few slices"
            f" were measured; reading the scans comes once on top){sooner}"
        )


def missing_weights(name: str) -> str | None:
    """What to do for a backbone whose weights are not on this machine; None where they are, or are random."""
    if Path(name).expanduser().exists() or (name in BACKBONES and BACKBONES[name].origin == "random"):
        return None
    try:
        if read_record(name) is not None:
            return None
        if name not in BACKBONES:
            find_backbone(name)
    except BackboneError as error:
        return str(error)
    return f"the weights of {name} are not on this machine yet; {ways(name)}"


def training_time(task: TaskSettings, num_scans: int, device: str = "auto") -> TrainingTime | None:
    """Measure; None where that cannot be done here (memory ends, or the method is no backbone with LoRA)."""
    if is_baseline(task.method) or not num_scans:
        return None
    where = choose_device(device)
    try:
        seconds = _seconds_per_scan(task, where)
    except BackboneError:
        return None
    except (RuntimeError, MemoryError) as error:
        if not ran_out_of_memory(error):
            raise
        return None
    return TrainingTime(seconds, num_scans, _named(where))


def _named(device: torch.device) -> str:
    if device.type != "cpu":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{threads} thread" if threads == 1 else f"{threads} threads"


def _seconds_per_scan(task: TaskSettings, device: torch.device) -> float:
    name = task.backbone.name
    module = build_backbone(name) if name in BACKBONES else find_backbone(name).module
    module = module.to(device).eval().requires_grad_(False)
    classifier = build_classifier(
        task.method, views=task.views, labels=task.labels, fusion=task.fusion, backbone=module
    ).to(device)
    encoding = Encoding(
        chunk_size=task.train.chunk_size,
        dtype=choose_dtype(task.train.precision, device),
        recompute=task.train.recompute,
    )

    def step(counts: dict[str, int]) -> float:
        batch = {
            view: PackedSlices(torch.rand(count, settings.num_channels, *settings.size[:2], device=device), (count,))
            for (view, settings), count in zip(task.views.items(), counts.values(), strict=True)
        }
        return _timed(lambda: classifier(module, batch, encoding).logits.square().sum().backward(), device)

    wanted = {view: settings.size[2] or MOST_SLICES for view, settings in task.views.items()}
    single = dict.fromkeys(wanted, 1)
    first = step(single)
    few = {view: min(MOST_SLICES, count) for view, count in wanted.items()}
    # The first call also warms up; where it was slow it is all that is measured.
    seconds, measured = (first, single) if first > ENOUGH_SECONDS else (step(few), few)
    pixels = {view: settings.size[0] * settings.size[1] for view, settings in task.views.items()}
    num_done, all_of_it = (sum(pixels[view] * count for view, count in part.items()) for part in (measured, wanted))
    return seconds * all_of_it / num_done


def _timed(run: Callable[[], object], device: torch.device) -> float:
    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    started = now()
    run()
    return now() - started


def _shown(seconds: float) -> str:
    if seconds >= HOUR:
        return f"{seconds / HOUR:.1f} h"
    return (
        f"{seconds / MINUTE:.0f} min"
        if seconds >= 2 * MINUTE
        else f"{seconds:.2g} s"
        if seconds < 10
        else f"{seconds:.0f} s"
    )
