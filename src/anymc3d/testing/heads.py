"""What every head promises."""

from __future__ import annotations

import torch
from torch import nn
from torch.testing import assert_close


class HeadTests:
    """Inherit and say how the head is made: ``make``."""

    width, num_logits = 16, 3

    def make(self, width: int, num_logits: int, generator: torch.Generator) -> nn.Module:
        """The head for embeddings of this width."""
        raise NotImplementedError("say how the head is made: def make(self, width, num_logits, generator)")

    def test_it_gives_one_logit_each_and_looks_at_each_case_alone(self) -> None:
        head, embeddings = self._head(), torch.randn(4, self.width, generator=torch.Generator().manual_seed(1))
        logits = head(embeddings)
        assert logits.shape == (4, self.num_logits)
        assert logits.isfinite().all()
        assert_close(head(embeddings[1:2]), logits[1:2])

    def test_the_generator_alone_decides_the_initial_values(self) -> None:
        first = self._head()
        torch.rand(10)
        second = self._head()
        assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))

    def test_every_parameter_gets_a_gradient(self) -> None:
        head = self._head()
        head(torch.randn(4, self.width, generator=torch.Generator().manual_seed(1))).pow(2).sum().backward()
        assert all(parameter.grad is not None and parameter.grad.any() for parameter in head.parameters())

    def test_it_holds_no_state_that_a_plugin_would_lose(self) -> None:
        assert not list(self._head().named_buffers()), "a plugin stores parameters alone"

    def _head(self) -> nn.Module:
        return self.make(self.width, self.num_logits, torch.Generator().manual_seed(0))
