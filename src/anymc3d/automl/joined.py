"""The frozen blend and the trained member together: per outer fold for the estimate, once for the plugin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from anymc3d.automl.blend import Blend
from anymc3d.automl.clinical import (
    Clinical,
    ClinicalEstimate,
    ClinicalMember,
    deployed_clinical,
    estimate_clinical,
    head_logits,
)
from anymc3d.automl.estimate import Estimate, Scored, deployed, estimate
from anymc3d.automl.leaderboard import Entry
from anymc3d.automl.lora import Share, TrainedFold, choose_share, fold_scales
from anymc3d.automl.settings import AutoSettings
from anymc3d.automl.sights import planes_of, size_of
from anymc3d.evaluate import outputs
from anymc3d.train.quick.crossval import Pool

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Joined:
    """``nested``: the estimate of the whole choice; ``blend``: of frozen and plain members alone; ``out`` (n, K): what
    is deployed, on out-of-fold logits; ``joined_folds``: in how many outer folds the trained member joined;
    ``clinical``: of clinical columns the estimate beside the image, which ``nested`` is of, and what is deployed;
    ``scales``: of the trained members' logits, see :func:`anymc3d.automl.lora.fold_scales`."""

    nested: Estimate
    blend: Blend
    out: Floats
    share: Share
    trained_out: Floats | None = None
    joined_folds: int = 0
    clinical: tuple[ClinicalEstimate, ClinicalMember] | None = None
    scales: tuple[float, ...] = ()

    @property
    def member(self) -> ClinicalMember | None:
        """The clinical columns as the plugin takes them."""
        return None if self.clinical is None else self.clinical[1]

    @property
    def logits(self) -> Floats:
        """(n, K): of each case by all that was chosen without its fold."""
        return self.nested.logits if self.clinical is None else self.clinical[0].logits

    @property
    def weights(self) -> dict[int, float]:
        """Shares of the whole logit; of the clinical columns alone one member stands for a scan that adds nothing."""
        if self.member is not None and self.member.chosen == "covariates":
            return {0: 1.0}
        scale = self.share.frozen / (self.share.frozen + self.share.trained) / sum(self.blend.weights.values())
        return {index: scale * weight for index, weight in self.blend.weights.items()}

    @property
    def trained_weights(self) -> list[float]:
        """Shares of the whole logit, one per trained member."""
        return [self.trained_weight * scale / len(self.scales) for scale in self.scales]

    @property
    def trained_weight(self) -> float:
        """Share of the whole logit."""
        if self.member is not None and self.member.chosen == "covariates":
            return 0.0
        return self.share.trained / (self.share.frozen + self.share.trained)


def join(
    scored: Sequence[Scored],
    trained: Sequence[TrainedFold],
    pool: Pool,
    settings: AutoSettings,
    clinical: Clinical | None = None,
) -> Joined:
    """Choose members and weights, nested and deployed; ``scored``: the simplest first."""
    joined = _join_image(scored, trained, pool, settings)
    return joined if clinical is None else _with_clinical(joined, scored, pool, settings, clinical)


def _with_clinical(
    joined: Joined, scored: Sequence[Scored], pool: Pool, settings: AutoSettings, clinical: Clinical
) -> Joined:
    """With the clinical columns; their slopes rest on the frozen blend, which is there for all training cases."""
    estimated = estimate_clinical(clinical, pool, joined.nested.logits, inner_logits(scored, joined.nested), settings)
    member, labels = deployed_clinical(clinical, pool, joined.out, settings), pool.labels
    raw = member.raw(outputs.raw_logits(joined.out, labels.kind), estimated.answers.alone)
    return replace(joined, out=head_logits(raw, labels), clinical=(estimated, member))


def inner_logits(scored: Sequence[Scored], nested: Estimate) -> list[Floats]:
    """Per fold what its blend says of its training cases, each by fits without its patient."""
    return [blend.logits([each.inner[number] for each in scored]) for number, blend in enumerate(nested.chosen)]


def _join_image(scored: Sequence[Scored], trained: Sequence[TrainedFold], pool: Pool, settings: AutoSettings) -> Joined:
    nested, blend = estimate(scored, pool, settings), deployed(scored, pool, settings)
    out = blend.logits([candidate.out for candidate in scored])
    if not trained:
        return Joined(nested, blend, out, Share(1.0, 0.0))
    logits, trained_out, joined = nested.logits.copy(), np.full_like(out, np.nan), 0
    scales = fold_scales(trained, pool.labels)
    for number, (fold, scale) in enumerate(zip(trained, scales, strict=True)):
        rest = np.flatnonzero(pool.folds != number)
        places = np.searchsorted(rest, fold.val)
        frozen = nested.chosen[number].logits([each.inner[number][places] for each in scored])
        patients = pool.of(fold.val)
        share = choose_share(frozen, fold.val_logits, pool.targets[fold.val], pool.labels, patients, settings)
        logits[fold.held_out] = _mixed(share, logits[fold.held_out], fold.out_logits)
        trained_out[fold.held_out] = scale * fold.out_logits
        joined += share.trained > 0
    share = choose_share(out, trained_out, pool.targets, pool.labels, pool.patients, settings)
    alone = _mixed(Share(0.0, 1.0), out, trained_out)
    both = _mixed(share, out, trained_out)
    return Joined(Estimate(logits, nested.chosen), blend, both, share, alone, joined, scales=tuple(scales))


def _mixed(share: Share, frozen: Floats, trained: Floats) -> Floats:
    """Where a trained member has no answer the others stand alone."""
    return np.where(np.isfinite(trained), share.mixed(frozen, trained), frozen)


def trained_entry(trained: Sequence[TrainedFold], joined: Joined, seconds: float) -> Entry:
    """The row of the trained members."""
    sights = dict.fromkeys(fold.sight for fold in trained)
    card = trained[0].plugin.card
    return Entry(
        candidate=f"LoRA; {' / '.join(sights)}",
        logits=joined.trained_out,
        features=card.features,
        fusion=card.fusion,
        views=planes_of(trained[0].task.views),
        size=size_of(trained[0].task.views),
        lora=f"rank {card.method.rank}, last {card.method.blocks} blocks",
        members=len(trained),
        seconds=seconds,
        trained_parameters=sum(tensor.numel() for tensor in trained[0].plugin.tensors.values()),
        weight=joined.trained_weight,
    )
