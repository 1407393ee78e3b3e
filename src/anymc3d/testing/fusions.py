"""What every fusion promises."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.testing import assert_close

from anymc3d.models.fusion import Fused, pad_cases


class FusionTests:
    """Inherit and say how the fusion is made: ``make``. Where the order of slices must not matter set ``of_a_set``."""

    width = 16
    of_a_set: bool | None = None
    """Whether slices in another order give the same embedding; None: nothing is said of it."""

    def make(self, width: int, generator: torch.Generator) -> nn.Module:
        """The fusion for slice embeddings of this width."""
        raise NotImplementedError("say how the fusion is made: def make(self, width, generator)")

    def test_it_gives_an_embedding_of_its_width_and_weights_that_add_up_to_one(self) -> None:
        fusion, embeddings = self._fusion(), self._slices(2, 7)
        fused = fusion(embeddings, _whole(2, 7))
        assert isinstance(fused, Fused), f"expected anymc3d.models.fusion.Fused, got {type(fused).__name__}"
        assert fused.embedding.shape == (2, fusion.out_dim)
        assert fused.weights.shape == (2, 7)
        assert_close(fused.weights.sum(dim=1), torch.ones(2))

    def test_padded_slices_change_nothing(self) -> None:
        fusion, embeddings = self._fusion(), self._slices(1, 5)
        alone = fusion(embeddings, _whole(1, 5))
        for stranger in (0.0, 99.0, -1e6):
            longer = torch.cat([embeddings, torch.full((1, 3, self.width), stranger)], dim=1)
            fused = fusion(longer, torch.arange(8).unsqueeze(0) < 5)
            assert_close(fused.embedding, alone.embedding)
            assert_close(fused.weights[:, :5], alone.weights)
            assert not fused.weights[:, 5:].any()

    def test_other_cases_of_a_batch_change_nothing(self) -> None:
        fusion = self._fusion()
        padded, mask = pad_cases(self._slices(12), (3, 8, 1))
        together = fusion(padded, mask).embedding
        alone = [fusion(padded[i : i + 1, :n], _whole(1, n)).embedding for i, n in enumerate((3, 8, 1))]
        assert_close(together, torch.cat(alone))

    def test_the_order_of_slices_matters_as_was_said(self) -> None:
        if self.of_a_set is None:
            return
        fusion, embeddings, order = self._fusion(), self._slices(2, 7), torch.tensor([3, 0, 6, 1, 5, 2, 4])
        straight = fusion(embeddings, _whole(2, 7)).embedding
        other = fusion(embeddings[:, order], _whole(2, 7)).embedding
        assert torch.allclose(straight, other, atol=1e-5) == self.of_a_set

    def test_the_generator_alone_decides_the_initial_values(self) -> None:
        first = self._fusion()
        torch.rand(10)
        second = self._fusion()
        assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))

    def test_every_parameter_and_every_slice_gets_a_gradient(self) -> None:
        fusion, embeddings = self._fusion(), self._slices(3, 5).requires_grad_()
        (fusion(embeddings, _whole(3, 5)).embedding ** 2).sum().backward()
        assert embeddings.grad is not None
        assert embeddings.grad.any()
        untrained = [
            name for name, parameter in fusion.named_parameters() if parameter.grad is None or not parameter.grad.any()
        ]
        assert not untrained, f"parameters without a gradient: {', '.join(untrained)}"

    def test_it_holds_no_state_that_a_plugin_would_lose(self) -> None:
        names = {name for name, _ in self._fusion().named_buffers()}
        assert not names, f"a plugin stores parameters alone, these are buffers: {', '.join(sorted(names))}"

    def _fusion(self) -> nn.Module:
        return self.make(self.width, torch.Generator().manual_seed(0))

    def _slices(self, *shape: int) -> Tensor:
        return torch.randn(*shape, self.width, generator=torch.Generator().manual_seed(1))


def _whole(*shape: int) -> Tensor:
    return torch.ones(*shape, dtype=torch.bool)
