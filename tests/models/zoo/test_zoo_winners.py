"""The RSNA winners and CT-Net: their counts by arithmetic, their slices, their encoders against somebody else's."""

import math

import pytest
import torch
from zoo_cases import tiny_efficientnet
from zoo_cases_rsna import COUNTS

from anymc3d.models.zoo.coat import HEADS, ConvRelativePosition, FactorAttention
from anymc3d.models.zoo.convnext import ConvNeXt
from anymc3d.models.zoo.ctnet import CTNet
from anymc3d.models.zoo.efficientnet import repeated_stem
from anymc3d.models.zoo.rsna2022 import CHANNELS, rsna2022, with_neighbours
from anymc3d.models.zoo.slice_rnn import equally_spaced, stacked, triplets
from anymc3d.models.zoo.table import ZOO

IMAGENET_CLASSES = 1000


def count(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def linear(width_in: int, width_out: int) -> int:
    return width_in * width_out + width_out


def recurrent(gates: int, width: int, hidden: int, layers: int = 1) -> int:
    """Numbers of a recurrent network in both directions: two matrices and two biases per gate, layer and direction."""
    inputs = [width] + [2 * hidden] * (layers - 1)
    return sum(2 * gates * (hidden * given + hidden * hidden + 2 * hidden) for given in inputs)


# Published for the networks with their 1000 classes (timm 1.0.31, torchvision).
CONVNEXT_TINY = 28_589_128
COAT_LITE_MEDIUM, CONVNEXT_SMALL, EFFICIENTNETV2_S, RESNET18 = 44_571_048, 50_223_688, 21_458_488, 11_689_512
ENCODERS = {
    "coat": COAT_LITE_MEDIUM - linear(512, IMAGENET_CLASSES) - 2 * 512,
    "convnext": CONVNEXT_SMALL - linear(768, IMAGENET_CLASSES),
    "convnext-tiny": CONVNEXT_TINY - linear(768, IMAGENET_CLASSES) + 2 * 96 * 16,  # a stem of five channels
    "efficientnet": EFFICIENTNETV2_S - linear(1280, IMAGENET_CLASSES),
    "resnet": RESNET18 - linear(512, IMAGENET_CLASSES),
}


def test_encoders_have_the_published_counts_without_their_classifiers():
    built = {
        "coat": ZOO["rsna2023-coat"].empty(2).encoder,
        "convnext": ZOO["rsna2024-convnext"].empty(2).encoder,
        "convnext-tiny": ZOO["rsna2022-patient"].empty(2).encoder,
        "efficientnet": ZOO["rsna2023-efficientnet"].empty(2).encoder,
        "resnet": ZOO["ct-net"].empty(2).features,
    }
    assert {name: count(network) for name, network in built.items()} == ENCODERS


def test_counts_of_the_whole_networks_are_the_sums_of_their_layers():
    head_2022 = linear(512, 256) + 2 * 256 + linear(256, 2)
    reducing = sum(a * b * k + b for a, b, k in ((134, 64, 27), (64, 32, 27), (32, 16, 12)))
    sums = {
        "rsna2022": ENCODERS["efficientnet"] + 2 * 24 * 9 + recurrent(4, 1280, 256, layers=2) + head_2022,
        "rsna2022-patient": ENCODERS["convnext-tiny"]
        + recurrent(4, 768, 256, layers=2)
        + recurrent(4, 512, 256, layers=2)
        + 2 * head_2022,
        "rsna2023-coat": ENCODERS["coat"] + recurrent(3, 512, 256) + linear(512, 2),
        "rsna2023-efficientnet": ENCODERS["efficientnet"] + recurrent(4, 1280, 640) + linear(1280, 2),
        "rsna2024-convnext": ENCODERS["convnext"] + recurrent(4, 768, 384, layers=2) + 768 + linear(768, 2),
        "rsna2024-efficientnet": ENCODERS["efficientnet"] + recurrent(4, 1280, 640, layers=2) + 1280 + linear(1280, 2),
        "ct-net": ENCODERS["resnet"] + reducing + linear(7200, 128) + linear(128, 96) + linear(96, 2),
    }
    assert {name: (total, total) for name, total in sums.items()} == COUNTS


def test_names_are_the_published_ones():
    ctnet, coat = set(ZOO["ct-net"].empty(2).state_dict()), set(ZOO["rsna2023-coat"].empty(2).encoder.state_dict())
    assert {"features.0.weight", "features.1.running_mean", "features.4.0.conv1.weight"} <= ctnet
    assert {"features.5.0.downsample.0.weight", "features.5.0.downsample.1.bias", "features.7.1.bn2.weight"} <= ctnet
    rest = {f"{layer}.{kind}" for layer in ("reducingconvs.0", "classifier.0") for kind in ("weight", "bias")}
    assert rest <= ctnet
    assert {"classifier.6.weight", "reducingconvs.4.bias"} <= ctnet
    assert {"patch_embed1.proj.weight", "patch_embed4.norm.bias", "cls_token2", "cpe3.proj.weight"} <= coat
    assert {"crpe1.conv_list.2.weight", "serial_blocks4.7.factoratt_crpe.qkv.weight"} <= coat
    assert {"serial_blocks1.0.norm1.weight", "serial_blocks3.9.mlp.fc2.bias"} <= coat


def numbered(*counts: int) -> torch.Tensor:
    """Slices (sum(S), 1, 1, 1) with the number of the case in the hundreds and of the slice in the ones."""
    values = [100.0 * case + place for case, size in enumerate(counts) for place in range(size)]
    return torch.tensor(values).view(-1, 1, 1, 1)


def test_the_2022_winner_sees_15_equally_spaced_slices_between_their_neighbours():
    places = [with_neighbours(count, 1) for count in (30, 2)]
    images = stacked(numbered(30, 2), (30, 2), places)
    assert [len(found) for found in places] == [15, 2]
    assert images.shape[1] == CHANNELS
    assert images[:15, 2].flatten().tolist() == list(range(0, 30, 2))
    assert images[1].flatten().tolist() == [0, 1, 2, 3, 4]
    assert images[0].flatten().tolist() == [0, 0, 0, 1, 2]
    assert images[15:].flatten(1).tolist() == [[100, 100, 100, 101, 101], [100, 100, 101, 101, 101]]


def test_a_repeated_stem_gives_equal_channels_the_answer_of_the_published_one():
    weight = torch.rand(4, 1, 3, 3).expand(4, 3, 3, 3).contiguous()
    slices = torch.rand(2, 1, 8, 8)
    wide = repeated_stem(weight, CHANNELS)
    answers = (torch.conv2d(slices.expand(-1, len(w[0]), -1, -1), w) for w in (weight, wide))
    torch.testing.assert_close(*answers)
    coloured = torch.arange(3.0).view(1, 3, 1, 1)
    assert repeated_stem(coloured, 5).flatten().tolist() == pytest.approx([0, 0.6, 1.2, 0, 0.6])
    assert torch.equal(repeated_stem(coloured, 3), coloured)


def test_the_2022_winner_answers_with_the_mean_logit_of_its_slices():
    network = rsna2022(3, encoder=tiny_efficientnet(CHANNELS), hidden=8).eval()
    volume, mask = torch.rand(2, 1, 6, 20, 24), torch.ones(2, 6, dtype=torch.bool)
    mask[1, 4:] = False
    with torch.inference_mode():
        of_slices, real = network.group_logits(volume, mask)
        answer = network(volume, mask)
    assert torch.equal(real, mask)
    torch.testing.assert_close(answer[0], of_slices[0].mean(dim=0))
    torch.testing.assert_close(answer[1], of_slices[1, :4].mean(dim=0))


def test_the_2023_winner_takes_32_triplets_of_96_equally_spaced_slices_of_a_long_case():
    places = [triplets(count, 1, most=96) for count in (192, 4)]
    images = stacked(numbered(192, 4), (192, 4), places)
    assert [len(found) for found in places] == [32, 2]
    assert images[:32].flatten().tolist() == list(range(0, 192, 2))
    assert images[32:].flatten(1).tolist() == [[100, 101, 102], [103, 103, 103]]
    windows = torch.arange(6.0).view(2, 3, 1, 1)
    assert torch.equal(stacked(windows, (2,), [triplets(2, 3, most=96)]), windows)


def test_equally_spaced_slices_are_distinct_and_in_order():
    for size in (1, 14, 15, 16, 44, 300):
        places = equally_spaced(size, 15)
        assert len(places) == min(size, 15)
        assert places == sorted(set(places))
        assert places[0] == 0
        assert places[-1] < size


def test_coats_attention_is_its_formula():
    width, size = 16, (3, 4)
    attention, relative = FactorAttention(width).double().eval(), ConvRelativePosition(width).double().eval()
    tokens = torch.rand(2, 1 + 12, width, dtype=torch.float64)
    with torch.inference_mode():
        answer = attention(tokens, size, relative)
        query, key, value = attention.qkv(tokens).chunk(3, dim=2)
        expected = torch.zeros_like(tokens)
        per_head = width // HEADS
        kernels = torch.cat([kernel for conv in relative.conv_list for kernel in pad_to_seven(conv.weight)])
        biases = torch.cat([conv.bias for conv in relative.conv_list])
        for head in range(HEADS):
            part = slice(head * per_head, (head + 1) * per_head)
            q, k, v = query[..., part], key[..., part], value[..., part]
            context = torch.einsum("bnc,bnd->bcd", torch.exp(k) / torch.exp(k).sum(1, keepdim=True), v)
            expected[..., part] = torch.einsum("bnc,bcd->bnd", q, context) / math.sqrt(per_head)
            maps = torch.nn.functional.pad(v[:, 1:].reshape(2, 3, 4, per_head), (0, 0, 3, 3, 3, 3))
            for row, column in ((r, c) for r in range(3) for c in range(4)):
                window = maps[:, row : row + 7, column : column + 7].permute(0, 3, 1, 2)
                convolved = (window * kernels[part]).sum(dim=(2, 3)) + biases[part]
                expected[:, 1 + row * 4 + column, part] += q[:, 1 + row * 4 + column] * convolved
        torch.testing.assert_close(answer, attention.proj(expected))


def pad_to_seven(kernels: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Depthwise kernels (C, 1, k, k) in the middle of 7 x 7, one by one as (1, 7, 7)."""
    margin = (7 - kernels.shape[-1]) // 2
    return torch.nn.functional.pad(kernels[:, 0], (margin,) * 4).split(1)


def test_the_whole_coat_lite_medium_answers():
    network = ZOO["rsna2023-coat"].empty(2).encoder.to_empty(device="cpu").eval()
    for parameter in network.parameters():
        torch.nn.init.uniform_(parameter, -0.02, 0.02)
    with torch.inference_mode():
        embeddings = network(torch.rand(1, 3, 64, 64))
    assert embeddings.shape == (1, 512)
    assert embeddings.isfinite().all()


def test_ct_net_pads_with_the_lowest_value_of_each_volume_and_says_so():
    sizes = ZOO["ct-net"].sizes
    assert "padded with its lowest value to 402 x 420 x 420" in sizes.note((240, 300, 300))
    assert sizes.note((402, 420, 420)) is None
    small = CTNet(2, size=(6, 161, 161), widths=(4, 4, 8, 54)).sizes
    volumes = torch.rand(2, 1, 4, 150, 150) - torch.tensor([0.0, 5.0]).view(2, 1, 1, 1, 1)
    fitted = small.fit(volumes)
    for case in range(2):
        assert fitted[case, 0, 0].unique().tolist() == [pytest.approx(volumes[case].min().item())]
        torch.testing.assert_close(fitted[case, :, 1:5, 5:155, 5:155], volumes[case])


def test_ct_net_reads_the_triplets_of_the_paper():
    network = ZOO["ct-net"].empty(18)
    assert network.num_triplets == 134
    assert network.classifier[0].in_features == 7200


def test_convnext_in_two_dimensions_answers_as_transformers_does():
    transformers = pytest.importorskip("transformers", exc_type=ImportError)
    widths, depths = [8, 12, 16, 20], [1, 1, 2, 1]
    config = transformers.ConvNextConfig(hidden_sizes=widths, depths=depths, layer_norm_eps=1e-6)
    reference = transformers.ConvNextModel(config).eval()
    own = ConvNeXt(2, 3, depths=depths, widths=widths).eval()
    for parameter in own.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    reference.load_state_dict({transformers_name(name): value for name, value in own.state_dict().items()})
    images = torch.rand(2, 3, 64, 96)
    with torch.inference_mode():
        torch.testing.assert_close(own(images), reference(images).pooler_output, rtol=1e-4, atol=1e-4)


def transformers_name(name: str) -> str:
    """The official name of a ConvNeXt's parameter -> the one transformers has."""
    part, *rest = name.split(".")
    if part == "norm":
        return f"layernorm.{rest[0]}"
    stage, index, *end = rest
    if part == "downsample_layers" and stage == "0":
        layer = "patch_embeddings" if index == "0" else "layernorm"
        return f"embeddings.{layer}.{end[0]}"
    if part == "downsample_layers":
        return f"encoder.stages.{stage}.downsampling_layer.{index}.{end[0]}"
    end[0] = {"norm": "layernorm", "gamma": "layer_scale_parameter"}.get(end[0], end[0])
    return f"encoder.stages.{stage}.layers.{index}.{'.'.join(end)}"
