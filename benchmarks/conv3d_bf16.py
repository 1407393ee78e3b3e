"""Where the gradients of 3D convolutions in bfloat16 are wrong on a CPU: the largest error against float32.

    python benchmarks/conv3d_bf16.py

A bfloat16 gradient is expected within about 0.01 of the largest float32 one. Some of the wrong results write beyond
their memory, so the process may end with an error of the allocator after its last line.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

KERNELS = (3, 5, 7)
DEPTHS = (1, 2, 3, 4, 5, 6, 8)


def gradients(network: nn.Module, volume: Tensor, slope: Tensor, dtype: torch.dtype) -> Tensor:
    """Of the weight."""
    network.zero_grad()
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        answer = network(volume)
    answer.float().backward(slope)
    return network.weight.grad.clone()


def largest_error(depth: int, kernel: int, repeats: int = 5) -> float:
    """Relative to the largest gradient, over some repeats: wrong ones depend on what lay in memory."""
    torch.manual_seed(0)
    network = nn.Conv3d(32, 32, kernel, padding=kernel // 2, bias=False)
    volume = torch.randn(2, 32, depth, 18, 18)
    worst = 0.0
    for _ in range(repeats):
        slope = torch.randn(2, 32, depth, 18, 18)
        exact = gradients(network, volume, slope, torch.float32)
        error = (gradients(network, volume, slope, torch.bfloat16) - exact).abs().max() / exact.abs().max()
        worst = max(worst, float(error.nan_to_num(float("inf"))))
    return worst


def main() -> None:
    print(f"torch {torch.__version__}")
    print("| slices | " + " | ".join(f"kernel {kernel}" for kernel in KERNELS) + " |")
    print("|---" * (1 + len(KERNELS)) + "|")
    for depth in DEPTHS:
        print(
            f"| {depth} | " + " | ".join(f"{largest_error(depth, kernel):.2g}" for kernel in KERNELS) + " |", flush=True
        )


if __name__ == "__main__":
    main()
