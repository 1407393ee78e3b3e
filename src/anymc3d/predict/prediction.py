"""The answer to one case: the record that is also a row of ``predictions.csv``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from anymc3d.data.intensity import IntensityProfile
from anymc3d.evaluate import outputs
from anymc3d.evaluate.calibration import State
from anymc3d.predict.notebook_view import html_of
from anymc3d.printable import shown
from anymc3d.types import Status

_MOST_SHOWN = 5
"""Labels in a ``repr``."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Prediction:
    """One plugin's answer for one case; ``row()`` is its row in ``predictions.csv``."""

    case: str
    plugin: str
    status: Status
    message: str = ""
    """Warnings, or why there is no answer."""
    labels: tuple[str, ...] = ()
    logits: Mapping[str, float] = field(default_factory=dict)
    """Label -> raw logit (binary: the log-odds z1 - z0); of an ensemble the mean calibrated logit."""
    probabilities: Mapping[str, float] = field(default_factory=dict)
    calibrated: bool = False
    """Whether slope and shift of every label's probabilities were fitted to enough outcomes."""
    calibration: Mapping[str, State] = field(default_factory=dict)
    """Label -> ``calibrated``; ``shifted`` or ``scaled``, where that alone was done; ``none``: a squashed logit."""
    decisions: Mapping[str, int] = field(default_factory=dict)
    values: Mapping[str, float] = field(default_factory=dict)
    """Label -> number, in the units of the manifest, of a plugin that answers one; it has no logit, probability or
    decision then."""
    slice_weights: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """View -> weight of every slice in the view's order, adding up to 1; of an ensemble the members' mean. A baseline
    has none."""
    view_weights: Mapping[str, float] = field(default_factory=dict)
    image_logits: Mapping[str, float] = field(default_factory=dict)
    """Of a plugin with covariates: label -> raw logit (or number) of the image alone; otherwise none."""
    covariate_logits: Mapping[str, float] = field(default_factory=dict)
    """The same of the covariates alone."""
    unlike_training: tuple[str, ...] = ()
    """Of the warnings those that say that the scan is unlike the training scans: the answer is not to be used."""
    intensities: Mapping[str, IntensityProfile] = field(default_factory=dict)
    """Image column -> what was measured of the scan, in raw units."""
    sets: Mapping[str, str] = field(default_factory=dict)
    """``set.<label>`` -> the answers that a conformal prediction set holds, as ``predictions.csv`` writes them; empty
    where the plugin makes none."""
    in_doubt: tuple[str, ...] = ()
    """Labels whose decision ``--abstain`` leaves out: all, where the scan is unlike training; else those whose
    prediction set holds another answer than the decision, or none."""
    plugin_doubts: tuple[str, ...] = ()
    """What speaks against the plugin itself, whatever the scan: its results do not show that it is better than chance,
    or its operating point rests on next to nothing."""
    ood_score: float | None = None
    """How far the scan is from the training scans (out of distribution), in units of what 99 % of held-out training
    scans keep: above 1 an alarm. None where the plugin has no statistics of them."""

    def __repr__(self) -> str:
        by = f"<Prediction of {shown(self.case, 60)!r} by {shown(self.plugin, 60)!r}: "
        if self.status == "error":
            return f"{by}no answer, {shown(self.message, 120)}>"
        answers = self.values or self.probabilities
        most = ", ".join(f"{shown(name, 40)} {value:.3g}" for name, value in list(answers.items())[:_MOST_SHOWN])
        more = f" and {len(answers) - _MOST_SHOWN} more" if len(answers) > _MOST_SHOWN else ""
        unlike = ", unlike the training scans" if self.unlike_training else ""
        return f"{by}{most}{more}; status {self.status}{unlike}>"

    def _repr_html_(self) -> str:
        """The answer as a notebook shows it."""
        return html_of(self)

    def row(self) -> dict[str, str]:
        """The cells of ``predictions.csv``; an error row has empty label cells."""
        cells = {"case": self.case, "plugin": self.plugin, "status": self.status, "message": self.message}
        if self.status == "error":
            return cells
        if self.values:
            cells |= outputs.value_cells(self.labels, self._row_of(self.values))
        else:
            parts = (self.logits, self.probabilities, self.decisions)
            cells |= outputs.prediction_cells(self.labels, *map(self._row_of, parts))
        if self.image_logits:
            alone = map(self._row_of, (self.image_logits, self.covariate_logits))
            cells |= outputs.part_cells(self.labels, *alone)
        return cells | dict(self.sets) | {outputs.OOD_SCORE: self.ood_cell}

    def _row_of(self, by_label: Mapping[str, float]) -> np.ndarray:
        return np.array([by_label[name] for name in self.labels])

    @property
    def ood_cell(self) -> str:
        """``ood_score`` as ``predictions.csv`` writes it."""
        return "" if self.ood_score is None else format(self.ood_score, ".4g")
