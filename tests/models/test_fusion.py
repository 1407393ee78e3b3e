"""Fusions look at real slices only, and weigh all of them."""

import math

import numpy as np
import pytest
import torch

from anymc3d.errors import UsageError
from anymc3d.models.fusion import FUSIONS, SET_FUSIONS, QueryFusion, build_fusion, pad_cases
from anymc3d.testing import FusionTests

WIDTH = 16


def fusion_named(name, width=WIDTH):
    return build_fusion(name, width, torch.Generator().manual_seed(0))


def whole(*shape):
    return torch.ones(*shape, dtype=torch.bool)


@pytest.fixture(autouse=True)
def each(request):
    """The tests of a class of fusions run for each of them."""
    if request.cls is not None:
        request.cls.fusion, request.cls.of_a_set = request.param, request.param in SET_FUSIONS


@pytest.mark.parametrize("each", FUSIONS, indirect=True)
class TestEveryFusion(FusionTests):
    """What an own fusion is tested by holds for the program's."""

    width = WIDTH

    def make(self, width, generator):
        return build_fusion(self.fusion, width, generator)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("query", 1024),
        ("mean", 0),
        ("max", 0),
        ("median", 0),
        ("lstm", 5_511_168),
        ("lstm-mil", 12_600_320),
        ("transformer", 6_962_176),
        ("mst-positions", 6_566_912),
        ("mst", 6_304_768),
    ],
)
def test_parameter_counts_at_vit_large_are_those_of_table_5(name, count):
    assert sum(p.numel() for p in fusion_named(name, 1024).parameters()) == count


@pytest.mark.parametrize("width", [32, 384, 768, 1024, 1152])
@pytest.mark.parametrize("name", FUSIONS)
def test_every_fusion_fits_every_backbone(name, width):
    assert fusion_named(name, width).out_dim > 0


def test_query_is_the_formula_of_the_paper():
    fusion = fusion_named("query")
    slices = torch.randn(1, 4, WIDTH)
    h, q = slices[0].double().numpy(), fusion.query.detach().double().numpy()
    scores = h @ q / math.sqrt(WIDTH)
    weights = np.exp(scores) / np.exp(scores).sum()
    result = fusion(slices, whole(1, 4))
    np.testing.assert_allclose(result.weights[0].detach().numpy(), weights, rtol=1e-5)
    np.testing.assert_allclose(result.embedding[0].detach().numpy(), weights @ h, rtol=1e-4, atol=1e-6)


def test_query_pooling_has_one_parameter_per_channel():
    assert sum(p.numel() for p in QueryFusion(1024, torch.Generator()).parameters()) == 1024


def test_parameter_free_fusions_equal_numpy():
    slices = torch.randn(3, 6, WIDTH)
    for name, reference in (("mean", np.mean), ("max", np.max), ("median", np.median)):
        fused = fusion_named(name)(slices, whole(3, 6)).embedding
        np.testing.assert_allclose(fused.numpy(), reference(slices.numpy(), axis=1), rtol=1e-5, atol=1e-6)


def test_lstm_gives_the_last_state_of_torchs_packed_sequences():
    fusion = fusion_named("lstm")
    padded, mask = pad_cases(torch.randn(10, WIDTH), (3, 6, 1))
    packed = torch.nn.utils.rnn.pack_padded_sequence(padded, [3, 6, 1], batch_first=True, enforce_sorted=False)
    _, (last, _) = fusion.lstm(packed)
    torch.testing.assert_close(fusion(padded, mask).embedding, last[0])


def test_lstm_mil_is_attention_over_the_states_of_each_case_read_alone():
    fusion = fusion_named("lstm-mil")
    padded, mask = pad_cases(torch.randn(10, WIDTH), (3, 6, 1))
    result = fusion(padded, mask)
    for case, count in enumerate((3, 6, 1)):
        states = fusion.lstm(padded[case, :count])[0].detach().double().numpy()
        scores = np.tanh(states) @ fusion.score.weight[0].detach().double().numpy()
        weights = np.exp(scores) / np.exp(scores).sum()
        np.testing.assert_allclose(result.weights[case, :count].detach().numpy(), weights, rtol=1e-4)
        np.testing.assert_allclose(result.embedding[case].detach().numpy(), weights @ states, rtol=1e-4, atol=1e-6)


def test_lstm_mil_draws_nothing_in_training():
    fusion = fusion_named("lstm-mil").train()
    slices = torch.randn(2, 5, WIDTH)
    first, second = (fusion(slices, whole(2, 5)).embedding for _ in range(2))
    assert torch.equal(first, second)


def test_lstm_mil_refuses_a_width_that_cannot_be_halved():
    with pytest.raises(UsageError, match="even embedding width, got 15; use fusion: lstm"):
        fusion_named("lstm-mil", 15)


@pytest.mark.parametrize("name", ["transformer", "mst", "mst-positions"])
def test_transformers_equal_torchs_encoder(name):
    fusion = fusion_named(name)
    first = fusion.layers[0]
    options = {"dropout": 0.0, "batch_first": True, "norm_first": True}
    layer = torch.nn.TransformerEncoderLayer(
        fusion.out_dim, first.self_attn.num_heads, first.linear1.out_features, **options
    )
    encoder = torch.nn.TransformerEncoder(
        layer, len(fusion.layers), torch.nn.LayerNorm(fusion.out_dim), enable_nested_tensor=False
    )
    encoder.load_state_dict({k: v for k, v in fusion.state_dict().items() if k.startswith(("layers.", "norm."))})
    padded, mask = pad_cases(torch.randn(10, WIDTH), (3, 6, 1))
    tokens = fusion.project(padded) + (0 if fusion.positions is None else fusion.positions[:6])
    tokens = torch.cat([fusion.class_token.expand(3, 1, -1), tokens], dim=1)
    padding = torch.cat([torch.zeros(3, 1, dtype=torch.bool), ~mask], dim=1)
    expected = encoder(tokens, src_key_padding_mask=padding)[:, 0]
    torch.testing.assert_close(fusion(padded, mask).embedding, expected)


@pytest.mark.parametrize("name", ["transformer", "mst-positions"])
def test_more_slices_than_positions_is_an_error_that_names_the_limit(name):
    fusion = fusion_named(name)
    assert fusion(torch.randn(1, 256, WIDTH), whole(1, 256)).embedding.isfinite().all()
    with pytest.raises(UsageError, match=r"256 slice positions, got a case with 257 slices; .* fusion: query"):
        fusion(torch.randn(1, 257, WIDTH), whole(1, 257))


def test_without_positions_any_number_of_slices_may_come():
    assert fusion_named("mst")(torch.randn(1, 300, WIDTH), whole(1, 300)).embedding.isfinite().all()


def test_a_width_that_the_heads_do_not_divide_is_refused():
    with pytest.raises(UsageError, match="8 heads do not divide a width of 10"):
        fusion_named("transformer", 20)


def test_pad_cases_puts_every_slice_back_in_its_case():
    packed = torch.arange(6.0).unsqueeze(1)
    padded, mask = pad_cases(packed, (2, 0, 4))
    assert mask.sum(dim=1).tolist() == [2, 0, 4]
    assert torch.equal(padded[mask], packed)


def test_unknown_fusion_suggests_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'median'"):
        build_fusion("medain", 4, torch.Generator())
