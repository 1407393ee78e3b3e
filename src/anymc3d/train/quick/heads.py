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

from anymc3d.evaluate.regression.scale import UNIT
from anymc3d.models.classifier import VolumeClassifier
from anymc3d.models.fusion import CONCAT, FUSIONS, QueryFusion, SideBySide, fused_by
from anymc3d.models.standardisation import Scale, in_raw_units
from anymc3d.settings.config import LabelSettings
from anymc3d.settings.training import TrainSettings
from anymc3d.train.losses import Loss, NumberLoss, make_loss
from anymc3d.train.quick.settings import Candidate

LOSS, NUMBER_LOSS = TrainSettings(loss="cross-entropy"), TrainSettings(loss="mse")
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
        """D of the first view."""
        return next(iter(self.widths.values()))

    @property
    def widths(self) -> dict[str, int]:
        """View -> D."""
        return {name: tokens.shape[-1] for name, (tokens, _) in self.views.items()}

    def rows(self, index: np.ndarray) -> Tokens:
        """The cases at these positions."""
        wanted = torch.as_tensor(index, dtype=torch.long)
        return Tokens({name: (tokens[wanted], mask[wanted]) for name, (tokens, mask) in self.views.items()})

    def standardised(self, scales: Mapping[str, Scale]) -> Tokens:
        """Those of mean 0 and spread 1; ``scales``: by view."""
        return Tokens({name: (scales[name].standardised(x), mask) for name, (x, mask) in self.views.items()})


def stack_tokens(cases: Sequence[Mapping[str, np.ndarray | None]], views: Sequence[str]) -> Tokens:
    """Pad the tokens (S, D) of every case to the most slices of a view; a case without it has no real slice.

    Every view must be there in at least one case.
    """
    stacked = {}
    for name in views:
        of_view = [case[name] for case in cases]
        present = [tokens for tokens in of_view if tokens is not None]
        longest, width = max(len(tokens) for tokens in present), present[0].shape[1]
        padded, mask = torch.zeros(len(cases), longest, width), torch.zeros(len(cases), longest, dtype=torch.bool)
        for row, tokens in enumerate(of_view):
            if tokens is not None:
                padded[row, : len(tokens)] = torch.from_numpy(tokens)
                mask[row, : len(tokens)] = True
        stacked[name] = (padded, mask)
    return Tokens(stacked)


def _fused(fusion: nn.Module, padded: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """One row a case (n, 1, D), and whether it is real (n, 1): whether the case has the view."""
    here = mask.any(dim=1, keepdim=True)
    return fused_by(fusion, padded, mask | ~here).embedding.unsqueeze(1), here


def embed(classifier: VolumeClassifier, tokens: Tokens) -> Tensor:
    """One embedding per case (n, D), as ``VolumeClassifier.fuse`` pools it, for tokens that are padded already."""
    fused, present = [], []
    for view in classifier.views:
        padded, mask = tokens.views[view]
        has_view = mask.any(dim=1)
        fused.append(classifier.slice_fusion[view](padded, mask | ~has_view.unsqueeze(1)).embedding)
        present.append(has_view)
    if classifier.view_fusion is None:
        return fused[0]
    if isinstance(classifier.view_fusion, SideBySide):
        return classifier.view_fusion(fused, torch.stack(present, dim=1)).embedding
    return classifier.view_fusion(torch.stack(fused, dim=1), torch.stack(present, dim=1)).embedding


class HeadLearner:
    """Fits every candidate on some of the cases.

    Args:
        tokens: of all cases; with candidates of several representations, by their names.
        targets: (n, L), NaN where missing; numbers standardised.
        labels: what the targets mean.
        candidates: the grid, decays from strong to weak within a fusion, the mean before the query.
    """

    def __init__(
        self,
        tokens: Tokens | Mapping[str, Tokens],
        targets: np.ndarray,
        labels: LabelSettings,
        candidates: Sequence[Candidate],
    ) -> None:
        self.candidates = tuple(candidates)
        names = dict.fromkeys(candidate.features for candidate in self.candidates)
        self.tokens = dict.fromkeys(names, tokens) if isinstance(tokens, Tokens) else dict(tokens)
        self.targets, self.labels = np.asarray(targets), labels
        self._fused_by_own: dict[tuple[str, str], Tokens] = {}

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many numbers the head sees of a case, for each candidate."""
        return tuple(self.new_classifier(candidate).head.weight.shape[1] for candidate in self.candidates)

    def path(self, train: np.ndarray, ask: np.ndarray) -> list[np.ndarray]:
        """Head logits (len(ask), K) of every candidate fitted on the cases ``train``, for the cases ``ask``."""
        logits = []
        for candidate, classifier, scales in self._fits(train):
            standardised = self._seen(candidate).rows(ask).standardised(scales)
            with torch.inference_mode():
                logits.append(classifier.head(embed(classifier, standardised)).double().numpy())
        return logits

    def tensors(self, train: np.ndarray, chosen: int) -> dict[str, Tensor]:
        """The tensors of a plugin, in raw units, of one candidate fitted on the cases ``train``."""
        for number, (_, classifier, scales) in enumerate(self._fits(train)):
            if number == chosen:
                return in_raw_units(classifier.tensors(), scales, classifier.fusion_name)
        raise IndexError(f"expected a candidate from 0 to {len(self.candidates) - 1}, got {chosen}")

    def _on_one_row(self, candidate: Candidate, tokens: Tokens) -> VolumeClassifier:
        """What follows an own fusion: the mean of one row is that row."""
        return self.new_classifier(replace(candidate, fusion="mean"), tokens.widths)

    def new_classifier(self, candidate: Candidate, widths: Mapping[str, int] | None = None) -> VolumeClassifier:
        """The trainable part of the task on frozen features, all its queries and its head at zero; ``widths``: of the
        views, those of the tokens if none are given."""
        widths = widths or self.tokens[candidate.features].widths
        classifier = VolumeClassifier(
            _Width(next(iter(widths.values()))),
            views=tuple(widths),
            num_logits=self.labels.num_logits,
            head=self.labels.head,
            fusion=candidate.fusion,
            features=candidate.features,
            widths=widths,
            rank=None,
        )
        with torch.no_grad():
            for parameter in (classifier.head.weight, *_queries(classifier)):
                parameter.zero_()
        return classifier

    def _seen(self, candidate: Candidate) -> Tokens:
        """What is fitted on: the tokens, or what an own fusion without parameters makes of them, one row a case. It is
        pooled in raw units, because what it does with others is unknown, and scaled afterwards."""
        tokens = self.tokens[candidate.features]
        if not FUSIONS.is_own(candidate.fusion):
            return tokens
        kind = (candidate.features, candidate.fusion)
        if kind not in self._fused_by_own:
            fusions = self.new_classifier(candidate).eval().slice_fusion
            with torch.inference_mode():
                fused = {view: _fused(fusions[view], *pair) for view, pair in tokens.views.items()}
            self._fused_by_own[kind] = Tokens(
                {view: (row.clone(), has_view) for view, (row, has_view) in fused.items()}
            )
        return self._fused_by_own[kind]

    def _fits(self, train: np.ndarray) -> Iterator[tuple[Candidate, VolumeClassifier, dict[str, Scale]]]:
        targets = self.targets[train]
        loss = make_loss(NUMBER_LOSS if self.labels.is_number else LOSS, self.labels, targets, UNIT)
        objective = _Objective(loss, torch.from_numpy(targets))
        heads: dict[Candidate, dict[str, Tensor]] = {}
        cases: dict[tuple[str, str], tuple[dict[str, Scale], Tokens]] = {}
        pooled: dict[tuple[str, str], Tensor] = {}
        before: dict[str, Tensor] | None = None
        for candidate in self.candidates:
            is_own = FUSIONS.is_own(candidate.fusion)
            kind = (candidate.features, candidate.fusion if is_own or candidate.fusion == CONCAT else "")
            if kind not in cases:
                of_train = self._seen(candidate).rows(train)
                scales = measure_scales(of_train, apart=candidate.fusion == CONCAT)
                cases[kind] = (scales, of_train.standardised(scales))
            scales, tokens = cases[kind]
            classifier = self._on_one_row(candidate, tokens) if is_own else self.new_classifier(candidate)
            if candidate.fusion == "query":
                classifier.head.load_state_dict(heads[replace(candidate, fusion="mean")])
                objective.minimise(classifier, candidate.decay, tokens)
            else:
                name = (candidate.features, candidate.fusion)
                if name not in pooled:
                    before = None
                    with torch.no_grad():
                        pooled[name] = embed(classifier, tokens)
                if before is not None:
                    classifier.head.load_state_dict(before)
                objective.minimise_head(classifier, candidate.decay, pooled[name])
                before = heads[candidate] = classifier.head.state_dict()
            yield candidate, classifier.eval(), scales


@dataclass(frozen=True)
class _Objective:
    """Mean cross-entropy of a case plus half the decay times the squared norm of head weights and queries.

    A query counts as its scores do, divided by the square root of the width: else it would cost far more than a head.
    """

    loss: Loss | NumberLoss
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
        loss = self.loss(logits, self.targets)
        return loss.total * self.targets.shape[1] / max(loss.count, 1)


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
    return _mean_and_spread(list(tokens.views.values()))


def measure_scales(tokens: Tokens, *, apart: bool) -> dict[str, Scale]:
    """By view: of each by itself for views that stand side by side (``apart``), otherwise one for all of them, which a
    pooling over views needs."""
    if apart:
        return {name: _mean_and_spread([pair]) for name, pair in tokens.views.items()}
    return dict.fromkeys(tokens.views, measure_scale(tokens))


def _mean_and_spread(views: Sequence[tuple[Tensor, Tensor]]) -> Scale:
    sums, counts = 0.0, 0.0
    for padded, mask in views:
        weight = mask.unsqueeze(-1).double()
        number = weight.sum(dim=1)
        sums = sums + (padded.double() * weight).sum(dim=1) / number.clamp_min(1)
        counts = counts + (number > 0).double()
    embeddings = (sums / counts)[counts[:, 0] > 0]
    spread = embeddings.std(dim=0, unbiased=False)
    mean, spread = embeddings.mean(dim=0), torch.where(spread > _FLAT, spread, torch.ones_like(spread))
    return Scale(mean.float(), spread.float())


def _queries(classifier: VolumeClassifier) -> list[nn.Parameter]:
    fusions = [*classifier.slice_fusion.values(), classifier.view_fusion]
    return [fusion.query for fusion in fusions if isinstance(fusion, QueryFusion)]
