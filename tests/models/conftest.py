"""Tiny networks shared by the model tests."""

import pytest
import torch

from anymc3d.models.classifier import Encoding
from anymc3d.models.vit import ViTConfig, random_vit

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def backbone():
    """A DINOv2-shaped network with two blocks, 32 wide, patch 14."""
    config = ViTConfig(embed_dim=32, depth=2, num_heads=2, patch_size=14, grid=5)
    return random_vit(config, seed=3).eval().requires_grad_(False)


@pytest.fixture(scope="session")
def encoding():
    return Encoding(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), chunk_size=64)
