"""Out of distribution: how far the measures of a case lie from those of the training cases. Arrays only.

Per measure a Gaussian with few main axes and one variance for all others (probabilistic PCA, Tipping and Bishop 1999),
whose Mahalanobis distance, divided by the number of dimensions, is about 1 for a training-like case. The limits are
those that 99 % of *held-out* training cases keep in all measures: by folds of patients, each case is measured against
statistics that it took no part in. The score is the largest distance in units of its limit: an alarm is above 1.

Organs of one set may lie in so many ways that a scan upside down is no further from their mean than others are. But it
fits much better once it is turned back, and no training case does: so of a measure of places the ratio of the distance
as it lies to the smallest one after a flip is compared, too. Flips of a regular grid of places are exact.
"""

from __future__ import annotations

import base64
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from anymc3d.errors import UsageError
from anymc3d.evaluate.intervals import t_quantile
from anymc3d.settings.limits import Between, Count, Form, Length

Floats = NDArray[np.float64]

VERSION = 2
"""Version of what the measures mean. Raise it when they change: statistics of another version say nothing."""
QUANTILE = 0.99
"""The share of the training cases that keeps all limits."""
MIN_CASES = 10
"""With a measure, below which nothing is said of it."""
_FOLDS = 5
_MOST_AXES = 12
_NORMAL_90 = 1.2816
"""The 90 % quantile of a standard normal distribution."""
_SHARE = 0.9
"""The share of the variance that the main axes hold together."""
OF_PLACES, TURNED = "layout", "turned"
"""The measure that is a regular grid of places, and the name under which it is compared with its flips."""
_EQUAL = 0.1
"""Added to both distances of a ratio: two that are next to nothing are alike."""
FLOORS: Mapping[str, float] = {"geometry": 0.15, "histogram": 0.03, "texture": 0.1, "layout": 0.1}
"""Measure -> a difference that says nothing, in its own units: training cases that all agree do not forbid it."""
_LARGEST = 1e6
_NARROWEST = 0.05
"""Spread of the logarithms of a distance, at least."""
_MARGIN = 1.5
"""Widens the limits of few cases: divided by the square root of their number."""
_MOST_SPREADS = 6.0
"""Of a distance's logarithm above its median that a limit may lie: a few odd training cases do not widen it further."""

Vector = Annotated[str, Length(4096), Form(r"[A-Za-z0-9+/]*={0,2}", "base64 of single precision numbers")]
"""Numbers in single precision, little endian, as base64."""
_Positive = Annotated[float, Between(1e-9, 1e9)]


@dataclass(frozen=True, kw_only=True)
class MeasureStatistics:
    """One measure of the training cases: centre and spread (d,), main axes k times (d,) of the measure divided by its
    spread, their variances (k,), the variance of the rest, and the distance above which a case is an alarm; ``turned``:
    of a grid of places, how many times better a case may fit once it is flipped."""

    cases: Count
    centre: Vector
    spread: Vector
    axes: Annotated[tuple[Vector, ...], Length(_MOST_AXES)]
    variances: Vector
    rest: _Positive
    limit: _Positive
    turned: _Positive | None = None

    def __post_init__(self) -> None:
        size = len(self._centre)
        sizes = [len(self._spread), *(len(_decoded(axis)) for axis in self.axes)]
        if size == 0 or any(other != size for other in sizes) or len(self._variances) != len(self.axes):
            raise UsageError(f"centre: expected as many numbers as in spread and axes, got {size} and {sizes}")
        if (self._spread <= 0).any() or (self._variances <= 0).any():
            raise UsageError("spread: expected numbers above 0, and so of variances")
        if self.turned is not None and _side(size) ** 3 != size:
            raise UsageError(f"turned: expected it of a grid of places alone, not of {size} numbers")

    @property
    def size(self) -> int:
        """How many numbers the measure has."""
        return len(self._centre)

    def distances(self, values: Floats) -> Floats:
        """Values (n, d) -> distance of each case (n,)."""
        scaled = (np.atleast_2d(values) - self._centre) / self._spread
        along = scaled @ self._axes.T
        outside = np.clip((scaled**2).sum(axis=1) - (along**2).sum(axis=1), 0, None)
        squared = (along**2 / self._variances).sum(axis=1) + outside / self.rest
        return np.minimum(np.sqrt(squared / self.size), _LARGEST)

    def gains(self, values: Floats) -> tuple[Floats, Floats]:
        """Of each grid of places (n, d): how many times nearer it is once it is flipped along one, two or all of its
        axes, whichever is best, and that smallest distance; (n,) each."""
        as_it_lies = self.distances(values)
        flipped = np.min([self.distances(other) for other in _flips(np.atleast_2d(values))], axis=0)
        return (as_it_lies + _EQUAL) / (flipped + _EQUAL), flipped

    @cached_property
    def _centre(self) -> Floats:
        return _decoded(self.centre)

    @cached_property
    def _spread(self) -> Floats:
        return _decoded(self.spread)

    @cached_property
    def _variances(self) -> Floats:
        return _decoded(self.variances)

    @cached_property
    def _axes(self) -> Floats:
        return np.array([_decoded(axis) for axis in self.axes]).reshape(-1, self.size)


@dataclass(frozen=True, kw_only=True)
class ScanStatistics:
    """What a plugin knows of its training scans: of each measure the statistics; no scan, no picture, no id."""

    version: Annotated[int, Between(1, 10**6)]
    measures: Annotated[Mapping[Annotated[str, Length(100)], MeasureStatistics], Length(64)]
    """``<measure>.<image column or view>`` -> statistics."""

    @property
    def are_current(self) -> bool:
        """Whether they are of the measures that are taken today; those of another version say nothing."""
        return self.version == VERSION

    def distances(self, measured: Mapping[str, Floats]) -> dict[str, float]:
        """Name of a measure -> distance of one case in units of the limit; of the measures that both have. Under
        :data:`TURNED`: how much better it fits once flipped, where it then is like the training cases."""
        if not self.are_current:
            return {}
        distances: dict[str, float] = {}
        for name, statistics in self.measures.items():
            if name not in measured or measured[name].shape != (statistics.size,):
                continue
            distances[name] = float(statistics.distances(measured[name])[0]) / statistics.limit
            if statistics.turned is not None:
                (gain,), (nearest,) = statistics.gains(measured[name])
                distances[_as_turned(name)] = float(gain) / statistics.turned if nearest <= statistics.limit else 0.0
        return distances


def score(found: Mapping[str, float]) -> float | None:
    """``ood_score`` of one case from its distances: the largest; None where nothing was compared."""
    return max(found.values(), default=None)


def fit_statistics(cases: Sequence[Mapping[str, Floats]], patients: Sequence[str]) -> ScanStatistics | None:
    """Statistics of the training cases; None where no measure has :data:`MIN_CASES` cases.

    Args:
        cases: of each the measures that it has.
        patients: of each; cases of one patient are held out together.
    """
    names = sorted({name for case in cases for name in case})
    rows = {name: np.array([i for i, case in enumerate(cases) if name in case]) for name in names}
    rows = {name: indices for name, indices in rows.items() if len({patients[i] for i in indices}) >= MIN_CASES}
    if not rows:
        return None
    values = {name: np.array([cases[i][name] for i in indices], dtype=np.float64) for name, indices in rows.items()}
    compared = [*rows, *(_as_turned(name) for name in rows if _is_of_places(name))]
    held_out = np.full((len(cases), len(compared)), np.nan)
    for name, indices in rows.items():
        distances, gains = _held_out(name, values[name], [patients[i] for i in indices])
        held_out[indices, compared.index(name)] = distances
        if gains is not None:
            held_out[indices, compared.index(_as_turned(name))] = gains
    limits = dict(zip(compared, common_limits(held_out), strict=True))
    fitted = {}
    for name in rows:
        fitted[name] = _gaussian(values[name], _floor(name), limit=limits[name])
        if _is_of_places(name):
            fitted[name] = replace(fitted[name], turned=limits[_as_turned(name)])
    return ScanStatistics(version=VERSION, measures=fitted)


def _floor(name: str) -> float:
    return FLOORS[name.partition(".")[0]]


def _is_of_places(name: str) -> bool:
    return name.partition(".")[0] == OF_PLACES


def _as_turned(name: str) -> str:
    """``layout.axial`` -> ``turned.axial``."""
    return TURNED + name.removeprefix(OF_PLACES)


def _side(size: int) -> int:
    """Places along each axis of a regular grid of so many."""
    return round(size ** (1 / 3))


def _flips(values: Floats) -> list[Floats]:
    """Grids of places (n, d) flipped along every choice of their axes but none."""
    side = _side(values.shape[1])
    grids = values.reshape(-1, side, side, side)
    axes = [choice for count in (1, 2, 3) for choice in itertools.combinations((1, 2, 3), count)]
    return [np.flip(grids, choice).reshape(values.shape) for choice in axes]


def _held_out(name: str, values: Floats, patients: Sequence[str]) -> tuple[Floats, Floats | None]:
    """The distance of each case from statistics of other patients, and of a grid of places what a flip gains."""
    order = {patient: number for number, patient in enumerate(dict.fromkeys(patients))}
    folds = np.array([order[patient] for patient in patients]) % _FOLDS
    distances, gains = np.zeros(len(values)), np.zeros(len(values))
    has_places = _is_of_places(name)
    for fold in range(_FOLDS):
        inside = folds == fold
        others = _gaussian(values[~inside], _floor(name), limit=1.0)
        distances[inside] = others.distances(values[inside])
        if has_places:
            gains[inside] = others.gains(values[inside])[0]
    return distances, gains if has_places else None


def _gaussian(values: Floats, floor: float, *, limit: float) -> MeasureStatistics:
    count, size = values.shape
    # One empty scan among hundreds must not widen what counts as usual.
    low, high = np.quantile(values, [0.02, 0.98], axis=0)
    values = np.clip(values, 2 * low - high - floor, 2 * high - low + floor)
    centre = values.mean(axis=0)
    spread = np.sqrt(values.var(axis=0, ddof=1) + floor**2)
    # What the floor adds to every variance, as a share: no axis is narrower than that.
    added = float((floor**2 / spread**2).mean())
    _, singular, axes = np.linalg.svd((values - centre) / spread, full_matrices=False)
    variances = singular**2 / (count - 1)
    whole = variances.sum()
    num_axes = 0
    if whole > 0:
        enough = int(np.searchsorted(np.cumsum(variances) / whole, _SHARE)) + 1
        num_axes = min(enough, count // 5, _MOST_AXES, size - 1)
    rest = float(variances[num_axes:].sum()) / (size - num_axes) + added
    return MeasureStatistics(
        cases=count,
        centre=_encoded(centre),
        spread=_encoded(spread),
        axes=tuple(_encoded(axis) for axis in axes[:num_axes]),
        variances=_encoded(variances[:num_axes] + added),
        rest=rest,
        limit=limit,
    )


def common_limits(held_out: Floats) -> list[float]:
    """Limits of several distances (n, measures; NaN = a case lacks it), kept together by :data:`QUANTILE` of new cases.

    Distances count in robust spreads of their logarithms above the median. Of many cases the worst one in a hundred may
    be beyond the limits; each limit is what all others keep, and at least the prediction limit of a normal
    distribution. Of fewer cases, which cannot show that quantile, all count, for all measures alike and with a margin
    that shrinks with their number. No limit is below 1.
    """
    count, measures = held_out.shape
    logs = np.log(np.maximum(held_out, 1e-3))
    middle = np.nanmedian(logs, axis=0)
    spread = np.maximum((np.nanquantile(logs, 0.9, axis=0) - middle) / _NORMAL_90, _NARROWEST)
    above = np.nan_to_num((logs - middle) / spread, nan=-np.inf)
    share = (1 - QUANTILE) / measures
    normal = t_quantile(1 - 2 * share, count - 1) * math.sqrt(1 + 1 / count)
    beyond = int(round((count + 1) * (1 - QUANTILE), 9))
    if beyond:
        others = np.argsort(above.max(axis=1), kind="stable")[:-beyond]
        allowed = np.maximum(above[others].max(axis=0), normal)
    else:
        allowed = np.full(measures, max(above.max(), normal) * (1 + _MARGIN / math.sqrt(count)))
    return np.maximum(np.exp(middle + np.minimum(allowed, _MOST_SPREADS) * spread), 1.0).tolist()


def _encoded(values: Floats) -> str:
    return base64.b64encode(np.asarray(values, dtype="<f4").tobytes()).decode("ascii")


def _decoded(text: str) -> Floats:
    try:
        values = np.frombuffer(base64.b64decode(text, validate=True), dtype="<f4").astype(np.float64)
    except ValueError:
        raise UsageError("expected base64 of single precision numbers, got something else") from None
    if not np.isfinite(values).all() or (np.abs(values) > 1e9).any():
        raise UsageError("expected finite numbers of at most 1e9 in base64, got others")
    return values
