"""Calibration: from raw logits to logits whose sigmoid or softmax is a probability, fitted on validation cases.

Platt's map is docs/metrics.md, choice B: z' = a (z - tau), fitted in ``a`` alone, so that the
operating point tau lands exactly on probability 0.5 and no ranking changes. Fits use Platt's softened targets, (N+ +
1) / (N+ + 2) and 1 / (N- + 2), which keep ``a`` finite when tau separates the outcomes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Annotated, Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from anymc3d.errors import CalibrationError
from anymc3d.evaluate.metrics import check_pair
from anymc3d.evaluate.operating_points import MAX_LOGIT, OperatingPoint
from anymc3d.evaluate.weighted import Floats
from anymc3d.settings.limits import Between, Count, Length

Kind = Literal["none", "platt", "temperature", "isotonic"]
State = Literal["none", "shifted", "scaled", "calibrated"]
"""What may be said of a label's probabilities, from least to most; :data:`SAYS` has the words.

``none``: a squashed logit. ``shifted``: only the operating point was put on 0.5, the slope is not fitted to enough
cases. ``scaled``: only the slope was fitted (temperature, of a yes/no label). ``calibrated``: slope and shift."""
STATES: tuple[State, ...] = get_args(State)
SAYS: Mapping[State, str] = {
    "none": "uncalibrated",
    "shifted": "shifted only, not calibrated",
    "scaled": "scaled only, not calibrated",
    "calibrated": "calibrated",
}

SLOPE_FLOOR = 1e-3
SLOPE_CEILING = 1e3
MIN_OUTCOMES = 10
"""Positives, and negatives, below which a slope is not fitted on a label's own cases."""
_PROBABILITY_MARGIN = 1e-6
Logit = Annotated[float, Between(-MAX_LOGIT, MAX_LOGIT)]


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """How the raw logit(s) of one label (``temperature``: of one multi-class task) become calibrated logits.

    ``platt`` and ``temperature``: z' = slope (z - threshold), strictly increasing. ``isotonic``: linear between
    ``knots``, pairs of raw and calibrated logit; it can make ties, so the AUROC may change.
    """

    kind: Kind
    slope: Annotated[float, Between(SLOPE_FLOOR, SLOPE_CEILING)] = 1.0
    threshold: Logit = 0.0
    knots: Annotated[tuple[tuple[Logit, Logit], ...], Length(10_000)] = ()
    n: Count = 0
    n_positive: Count = 0
    note: Annotated[str, Length(2000)] = ""
    """What was done instead of an ordinary fit, and why; "" when nothing was."""

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise CalibrationError(f"calibration: expected one of {', '.join(get_args(Kind))}, got {self.kind!r}")
        numbers = np.array([self.slope, self.threshold, *(value for knot in self.knots for value in knot)])
        if not np.isfinite(numbers).all() or not SLOPE_FLOOR <= self.slope <= SLOPE_CEILING:
            raise CalibrationError(
                f"calibration: expected finite numbers and a slope of at least {SLOPE_FLOOR} and at most "
                f"{SLOPE_CEILING:g}, got slope {self.slope}"
            )
        if self.threshold != 0 and self.kind != "platt":
            raise CalibrationError(f"calibration: a threshold belongs to platt, got {self.threshold} with {self.kind}")
        if self.slope != 1 and self.kind not in ("platt", "temperature"):
            raise CalibrationError(
                f"calibration: a slope belongs to platt and temperature, got {self.slope} with {self.kind}"
            )
        self._check_knots()

    def _check_knots(self) -> None:
        """A higher raw logit never gets a lower calibrated one."""
        if (self.kind == "isotonic") != bool(self.knots):
            raise CalibrationError(
                f"calibration: knots belong to isotonic, got {len(self.knots)} with kind {self.kind!r}"
            )
        for (x, y), (next_x, next_y) in pairwise(self.knots):
            if not (x < next_x and y <= next_y and math.isfinite((next_y - y) / (next_x - x))):
                raise CalibrationError(
                    f"calibration: expected knots that rise in the raw logit and never fall in the calibrated one, "
                    f"got ({x}, {y}) before ({next_x}, {next_y})"
                )

    def state(self, *, of_classes: bool) -> State:
        """What may be said of the probabilities; ``of_classes``: the map is of a task that decides between classes,
        where one temperature is all there is to fit.

        A slope at one of its bounds counts as not fitted: the logits do not go with the outcome, or separate it.
        """
        if self.kind == "isotonic":
            return "calibrated"
        if self.kind == "none":
            return "none"
        inside = SLOPE_FLOOR < self.slope < SLOPE_CEILING
        if self.kind == "temperature":
            return "calibrated" if of_classes and inside else "scaled"
        return "calibrated" if inside and min(self.n_positive, self.n - self.n_positive) >= MIN_OUTCOMES else "shifted"

    @property
    def intercept(self) -> float:
        """b of the usual spelling z' = a z + b."""
        return -self.slope * self.threshold

    def apply(self, logits: ArrayLike) -> Floats:
        """Return calibrated logits of the shape of ``logits``; their sigmoid (softmax) is the probability."""
        raw = np.asarray(logits, dtype=np.float64)
        if self.kind == "none":
            return raw
        if self.kind == "isotonic":
            x, y = np.array(self.knots).T
            right = np.searchsorted(x, raw, side="left").clip(1, len(x) - 1) if len(x) > 1 else np.zeros_like(raw, int)
            # Rounding must not lift a value over the next knot: a higher logit never gets a lower probability.
            return np.clip(np.interp(raw, x, y), y[np.maximum(right - 1, 0)], y[right])
        return self.slope * (raw - self.threshold)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return {**asdict(self), "knots": [list(knot) for knot in self.knots]}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Calibration:
        """Read what :meth:`to_dict` wrote.

        Raises:
            UsageError: keys missing or unknown, or values that no fit can give.
        """
        if set(record) != set(cls.__dataclass_fields__):
            raise CalibrationError(
                f"calibration: expected the keys {sorted(cls.__dataclass_fields__)}, got {sorted(record)}"
            )
        try:
            return cls(
                kind=record["kind"],
                slope=float(record["slope"]),
                threshold=float(record["threshold"]),
                knots=tuple((float(x), float(y)) for x, y in record["knots"]),
                n=int(record["n"]),
                n_positive=int(record["n_positive"]),
                note=str(record["note"]),
            )
        except (TypeError, ValueError) as error:
            raise CalibrationError(f"calibration: a value is not of its kind ({error})") from error


IDENTITY = Calibration(kind="none")


def fit_platt(
    targets: ArrayLike,
    logits: ArrayLike,
    point: OperatingPoint,
    *,
    pooled: tuple[ArrayLike, ArrayLike, OperatingPoint] | None = None,
    slope_if_few: float = 1.0,
) -> Calibration:
    """Fit z' = a (z - tau) on validation cases of one label, tau the threshold of ``point``.

    Below 10 positives or negatives the label's own cases say too little: the targets, logits and operating point of
    ``pooled`` (the out-of-fold logits of all splits) are used instead, as docs/metrics.md asks.
    Without ``pooled`` the slope is ``slope_if_few`` and only tau moves. Either way the note reports it.
    """
    target_array, logit_array = check_pair(targets, logits, what="logits")
    note = ""
    few = rarer_outcome(target_array) < MIN_OUTCOMES
    if few and pooled is not None:
        note = pooled_note(rarer_outcome(target_array))
        target_array, logit_array = check_pair(pooled[0], pooled[1], what="pooled logits")
        point = pooled[2]
        few = rarer_outcome(target_array) < MIN_OUTCOMES
    num_cases, num_positive = target_array.size, int(target_array.sum())
    if few:
        where = " even when pooled" if note else ""
        rarer = f"{rarer_outcome(target_array)} cases of the rarer outcome{where}, below {MIN_OUTCOMES}"
        note = f"{rarer}: slope left at {slope_if_few:.4g}"
        slope = slope_if_few
    else:
        slope, hit = _platt_slope(target_array, logit_array - point.threshold)
        note = note or hit
    return Calibration(
        kind="platt", slope=slope, threshold=point.threshold, n=num_cases, n_positive=num_positive, note=note
    )


def pooled_note(own: int) -> str:
    """What the record says of a label that was fitted on pooled cases, because it has ``own`` of the rarer outcome."""
    return f"{own} cases of the rarer outcome, below {MIN_OUTCOMES}: fitted on pooled cases"


def fit_temperature(classes: ArrayLike, logits: ArrayLike) -> Calibration:
    """Fit one temperature 1 / slope to multi-class logits (n, K); ``classes`` (n,) are indices 0 .. K - 1.

    The argmax never changes. Targets are softened to (n + 1) / (n + K) and 1 / (n + K).
    """
    index, raw = np.asarray(classes), np.asarray(logits, dtype=np.float64)
    if raw.ndim != 2 or index.shape != raw.shape[:1] or raw.shape[1] < 2 or raw.shape[0] < 1:
        raise CalibrationError(f"expected classes (n,) and logits (n, K), got shapes {index.shape} and {raw.shape}")
    if not np.isfinite(raw).all() or not np.isin(index, np.arange(raw.shape[1])).all():
        raise CalibrationError(f"expected finite logits and class indices from 0 to {raw.shape[1] - 1}")
    num_cases, num_classes = raw.shape
    soft = np.full(raw.shape, 1 / (num_cases + num_classes))
    soft[np.arange(num_cases), index.astype(int)] = (num_cases + 1) / (num_cases + num_classes)
    centred = raw - raw.max(axis=1, keepdims=True)

    def derivative(slope: float) -> float:
        powers = np.exp(slope * centred)
        return float(np.sum((powers / powers.sum(axis=1, keepdims=True) - soft) * centred))

    slope, note = _rising_root(derivative)
    return Calibration(kind="temperature", slope=slope, n=num_cases, note=note)


def fit_isotonic(targets: ArrayLike, logits: ArrayLike) -> Calibration:
    """Fit the non-decreasing map from logit to share of positives that is nearest in squares (needs both outcomes)."""
    from sklearn.isotonic import IsotonicRegression

    target_array, logit_array = check_pair(targets, logits, what="logits")
    if rarer_outcome(target_array) == 0:
        raise CalibrationError(f"isotonic calibration: expected both outcomes, got {target_array.size} cases of one")
    fitted = IsotonicRegression(y_min=_PROBABILITY_MARGIN, y_max=1 - _PROBABILITY_MARGIN).fit(logit_array, target_array)
    shares = fitted.y_thresholds_
    knots = tuple(zip(fitted.X_thresholds_.tolist(), np.log(shares / (1 - shares)).tolist(), strict=True))
    return Calibration(kind="isotonic", knots=knots, n=target_array.size, n_positive=int(target_array.sum()))


def rarer_outcome(targets: Floats) -> int:
    """How many of the known targets (n,), 0 and 1, are of the rarer outcome."""
    return int(min(targets.sum(), targets.size - targets.sum()))


def _platt_slope(targets: Floats, offsets: Floats) -> tuple[float, str]:
    num_positive = targets.sum()
    high, low = (num_positive + 1) / (num_positive + 2), 1 / (targets.size - num_positive + 2)
    soft = np.where(targets == 1, high, low)
    return _rising_root(lambda slope: float(np.sum((np.exp(-np.logaddexp(0, -slope * offsets)) - soft) * offsets)))


def _rising_root(derivative: Callable[[float], float]) -> tuple[float, str]:
    """Minimise a convex loss over the slope by bisection of its derivative on a log scale; say when a bound is hit."""
    if derivative(SLOPE_FLOOR) >= 0:
        return SLOPE_FLOOR, f"slope at its floor {SLOPE_FLOOR}: higher logits do not go with positives"
    if derivative(SLOPE_CEILING) <= 0:
        return SLOPE_CEILING, f"slope at its ceiling {SLOPE_CEILING:g}"
    low, high = np.log(SLOPE_FLOOR), np.log(SLOPE_CEILING)
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (low, middle) if derivative(float(np.exp(middle))) > 0 else (middle, high)
    return float(np.exp((low + high) / 2)), ""
