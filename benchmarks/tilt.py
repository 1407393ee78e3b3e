"""How much of a tilted stack is made of copies of its first and last slice, for the sizes of the paper's Table 3.

Supplement A3 turns by up to 30 degrees about each axis; nnU-Net, whose list it adapts, turns stacks whose longest side
is more than three times their number of slices in-plane only. From the repository's root, a minute:

    python benchmarks/tilt.py > benchmarks/tilt.md
"""

from __future__ import annotations

import numpy as np
import torch

from anymc3d.data.augmentation.augment import draw, recipe
from anymc3d.data.augmentation.spatial import placement
from anymc3d.recipes.table import RECIPES

DRAWS = 100


def beyond(size: tuple[int, int, int], rotation: tuple[float, float, float]) -> float:
    """The share of the voxels of a turned stack (S, H, W) that are read beyond its first or last slice."""
    where = placement(size, flips=(False,) * 3, rotation=rotation, zoom=None, translation=None)
    row, offset = where.matrix[0], where.offset[0]
    axes = np.ogrid[: size[0], : size[1] : 4, : size[2] : 4]
    places = sum(factor * axis for factor, axis in zip(row, axes, strict=True)) + offset
    return float(((places < 0) | (places > size[0] - 1)).mean())


def main() -> None:
    """Print the table."""
    print("# What a tilt makes of a thin stack\n")
    print(f"Voxels read beyond the first or last slice, mean and largest of {DRAWS} rotations.\n")
    print("    python benchmarks/tilt.py > benchmarks/tilt.md\n")
    print("| size | tasks | side / slices | `paper` | `paper-flat` |\n|---|---|---|---|---|")
    sizes: dict[tuple[int, int, int], list[str]] = {}
    for task in RECIPES.values():
        height, width, slices = next(iter(task.views.values())).size
        sizes.setdefault((slices, height, width), []).append(task.id)
    for size, tasks in sorted(sizes.items(), key=lambda item: -max(item[0][1:]) / item[0][0]):
        cells = []
        for name in ("paper", "paper-flat"):
            generator, found = torch.Generator().manual_seed(0), []
            while len(found) < DRAWS:
                drawn = draw(recipe(name), generator=generator, shape=(size[0], 1, *size[1:]))
                if drawn.rotation is not None:
                    found.append(beyond(size, drawn.rotation))
            cells.append(f"{np.mean(found):.0%}, {np.max(found):.0%}")
        by = f"{size[1]} x {size[2]} x {size[0]}"
        print(f"| {by} | {', '.join(tasks)} | {max(size[1:]) / size[0]:.1f} | {' | '.join(cells)} |")
    print(
        "\nOne draw in five rotates. `paper` is the letter of supplement A3 and what the recipes take; `paper-flat` is"
    )
    print("nnU-Net's rule. No training has compared the two here.")


if __name__ == "__main__":
    main()
