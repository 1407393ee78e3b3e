"""Attention of one query, the class token's, that makes no keys and values where it needs none.

With weights W_q, W_k, W_v, biases b and per head h a query q_h = W_qh x_0 + b_qh, the score of token t is
q_h . (W_kh x_t + b_kh) = (W_kh^T q_h) . x_t + q_h . b_kh, and what the head gives, sum_t a_t (W_vh x_t + b_vh) with
sum_t a_t = 1, is W_vh (sum_t a_t x_t) + b_vh. Both are exact in real numbers and cost 2 H D products a token where keys
and values cost 2 D^2. Rotary positions stand between W_k and the query, so with them there are keys; values are
left out all the same.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anymc3d.models.vit_positions import rotate


def has_parts(projection: nn.Module) -> bool:
    """Whether the weight of a fused projection is one matrix that can be taken apart: not that of a layer put in its
    place, nor one of several plugins."""
    return type(projection) is nn.Linear and not getattr(projection.weight, "only_products", False)


def first_token_mixed(tokens: Tensor, qkv: nn.Linear, num_heads: int, rotation: tuple[Tensor, Tensor] | None) -> Tensor:
    """What the first of ``tokens`` (B, T, D) takes from all of them, before the projection: (B, 1, D).

    At least in float32, whatever the precision around it: there is little to compute, and neither keys nor values are
    rounded. ``rotation``: cosine and sine of the patch tokens' rotary positions; the first token has none.
    """
    exact = torch.promote_types(tokens.dtype, torch.float32)
    of_query, of_key, of_value = qkv.weight.chunk(3)
    biases = qkv.bias.to(exact).unflatten(0, (3, num_heads, -1))
    keys = None
    if rotation is not None:
        keys = F.linear(tokens, of_key, qkv.bias.chunk(3)[1]).unflatten(-1, (num_heads, -1)).transpose(1, 2)
        keys = rotate(keys, *rotation).to(exact)
    with torch.autocast(tokens.device.type, enabled=False):
        seen = tokens.to(exact)
        query = F.linear(seen[:, 0], of_query.to(exact)).unflatten(-1, (num_heads, -1)) + biases[0]
        query = query * query.shape[-1] ** -0.5
        if keys is None:
            looking = torch.einsum("bhe,hed->bhd", query, of_key.to(exact).unflatten(0, (num_heads, -1)))
            scores = looking @ seen.transpose(1, 2) + (query * biases[1]).sum(dim=-1, keepdim=True)
        else:
            scores = (keys @ query.unsqueeze(-1)).squeeze(-1)
        mean = scores.softmax(dim=-1) @ seen
        value = torch.einsum("bhd,hed->bhe", mean, of_value.to(exact).unflatten(0, (num_heads, -1)))
        return (value + biases[2]).flatten(1).unsqueeze(1).to(tokens.dtype)
