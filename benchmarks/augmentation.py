"""Time of the whole augmentation chain on one volume: this package against MONAI's dictionary transforms.

Every operation is on (probability 1), the numbers are drawn anew each time, one CPU thread, the programs take turns;
CPU seconds, median over the rounds. Needs the extra ``benchmark``:

    python benchmarks/augmentation.py

writes ``benchmarks/augmentation.md``.
"""

from __future__ import annotations

import argparse
import dataclasses
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import monai
import torch
from monai import transforms

from anymc3d.data.augmentation.augment import AugmentationParameters, Recipe, apply, draw, recipe

SIZE = (224, 224, 70)
"""In-plane x, in-plane y, slices: the paper's task T6."""
KEYS = ("image",)
TARGET_RATIO = 5.0
MONAI_ROW = "MONAI, dictionary chain"
PAPER_ROW = "anymc3d, probabilities of the paper"
VOLUMES_PER_ROUND = 10
"""Of the row with the paper's probabilities, whose volumes differ much; its figures are means over these."""
REPORT_PATH = Path(__file__).with_suffix(".md")


def monai_chain(*, lazy: bool) -> transforms.Compose:
    """MONAI's equivalents of supplement A3, every probability 1; only the spatial ones can be lazy."""
    spatial = [transforms.RandFlipd(KEYS, prob=1.0, spatial_axis=axis, lazy=lazy) for axis in range(3)]
    spatial += [
        transforms.RandAffined(
            KEYS, prob=1.0, rotate_range=[0.5236] * 3, translate_range=[10] * 3, padding_mode="zeros", lazy=lazy
        ),
        transforms.RandZoomd(KEYS, prob=1.0, min_zoom=0.7, max_zoom=1.4, mode="trilinear", keep_size=True, lazy=lazy),
    ]
    sigma = (0.5, 1.0)
    intensity = [
        transforms.RandGaussianNoised(KEYS, prob=1.0, std=0.1),
        transforms.RandGaussianSmoothd(KEYS, prob=1.0, sigma_x=sigma, sigma_y=sigma, sigma_z=sigma),
        transforms.RandScaleIntensityd(KEYS, prob=1.0, factors=0.25),
        transforms.RandScaleIntensityFixedMeand(KEYS, prob=1.0, factors=0.25, preserve_range=True),
        transforms.RandSimulateLowResolutiond(KEYS, prob=1.0, zoom_range=(0.5, 1.0)),
        transforms.RandAdjustContrastd(KEYS, prob=1.0, gamma=(0.7, 1.5), invert_image=True, retain_stats=True),
        transforms.RandAdjustContrastd(KEYS, prob=1.0, gamma=(0.7, 1.5), retain_stats=True),
    ]
    return transforms.Compose(spatial + intensity, lazy=lazy)


def always(settings: Recipe) -> Recipe:
    """The same recipe with every operation on."""
    chances = {
        field.name: dataclasses.replace(getattr(settings, field.name), probability=1.0)
        for field in dataclasses.fields(settings)
        if field.name != "flip"
    }
    return Recipe(flip=1.0, **chances)


def runs(generator: torch.Generator) -> dict[str, Callable[[], object]]:
    """The programs that take turns, by the name of their row."""
    volume = torch.rand((1, *SIZE), generator=generator)
    slices = volume.permute(3, 0, 1, 2).contiguous()
    shape = (slices.shape[0], slices.shape[1], slices.shape[2], slices.shape[3])
    plain, lazy = monai_chain(lazy=False), monai_chain(lazy=True)

    def ours(settings: Recipe) -> object:
        return apply(draw(settings, generator=generator, shape=shape), slices, value_range=(0.0, 1.0))

    everything = always(recipe("paper"))
    return {
        MONAI_ROW: lambda: plain({"image": volume.clone()}),
        "MONAI, lazy": lambda: lazy({"image": volume.clone()}),
        "anymc3d": lambda: ours(everything),
        PAPER_ROW: lambda: [ours(recipe("paper")) for _ in range(VOLUMES_PER_ROUND)],
    }


def single_operations(generator: torch.Generator) -> dict[str, Callable[[], object]]:
    """Each part of our chain alone, on numbers in the middle of its range."""
    slices = torch.rand((SIZE[2], 1, SIZE[0], SIZE[1]), generator=generator)
    settings: dict[str, dict[str, object]] = {
        "flips alone": {"flip": (True, True, True)},
        "flips, rotation, zoom and translation": {
            "flip": (True, True, True),
            "rotation": (15.0, -15.0, 15.0),
            "zoom": 0.9,
            "translation": (5.0, -5.0, 5.0),
        },
        "noise": {"noise": 0.05},
        "blur": {"blur": 0.75},
        "brightness": {"brightness": 1.1},
        "contrast": {"contrast": 1.1},
        "low resolution": {"low_resolution": 0.75},
        "inverted gamma": {"gamma_inverted": 1.2},
        "gamma": {"gamma": 1.2},
    }

    def run(parameters: AugmentationParameters) -> Callable[[], object]:
        return lambda: apply(parameters, slices, value_range=(0.0, 1.0))

    return {name: run(AugmentationParameters(**one)) for name, one in settings.items()}


def take_turns(programs: dict[str, Callable[[], object]], *, rounds: int) -> dict[str, list[float]]:
    """CPU milliseconds of every program in every round, after one round that is not counted."""
    times: dict[str, list[float]] = {name: [] for name in programs}
    for number in range(rounds + 1):
        for name, program in programs.items():
            start = time.process_time()
            program()
            if number > 0:
                times[name].append((time.process_time() - start) * 1000)
    return times


def gpu_milliseconds(generator: torch.Generator, *, rounds: int) -> float | None:
    """Median wall time of the whole chain on a GPU, or None without one."""
    if not torch.cuda.is_available():
        return None
    slices = torch.rand((SIZE[2], 1, SIZE[0], SIZE[1]), generator=generator).cuda()
    everything, times = always(recipe("paper")), []
    for _ in range(rounds + 3):
        parameters = draw(everything, generator=generator, shape=(SIZE[2], 1, SIZE[0], SIZE[1]))
        torch.cuda.synchronize()
        start = time.perf_counter()
        apply(parameters, slices, value_range=(0.0, 1.0))
        torch.cuda.synchronize()
        times.append((time.perf_counter() - start) * 1000)
    return statistics.median(times[3:])


def table(times: dict[str, list[float]], *, reference: str | None) -> list[str]:
    """Markdown rows: median, smallest, largest and, with the name of a row, how many times faster than that row."""
    medians = {name: statistics.median(values) for name, values in times.items()}
    lines = ["| | median | min | max |", "|---|---|---|---|"]
    if reference is not None:
        lines = ["| | median | min | max | times faster |", "|---|---|---|---|---|"]
    for name, values in times.items():
        row = f"| {name} | {medians[name]:.0f} | {min(values):.0f} | {max(values):.0f} |"
        lines.append(row if reference is None else f"{row} {medians[reference] / medians[name]:.1f} |")
    return lines


def report(rounds: int) -> str:
    """Measure everything and return the page."""
    generator = torch.Generator().manual_seed(0)
    times = take_turns(runs(generator), rounds=rounds)
    times[PAPER_ROW] = [value / VOLUMES_PER_ROUND for value in times[PAPER_ROW]]
    ratio = statistics.median(times[MONAI_ROW]) / statistics.median(times["anymc3d"])
    gpu_ms = gpu_milliseconds(generator, rounds=rounds)
    on_gpu = "not measured: no GPU in this run" if gpu_ms is None else f"{gpu_ms:.1f} ms"
    return "\n".join(
        [
            "# Augmentation: the whole chain on one volume",
            "",
            f"One {SIZE[0]} x {SIZE[1]} x {SIZE[2]} float32 volume, all ten operations of supplement A3 on, one CPU "
            f"thread, programs taking turns, CPU milliseconds, {rounds} rounds.",
            f"torch {torch.__version__} ({torch.backends.cpu.get_cpu_capability()}), MONAI {monai.__version__}, "
            f"Python {platform.python_version()}, {platform.machine()}.",
            "",
            "    python benchmarks/augmentation.py",
            "",
            *table(times, reference=MONAI_ROW),
            "",
            f"Goal: at least {TARGET_RATIO:.0f} times faster than MONAI's dictionary chain; "
            f"{'reached' if ratio >= TARGET_RATIO else 'NOT reached'} ({ratio:.1f}).",
            f"The same chain on a GPU: {on_gpu}.",
            "",
            "Each part alone:",
            "",
            *table(take_turns(single_operations(generator), rounds=rounds), reference=None),
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    page = report(arguments.rounds)
    print(page)
    REPORT_PATH.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
