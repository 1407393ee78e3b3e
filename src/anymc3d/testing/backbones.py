"""What every backbone promises, see :mod:`anymc3d.models.backbone_protocol`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.testing import assert_close

from anymc3d.models.architectures import random_backbone
from anymc3d.models.layouts.table import canonical_state
from anymc3d.models.lora import LoRA
from anymc3d.models.own_backbones import OWN_BACKBONES, OwnBackbone
from anymc3d.testing.tables import tables_as_before


class BackboneTests:
    """Inherit and give the ``backbone`` and a small configuration: ``config``."""

    name = "backbone-under-test"
    backbone: OwnBackbone
    config: Any

    def setup_method(self) -> None:
        """Register the architecture, unless it is, and make a network of random weights."""
        self._before = tables_as_before()
        self._before.__enter__()
        if self.backbone not in [OWN_BACKBONES[name] for name in OWN_BACKBONES]:
            OWN_BACKBONES.register(self.name, self.backbone)
        self.network: Any = random_backbone(self.config)

    def teardown_method(self) -> None:
        """Leave everything as it was."""
        self._before.__exit__(None, None, None)

    def test_tokens_are_class_token_other_prefix_tokens_and_patches(self) -> None:
        tokens = self.network(self._images()).tokens
        assert tokens.shape == (2, self.config.num_prefix_tokens + 6, self.config.embed_dim)
        for fact in ("embed_dim", "patch_size", "num_prefix_tokens"):
            assert getattr(self.network, fact) == getattr(self.config, fact), fact

    def test_the_class_token_alone_is_that_of_the_whole_output(self) -> None:
        whole, alone = self.network(self._images()), self.network(self._images(), class_token_only=True)
        assert_close(alone.tokens, whole.tokens[:, :1], atol=1e-5, rtol=0)

    def test_the_forward_pass_is_pure(self) -> None:
        first = self.network.train()(self._images()).tokens
        assert torch.equal(self.network.eval()(self._images()).tokens, first)
        assert_close(self.network(self._images()[:1]).tokens, first[:1], atol=1e-5, rtol=0)

    def test_attention_maps_change_no_token_and_add_up_to_one(self) -> None:
        if not self.config.depth:
            return
        plain, with_maps = (self.network(self._images(), attention_blocks=blocks) for blocks in ((), (0,)))
        assert_close(with_maps.tokens, plain.tokens, atol=1e-5, rtol=0)
        assert_close(with_maps.attention[0].sum(dim=-1), torch.ones(with_maps.attention[0].shape[:-1]))

    def test_LoRA_starts_as_nothing_and_reaches_the_class_token(self) -> None:
        lora = LoRA(self.network, rank=2, alpha=4, generator=torch.Generator().manual_seed(0))
        plain = self.network(self._images()).tokens
        adapted = functional_call(self.network, lora.weights(self.network), (self._images(),)).tokens
        assert_close(adapted, plain, atol=1e-5, rtol=0)
        for b in lora.b:
            nn.init.constant_(b, 0.1)
        moved = functional_call(self.network, lora.weights(self.network), (self._images(),)).tokens
        moved[:, 0].pow(2).sum().backward()
        assert not torch.allclose(moved[:, 0], plain[:, 0])
        still = [path for path, a in zip(lora.paths, lora.a, strict=True) if a.grad is None or not a.grad.any()]
        assert not still, f"adapted, and without an effect on the class token: {', '.join(still)}"

    def test_its_matrices_are_weights_of_its_own(self) -> None:
        parameters = dict(self.network.named_parameters())
        for name, matrix in self.network.matrices(torch.bfloat16).items():
            assert matrix.dtype == torch.bfloat16
            assert matrix.shape == parameters[name].shape

    def test_what_the_store_writes_is_read_as_the_same(self) -> None:
        before = self.network.state_dict()
        config, tensors = canonical_state(before)
        assert config == self.config
        assert tensors.keys() == before.keys()
        assert all(torch.equal(tensors[name], before[name]) for name in before)

    def _images(self) -> Tensor:
        patch = self.config.patch_size
        return torch.randn(2, 3, 2 * patch, 3 * patch, generator=torch.Generator().manual_seed(0))
