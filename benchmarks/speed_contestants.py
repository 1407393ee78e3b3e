"""The two sides of ``speed.py``: this package, and the plain way (transformers + PEFT), with the same numbers in both.

PEFT wraps query, key and value apart, this package their fused projection. So that the logits agree, the three PEFT
pairs get the same A and each its own third of B.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

import torch
from torch import Tensor, nn

from anymc3d.models.backbones import IMAGENET_MEAN, IMAGENET_STD, card
from anymc3d.models.classifier import Encoding, PackedSlices, VolumeClassifier, to_backbone_input
from anymc3d.models.layouts.table import canonical_state
from anymc3d.models.seam import TrunkTokens
from anymc3d.models.vit import VisionTransformer, empty_vit, random_vit
from anymc3d.models.weight_files import read_weights

WEIGHTS_FOLDER = Path(__file__).resolve().parents[2] / "shared" / "models" / "dinov2-small-fp16"
BACKBONE = "dinov2-small"
PLAIN = "plain: transformers + PEFT"
RANK, ALPHA, NUM_LOGITS = 8, 16.0, 2
PEFT_TARGETS = ["projection", "q_proj", "k_proj", "v_proj", "o_proj"]


@dataclass(frozen=True)
class Work:
    """``batch`` cases of ``num_slices`` random slices of ``size`` x ``size`` pixels, one after the other."""

    size: int
    num_slices: int
    batch: int

    @property
    def total(self) -> int:
        return self.num_slices * self.batch

    def slices(self, device: torch.device) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        return torch.rand(self.total, 1, self.size, self.size, generator=generator).to(device)


@dataclass(frozen=True)
class Contestant:
    """``logits(slices, work)`` of all cases (B, K), and the tensors that training changes.

    ``step_logits``: the same in a training step, where that begins with what an earlier epoch kept; ``keep`` makes it,
    before the clock runs. ``is_compared``: it holds the numbers of the plain way, so its logits must be the same.
    """

    name: str
    logits: Callable[[Tensor, Work], Tensor]
    parameters: list[nn.Parameter]
    step_logits: Callable[[Tensor, Work], Tensor] | None = None
    keep: Callable[[Tensor, Work], None] | None = None
    is_compared: bool = True


def encoding(dtype: torch.dtype, chunk_size: int) -> Encoding:
    return Encoding(mean=IMAGENET_MEAN, std=IMAGENET_STD, chunk_size=chunk_size, dtype=dtype)


def our_backbone(source: Any | None, device: torch.device) -> VisionTransformer:
    """The frozen network with the numbers of ``source`` (a transformers model), or from the folder, or random."""
    config = replace(card(BACKBONE).config, position_rule="hf")
    if source is not None:
        tensors = canonical_state(source.state_dict())[1]
    elif WEIGHTS_FOLDER.is_dir():
        tensors = read_weights(WEIGHTS_FOLDER)[1]
    else:
        tensors = random_vit(config).state_dict()
    module = empty_vit(config)
    module.load_state_dict({name: t.to(torch.float32, copy=True) for name, t in tensors.items()}, assign=True)
    return module.eval().requires_grad_(False).to(device)


def our_classifier(backbone: VisionTransformer, seed: int = 0, blocks: int | None = None) -> VolumeClassifier:
    """A plugin whose every tensor is random, as after training, so that nothing is compared with zero."""
    classifier = VolumeClassifier(
        backbone, views=["image"], num_logits=NUM_LOGITS, rank=RANK, alpha=ALPHA, blocks=blocks, seed=seed
    ).to(backbone.cls_token.device)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in classifier.parameters():
            noise = 0.02 * torch.randn(parameter.shape, generator=generator)
            parameter.add_(noise.to(parameter.device))
    return classifier


def ours(
    name: str, backbone: VisionTransformer, classifier: VolumeClassifier, dtype: torch.dtype, chunk_size: int
) -> Contestant:
    settings = encoding(dtype, chunk_size)

    def logits(slices: Tensor, work: Work) -> Tensor:
        packed = PackedSlices(slices, (work.num_slices,) * work.batch)
        return classifier(backbone, {"image": packed}, settings).logits

    return Contestant(name, logits, list(classifier.parameters()))


def ours_last(
    name: str, backbone: VisionTransformer, classifier: VolumeClassifier, dtype: torch.dtype, chunk_size: int
) -> Contestant:
    """A plugin of the last blocks; training steps begin with kept trunk tokens, as from the second epoch on."""
    settings, whole = encoding(dtype, chunk_size), ours(name, backbone, classifier, dtype, chunk_size)
    kept: dict[Work, TrunkTokens] = {}

    def keep(slices: Tensor, work: Work) -> None:
        packed = PackedSlices(slices, (work.num_slices,) * work.batch)
        with torch.no_grad():
            parts = list(classifier.starts(backbone, "image", packed, settings))
        kept[work] = parts[0]._replace(tokens=torch.cat([part.tokens for part in parts]))

    def step_logits(slices: Tensor, work: Work) -> Tensor:
        packed = PackedSlices(slices[:0], (work.num_slices,) * work.batch, trunk=kept[work])
        return classifier(backbone, {"image": packed}, settings).logits

    return replace(whole, step_logits=step_logits, keep=keep, is_compared=False)


def bare(name: str, backbone: VisionTransformer, chunk_size: int, *, class_token_only: bool) -> Contestant:
    """The backbone alone, no LoRA, fusion or head, float32; its "logits" are class tokens."""
    settings = encoding(torch.float32, chunk_size)

    def tokens(slices: Tensor, work: Work) -> Tensor:
        chunks = (to_backbone_input(chunk, backbone.patch_size, settings) for chunk in slices.split(chunk_size))
        return torch.cat([backbone(chunk, class_token_only=class_token_only).tokens[:, 0] for chunk in chunks])

    return Contestant(name, tokens, [])


def plain_model() -> Any:
    """The transformers model in float32, from the folder of weights, or random."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    if WEIGHTS_FOLDER.is_dir():
        return transformers.Dinov2Model.from_pretrained(WEIGHTS_FOLDER, dtype=torch.float32).eval()
    config = card(BACKBONE).config
    torch.manual_seed(0)
    shape = {"hidden_size": config.embed_dim, "num_hidden_layers": config.depth, "image_size": 518}
    shape |= {"num_attention_heads": config.num_heads, "patch_size": config.patch_size}
    return transformers.Dinov2Model(transformers.Dinov2Config(**shape)).eval()


def plain_adapted(model: Any) -> Any:
    """The transformers model wrapped by PEFT (in place)."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=PEFT_TARGETS, bias="none")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return get_peft_model(model, config).eval()


def peft_names(path: str) -> list[str]:
    """Our target -> the PEFT modules that hold its numbers: one, or three for a fused projection."""
    if path == "patch_embed.proj":
        return ["embeddings.patch_embeddings.projection"]
    _, block, _, leaf = path.split(".")
    leaves = ["o_proj"] if leaf == "proj" else ["q_proj", "k_proj", "v_proj"]
    return [f"encoder.layer.{block}.attention.{name}" for name in leaves]


def copy_pairs(classifier: VolumeClassifier, adapted: Any) -> None:
    """Write our pairs into the PEFT model."""
    lora = classifier.lora["image"]
    with torch.no_grad():
        for path, a, b in zip(lora.paths, lora.a, lora.b, strict=True):
            names = peft_names(path)
            for name, third in zip(names, b.chunk(len(names)), strict=True):
                module = adapted.base_model.model.get_submodule(name)
                module.lora_A["default"].weight.copy_(a)
                module.lora_B["default"].weight.copy_(third)


def pair_gradients(classifier: VolumeClassifier, adapted: Any) -> tuple[Tensor, Tensor]:
    """All LoRA gradients of both sides as two vectors; the three PEFT copies of A add up to ours."""
    lora = classifier.lora["image"]
    mine, theirs = [], []
    for path, a, b in zip(lora.paths, lora.a, lora.b, strict=True):
        modules = [adapted.base_model.model.get_submodule(name) for name in peft_names(path)]
        theirs += [sum(m.lora_A["default"].weight.grad for m in modules).flatten()]
        theirs += [m.lora_B["default"].weight.grad.flatten() for m in modules]
        mine += [a.grad.flatten(), b.grad.flatten()]
    return torch.cat(mine), torch.cat(theirs)


def plain(name: str, adapted: Any, classifier: VolumeClassifier, dtype: torch.dtype, chunk_size: int) -> Contestant:
    """transformers + PEFT, then one query and a linear head with the numbers of ``classifier``."""
    device = next(adapted.parameters()).device
    settings = encoding(dtype, chunk_size)
    query = nn.Parameter(classifier.tensors()["task_query"].detach().clone())
    head = nn.Linear(query.shape[0], NUM_LOGITS).to(device)
    head.load_state_dict(classifier.head.state_dict())

    def logits(slices: Tensor, work: Work) -> Tensor:
        tokens = []
        for chunk in slices.split(chunk_size):
            images = to_backbone_input(chunk, 14, settings)
            with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                tokens.append(adapted(pixel_values=images).last_hidden_state[:, 0].float())
        cases = torch.cat(tokens).unflatten(0, (work.batch, work.num_slices))
        weights = (cases @ query / query.shape[0] ** 0.5).softmax(dim=1)
        return head((weights.unsqueeze(-1) * cases).sum(dim=1))

    trained = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
    return Contestant(name, logits, [*trained, query, *head.parameters()])
