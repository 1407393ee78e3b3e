"""What every loss promises."""

from __future__ import annotations

import torch
from torch import Tensor

from anymc3d.settings.training import TrainSettings
from anymc3d.train.losses import TrueLabels, true_labels


class LossTests:
    """Inherit and give the function: ``terms``."""

    def terms(self, truth: TrueLabels, settings: TrainSettings, positive_weights: Tensor) -> Tensor:
        """The loss of classes and yes/no labels, one value per label that is there."""
        raise NotImplementedError("give the loss: def terms(self, truth, settings, positive_weights)")

    def test_it_gives_one_finite_value_per_label_that_is_there(self) -> None:
        for softmax, targets in ((False, [[1.0, float("nan")], [0.0, 1.0]]), (True, [[1.0], [float("nan")]])):
            logits = torch.tensor([[30.0, -2.0], [-30.0, 0.5]], requires_grad=True)
            truth = true_labels(logits, torch.tensor(targets), softmax=softmax)
            values = self._found(truth)
            assert values.shape == truth.log_p.shape
            assert values.isfinite().all()
            (gradient,) = torch.autograd.grad(values.sum(), logits)
            assert gradient.isfinite().all()

    def test_a_better_answer_costs_no_more(self) -> None:
        logits = torch.linspace(-6, 6, 25).unsqueeze(1)
        for label, sign in ((1.0, -1), (0.0, 1)):
            values = self._found(true_labels(logits, torch.full_like(logits, label), softmax=False))
            assert (sign * values.diff() >= 0).all()
            assert sign * (values[-1] - values[0]) > 0

    def _found(self, truth: TrueLabels) -> Tensor:
        return self.terms(truth, TrainSettings(), torch.tensor(()))


class NumberLossTests:
    """Inherit and give the function: ``terms``, for labels that are numbers."""

    def terms(self, errors: Tensor) -> Tensor:
        """The loss of errors (N,), in units of the training cases' spread: (N,)."""
        raise NotImplementedError("give the loss: def terms(self, errors)")

    def test_it_gives_one_finite_value_each_and_no_error_costs_least(self) -> None:
        errors = torch.linspace(-5, 5, 21, requires_grad=True)
        values = self.terms(errors)
        assert values.shape == errors.shape
        assert values.isfinite().all()
        assert int(values.argmin()) == 10
        (gradient,) = torch.autograd.grad(values.sum(), errors)
        assert gradient.isfinite().all()
