"""CT-CLIP's encoder: its count by hand, another implementation's answers, and what is special about it."""

import torch
from torch import nn

from anymc3d.models.zoo.ctclip import ClassFine, CTViT, CTViTConfig, PositionConv
from anymc3d.models.zoo.entry import count_parameters

TINY = CTViTConfig(size=(30, 40, 60), width=8, depth=2, num_heads=2, head_dim=4, num_codes=16, latent=4)

TOKENS = [[-0.027517, 0.165418, 0.256146], [-0.00851, 0.24946, 0.246887], [0.001372, 0.335288, 0.443317]]
CODES = [[0.294311, 0.372352, 0.399997], [0.294311, 0.372352, 0.399997], [0.399728, 0.36734, 0.285234]]


def with_known_weights(network: CTViT) -> CTViT:
    """Each tensor a piece of a sine, so that another implementation can be given the same."""
    with torch.no_grad():
        for number, (_, tensor) in enumerate(sorted(network.state_dict().items())):
            values = torch.sin(torch.arange(tensor.numel(), dtype=torch.float64) * 0.37 + number)
            tensor.copy_((0.4 * values).reshape(tensor.shape))
    return network.eval()


def test_parameters_counted_by_hand():
    width, hidden, heads, inner = 512, 1365, 8, 256
    patches = 2 * 4000 + 4000 * width + width + 2 * width
    bias = (2 * width + width) + (width * width + width) + (width * heads + heads)
    attention = width + width * inner + width * 2 * inner + 2 * 32 + inner * width
    layer = (27 * width + width) + attention + (2 * width + width * 2 * hidden + hidden * width)
    latent = 24 * 24 * width * 512
    with torch.device("meta"):
        network = ClassFine(18, torch.Generator(), encoder=CTViT())
    assert count_parameters(network.encoder, trainable=False) == patches + bias + 8 * layer + 2 * width + latent
    assert count_parameters(network, trainable=True) == 512 * 18 + 18
    assert network.encoder.codebook.shape == (8192, 512)
    assert CTViTConfig().grid == (24, 24, 24)


def test_tokens_are_those_of_the_library_the_published_encoder_is_built_on():
    # Made with phenaki-pytorch 0.4.2 (MIT; the transformer of its attention.py) and vector-quantize-pytorch 1.1.2
    # (MIT; cosine codebook) from the same weights and volume.
    network = with_known_weights(CTViT(TINY))
    volume = torch.sin(torch.arange(30 * 40 * 60) * 0.013).reshape(1, 1, 30, 40, 60)
    with torch.no_grad():
        tokens = network.encode(network.patches(volume))
        codes = network.quantise(tokens)
    torch.testing.assert_close(tokens[0, :, 1, 2, 3:6], torch.tensor(TOKENS), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(codes[0, :, 1, 2, 3:6], torch.tensor(CODES), rtol=1e-4, atol=1e-5)


def test_positions_come_from_earlier_layers_only_and_from_all_sides_within_one():
    conv = PositionConv(1)
    nn.init.ones_(conv.conv.weight)
    nn.init.zeros_(conv.conv.bias)
    grid = (4, 3, 3)
    volume = torch.zeros(1, 4, 3, 3, 1)
    volume[0, 1, 1, 1] = 1
    seen = conv(volume.reshape(1, -1, 1), grid).reshape(4, 9).detach()
    assert seen.tolist() == [[0] * 9, [1] * 9, [1] * 9, [1] * 9]


def test_the_position_of_columns_follows_their_order_in_memory():
    conv = PositionConv(1)
    nn.init.zeros_(conv.conv.weight)
    nn.init.zeros_(conv.conv.bias)
    with torch.no_grad():
        conv.conv.weight[0, 0, 2, 1, 0] = 1  # the neighbour before along the last axis of the grid
    grid, values = (2, 2, 3), torch.arange(1.0, 13)
    columns = values.reshape(2, 2, 3).permute(1, 2, 0).reshape(6, 2, 1)  # each column's two layers, one column a row
    flat = columns.flatten()
    expected = torch.stack([flat[i - 1] if i % 3 else torch.tensor(0.0) for i in range(12)])
    assert torch.equal(conv(columns, grid).detach().flatten(), expected)


def test_latents_have_length_one_and_scaling_a_token_changes_no_code():
    network = with_known_weights(CTViT(TINY))
    with torch.no_grad():
        latents = network(torch.rand(2, 1, 30, 40, 60, generator=torch.Generator().manual_seed(0)))
        tokens = torch.randn(5, 8, generator=torch.Generator().manual_seed(1))
        assert torch.equal(network.quantise(tokens), network.quantise(7 * tokens))
    torch.testing.assert_close(latents.norm(dim=1), torch.ones(2))


def test_what_is_missing_of_a_volume_is_air_not_water():
    network = with_known_weights(CTViT(TINY))
    short = torch.rand(1, 1, 20, 40, 60, generator=torch.Generator().manual_seed(0))
    padded = torch.zeros(1, 1, 30, 40, 60)
    padded[:, :, 5:25] = short
    with torch.no_grad():
        assert torch.equal(network(short), network(padded))
    assert network.patches(2 * torch.zeros(1, 1, 30, 40, 60) - 1).isfinite().all()


def test_training_never_moves_encoder_or_codebook():
    network = ClassFine(3, torch.Generator().manual_seed(0), encoder=CTViT(TINY)).train()
    before = {name: value.clone() for name, value in network.encoder.state_dict().items()}
    assert not network.encoder.training
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=0.1)
    network(torch.rand(2, 1, 30, 40, 60), torch.ones(2, 30, dtype=torch.bool)).square().sum().backward()
    optimizer.step()
    assert all(torch.equal(before[name], value) for name, value in network.encoder.state_dict().items())
