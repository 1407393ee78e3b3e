"""Fusions with a recurrent network: the last state of an LSTM (docs/methods.md), and attention over the states of one
that reads in both directions (docs/methods.md).

Called as the set fusions are, see ``anymc3d.models.fusion``; real slices come first in each row of the mask.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from anymc3d.errors import UsageError
from anymc3d.models.sequence_fusion import Fused


class LSTMFusion(nn.Module):
    """One LSTM from the first slice to the last; the state after the last real slice is the embedding.

    The state is 3/4 as wide as a slice embedding: 1024 -> 768 has the 5.5 M parameters of Table 5. An LSTM weighs no
    slice, so ``weights`` are equal.
    """

    def __init__(self, embed_dim: int, generator: torch.Generator) -> None:
        super().__init__()
        self.out_dim = embed_dim * 3 // 4
        self.lstm = nn.LSTM(embed_dim, self.out_dim, batch_first=True)
        _initialise(self.lstm, generator)

    def forward(self, embeddings: Tensor, mask: Tensor) -> Fused:
        states, _ = self.lstm(embeddings)
        # Reading forwards, no state sees the padding behind it, so taking the last real one ignores padding exactly.
        last = (mask.sum(dim=1) - 1).view(-1, 1, 1).expand(-1, 1, self.out_dim)
        return Fused(states.gather(1, last).squeeze(1), mask.to(embeddings.dtype) / mask.sum(dim=1, keepdim=True))


class LSTMAttention(nn.Module):
    """Two layers of an LSTM in both directions, then attention over the slices: the RSNA 2024 winner's head.

    Every slice gets a state as wide as its embedding, half from each direction; the weight of a slice is the softmax,
    over the real slices, of a linear map of tanh(state). The map has no bias: the softmax would not see it.

    Args:
        embed_dim: D of the slice embeddings.
        generator: of the initial values.
        dropout: between the two layers. As a fusion 0, so that a run depends on its seed alone; the winner has 0.1.

    Raises:
        UsageError: the width cannot be halved.
    """

    def __init__(self, embed_dim: int, generator: torch.Generator, *, dropout: float = 0.0) -> None:
        super().__init__()
        if embed_dim % 2:
            raise UsageError(f"fusion: lstm-mil needs an even embedding width, got {embed_dim}; use fusion: lstm")
        self.out_dim = embed_dim
        self.lstm = nn.LSTM(
            embed_dim, embed_dim // 2, num_layers=2, bidirectional=True, batch_first=True, dropout=dropout
        )
        self.score = nn.Linear(embed_dim, 1, bias=False)
        _initialise(self.lstm, generator)
        nn.init.xavier_uniform_(self.score.weight, generator=generator)

    def forward(self, embeddings: Tensor, mask: Tensor) -> Fused:
        return self.attend(self.states(embeddings, mask), mask)

    def states(self, embeddings: Tensor, mask: Tensor) -> Tensor:
        """What the LSTM makes of every slice (B, S, D); 0 at padding."""
        return read(self.lstm, embeddings, mask.sum(dim=1).tolist())

    def attend(self, states: Tensor, mask: Tensor) -> Fused:
        """The states by the weights that attention gives them."""
        scores = self.score(states.tanh()).squeeze(-1)
        weights = scores.masked_fill(~mask, -math.inf).softmax(dim=1)
        return Fused(torch.einsum("bs,bsd->bd", weights, states), weights)


def read(lstm: nn.LSTM | nn.GRU, embeddings: Tensor, counts: Sequence[int]) -> Tensor:
    """States (B, T, 2 * hidden) of a network that reads the real items of each case only, in both directions.

    Args:
        lstm: bidirectional and batch first.
        embeddings: (B, T, D), the real items of each case first.
        counts: how many are real, at least one each; states of the others are 0.
    """
    sequence = pack_padded_sequence(
        embeddings, torch.tensor(counts, device="cpu"), batch_first=True, enforce_sorted=False
    )
    return pad_packed_sequence(lstm(sequence)[0], batch_first=True, total_length=embeddings.shape[1])[0]


def _initialise(lstm: nn.LSTM, generator: torch.Generator) -> None:
    bound = 1 / math.sqrt(lstm.hidden_size)
    for parameter in lstm.parameters():
        nn.init.uniform_(parameter, -bound, bound, generator=generator)
