"""Fusion and head on cached features: the plugin's own modules, fitted to the end in seconds.

Features are standardised with the mean and spread of the training cases' pooled embeddings; the fitted tensors are
put back into raw units, exactly, so what is trained here is what a plugin holds. Pooled without a query the problem
is convex; the query starts from that solution with equal weights. Nothing is drawn at random.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from anymc3d.models.classifier import VolumeClassifier
from anymc3d.models.fusion import QueryFusion
from anymc3d.models.scale import Scale, in_raw_units
from anymc3d.settings.config import LabelSettings, TrainSettings
from anymc3d.train.losses import Loss, make_loss
from anymc3d.train.quick.settings import Candidate

LOSS = TrainSettings(loss="cross-entropy")
_CONVEX_STEPS, _QUERY_STEPS = 100, 15
_FLAT = 1e-6


@dataclass(frozen=True)
class Tokens:
    """Features of n cases. ``views``: view -> (tokens (n, S, D), mask (n, S) of the real slices)."""

    views: Mapping[str, tuple[Tensor, Tensor]]

    def __len__(self) -> int:
        return len(next(iter(self.views.values()))[0])

    @property
    def width(self) -> int:
        """D."""
        return next(iter(self.views.values()))[0].shape[-1]

    def rows(self, index: np.ndarray) -> Tokens:
        """The cases at these positions."""
        wanted = torch.as_tensor(index, dtype=torch.long)
        return Tokens({name: (tokens[wanted], mask[wanted]) for name, (tokens, mask) in self.views.items()})

    def standardised(self, scale: Scale) -> Tokens:
        """Those of mean 0 and spread 1."""
        return Tokens({name: (scale.standardised(x), mask) for name, (x, mask) in self.views.items()})


def stack_tokens(cases: Sequence[Mapping[str, np.ndarray | None]], views: Sequence[str]) -> Tokens:
    """Pad the tokens (S, D) of every case to the most slices of a view; a case without it has no real slice.

    Every view must be there in at least one case.
    """
    stacked = {}
    for name in views:
        found = [case[name] for case in cases]
        there = [tokens for tokens in found if tokens is not None]
        longest, width = max(len(tokens) for tokens in there), there[0].shape[1]
        padded, mask = torch.zeros(len(cases), longest, width), torch.zeros(len(cases), longest, dtype=torch.bool)
        for row, tokens in enumerate(found):
            if tokens is not None:
                padded[row, : len(tokens)] = torch.from_numpy(tokens)
                mask[row, : len(tokens)] = True
        stacked[name] = (padded, mask)
    return Tokens(stacked)


def embed(classifier: VolumeClassifier, tokens: Tokens) -> Tensor:
    """One embedding per case (n, D), as ``VolumeClassifier.fuse`` pools it, for tokens that are padded already."""
    fused, present = [], []
    for view in classifier.views:
        padded, mask = tokens.views[view]
        here = mask.any(dim=1)
        fused.append(classifier.slice_fusion[view](padded, mask | ~here.unsqueeze(1)).embedding)
        present.append(here)
    if classifier.view_fusion is None:
        return fused[0]
    return classifier.view_fusion(torch.stack(fused, dim=1), torch.stack(present, dim=1)).embedding


class HeadLearner:
    """Fits every candidate on some of the cases.

    Args:
        tokens: of all cases.
        targets: (n, L), NaN where missing.
        labels: what the targets mean.
        candidates: the grid, decays from strong to weak within a fusion, the mean before the query.
    """

    def __init__(
        self, tokens: Tokens, targets: np.ndarray, labels: LabelSettings, candidates: Sequence[Candidate]
    ) -> None:
        self.tokens, self.targets, self.labels = tokens, np.asarray(targets), labels
        self.candidates = tuple(candidates)

    def path(self, train: np.ndarray, ask: np.ndarray) -> list[np.ndarray]:
        """Head logits (len(ask), K) of every candidate fitted on the cases ``train``, for the cases ``ask``."""
        scale = measure_scale(self.tokens.rows(train))
        asked = self.tokens.rows(ask).standardised(scale)
        found = []
        for _, classifier in self._fits(train, scale):
            with torch.inference_mode():
                found.append(classifier.head(embed(classifier, asked)).double().numpy())
        return found

    def tensors(self, train: np.ndarray, chosen: int) -> dict[str, Tensor]:
        """The tensors of a plugin, in raw units, of one candidate fitted on the cases ``train``."""
        scale = measure_scale(self.tokens.rows(train))
        for number, (_, classifier) in enumerate(self._fits(train, scale)):
            if number == chosen:
                return in_raw_units(classifier.tensors(), scale, classifier.fusion_name)
        raise IndexError(f"expected a candidate from 0 to {len(self.candidates) - 1}, got {chosen}")

    def new_classifier(self, fusion: str) -> VolumeClassifier:
        """The trainable part of the task on frozen features, all its queries and its head at zero."""
        classifier = VolumeClassifier(
            _Width(self.tokens.width),
            views=tuple(self.tokens.views),
            num_logits=self.labels.num_logits,
            head=self.labels.head,
            fusion=fusion,
            rank=None,
        )
        with torch.no_grad():
            for parameter in (classifier.head.weight, *_queries(classifier)):
                parameter.zero_()
        return classifier

    def _fits(self, train: np.ndarray, scale: Scale) -> Iterator[tuple[Candidate, VolumeClassifier]]:
        tokens, targets = self.tokens.rows(train).standardised(scale), self.targets[train]
        objective = _Objective(make_loss(LOSS, self.labels, targets), torch.from_numpy(targets))
        heads: dict[Candidate, dict[str, Tensor]] = {}
        pooled: dict[str, Tensor] = {}
        before: dict[str, Tensor] | None = None
        for candidate in self.candidates:
            classifier = self.new_classifier(candidate.fusion)
            if candidate.fusion == "query":
                classifier.head.load_state_dict(heads[replace(candidate, fusion="mean")])
                objective.minimise(classifier, candidate.decay, tokens)
            else:
                if candidate.fusion not in pooled:
                    before = None
                    with torch.no_grad():
                        pooled[candidate.fusion] = embed(classifier, tokens)
                if before is not None:
                    classifier.head.load_state_dict(before)
                objective.minimise_head(classifier, candidate.decay, pooled[candidate.fusion])
                before = heads[candidate] = classifier.head.state_dict()
            yield candidate, classifier.eval()


@dataclass(frozen=True)
class _Objective:
    """Mean cross-entropy of a case plus half the decay times the squared norm of head weights and queries.

    A query counts as its scores do, divided by the square root of the width: else it would cost far more than a head.
    """

    loss: Loss
    targets: Tensor

    def minimise_head(self, classifier: VolumeClassifier, decay: float, pooled: Tensor) -> None:
        """Fit the head alone, on pooled embeddings (n, D): a convex problem."""
        head = classifier.head

        def value() -> Tensor:
            return self._misfit(head(pooled)) + 0.5 * decay * head.weight.square().sum()

        _minimise(value, list(head.parameters()), _CONVEX_STEPS)

    def minimise(self, classifier: VolumeClassifier, decay: float, tokens: Tokens) -> None:
        """Fit queries and head together, a few steps from where they are."""

        def value() -> Tensor:
            norm = classifier.head.weight.square().sum()
            norm = norm + sum(query.square().mean() for query in _queries(classifier))
            return self._misfit(classifier.head(embed(classifier, tokens))) + 0.5 * decay * norm

        _minimise(value, list(classifier.parameters()), _QUERY_STEPS)

    def _misfit(self, logits: Tensor) -> Tensor:
        """Per case, not per label: of several labels each weighs as much as it would alone."""
        found = self.loss(logits, self.targets)
        return found.total * self.targets.shape[1] / max(found.count, 1)


def _minimise(value: Callable[[], Tensor], parameters: list[nn.Parameter], steps: int) -> None:
    optimizer = torch.optim.LBFGS(
        parameters, max_iter=steps, tolerance_grad=1e-5, tolerance_change=1e-8, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        current = value()
        current.backward()
        return current

    optimizer.step(closure)


class _Width(nn.Module):
    """Stands for the backbone, of which a frozen task needs the embedding width alone."""

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        self.embed_dim = embed_dim


def measure_scale(tokens: Tokens) -> Scale:
    """Mean and spread over the cases of their mean embedding; a constant dimension keeps a spread of 1."""
    sums, counts = 0.0, 0.0
    for padded, mask in tokens.views.values():
        weight = mask.unsqueeze(-1).double()
        number = weight.sum(dim=1)
        sums = sums + (padded.double() * weight).sum(dim=1) / number.clamp_min(1)
        counts = counts + (number > 0).double()
    embeddings = sums / counts
    spread = embeddings.std(dim=0, unbiased=False)
    mean, spread = embeddings.mean(dim=0), torch.where(spread > _FLAT, spread, torch.ones_like(spread))
    return Scale(mean.float(), spread.float())


def _queries(classifier: VolumeClassifier) -> list[nn.Parameter]:
    fusions = [*classifier.slice_fusion.values(), classifier.view_fusion]
    return [fusion.query for fusion in fusions if isinstance(fusion, QueryFusion)]
