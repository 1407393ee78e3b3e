"""Reading scans, measuring them and running the frozen backbone over them: the costly part of a candidate, kept in the
caches of the home folder, so that a stopped run finds it there."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import torch

from anymc3d.automl.amount import BATCH
from anymc3d.automl.candidates import Candidate, frozen_candidates, plain_candidate
from anymc3d.automl.data import AutoData
from anymc3d.automl.deadline import Deadline
from anymc3d.automl.sights import WIDEST_SLICES, Sight
from anymc3d.cost.device import choose_dtype
from anymc3d.cost.progress import Progress
from anymc3d.data.cache import Cache
from anymc3d.data.case import Case
from anymc3d.data.case_scans import CaseScans, PreparedCase, Segmenters
from anymc3d.data.dataset import prepare_all
from anymc3d.data.segmentation import Segmenter
from anymc3d.errors import ManifestError, UsageError
from anymc3d.files import home
from anymc3d.models.classifier import Encoding, compute_weights, run_backbone
from anymc3d.models.features import FEATURES, check_backbone
from anymc3d.models.frozen_pass import Pass
from anymc3d.models.plain import PLAIN
from anymc3d.models.store import LoadedBackbone, find_backbone
from anymc3d.segmenters.build import build_segmenters
from anymc3d.settings.config import TaskSettings
from anymc3d.settings.views import RoiSettings, ViewSettings
from anymc3d.train.plain.numbers import measure_cases, voxel_views, voxels_of_cases
from anymc3d.train.quick.features import CaseFeatures, FeatureMaker, compute_features

KEPT = 0.3
"""Of the seconds without a cache: a case that takes less was kept by an earlier run."""
Result = TypeVar("Result")


@dataclass(frozen=True)
class Seconds:
    """Of one case: ``read`` and ``passed`` as the search takes them, from the caches where they are there; ``answer``
    and ``answer_pass`` as a prediction takes them, which keeps nothing."""

    read: float
    passed: float
    answer: float
    answer_pass: float


@dataclass(eq=False)
class Reader:
    """Computes numbers of the pool's cases on one device; backbones are loaded once."""

    data: AutoData
    device: torch.device
    stop: Deadline
    quiet: bool
    _backbones: dict[str, LoadedBackbone] = field(default_factory=dict)
    _segmenters: dict[RoiSettings, Segmenter] = field(default_factory=dict)

    def backbone(self, name: str) -> LoadedBackbone:
        """One backbone, loaded when it is first asked for."""
        if name not in self._backbones:
            self._backbones[name] = find_backbone(name)
        return self._backbones[name]

    def prepare(self, task: TaskSettings, cases: Sequence[Case] | None = None, *, masks: bool) -> list[PreparedCase]:
        """Read scans and cut their slices; slices stay in the cache."""
        cases = self.data.cases if cases is None else cases
        with Progress(total=len(cases), what="reading scans", unit="scan", quiet=self.quiet) as bar:
            options = {"segmenters": self.segmenters(task.views), "with_masks": masks}
            return prepare_all(cases, task.views, _cache(), progress=self._on_case(bar), **options)

    def segmenters(self, views: Mapping[str, ViewSettings]) -> Segmenters:
        """What draws the regions of some views; built once."""
        if any(view.roi is not None and view.roi not in self._segmenters for view in views.values()):
            self._segmenters |= build_segmenters(views.values(), given_paths=self.data.segmenters)
        return self._segmenters

    def seconds_to_draw(self, sight: Sight) -> float:
        """Of the region of one case, where a network or program draws it; it is kept."""
        few = self.data.cases[-1:]
        return _timed(lambda: prepare_all(few, sight.views, _cache(), segmenters=self.segmenters(sight.views)))[0]

    def seconds_per_case(self, sight: Sight, num_cases: int = 4) -> Seconds:
        """Measured on a few cases; the first only warms up."""
        few = self.data.cases[:num_cases]
        prepare_all(few[:1], sight.views, _cache())
        read_s, prepared = _timed(lambda: prepare_all(few, sight.views, _cache()), max(1, len(few) - 1))
        names = self.representations(self.backbone(sight.task.backbone.name))
        names = tuple(name for name in names if not FEATURES[name].needs_mask)
        self._features(sight, few[:1], prepared[:1], names, ())
        passed, _ = _timed(lambda: self._features(sight, few[1:], prepared[1:], names, ()), max(1, len(few) - 1))
        case_s, prepared_case = _timed(lambda: CaseScans(few[-1]).prepare(sight.views))
        maker = FeatureMaker(
            sight.views,
            self.backbone(sight.task.backbone.name),
            sight.task.backbone.positions,
            self.device,
            sight.task.train.chunk_size,
            Pass(),
        )
        slices_of = {name: view.slices for name, view in prepared_case.views.items() if view is not None}
        passes = [
            _timed(lambda: [maker.computed_features(name, slices) for name, slices in slices_of.items()])[0]
            for _ in range(2)
        ]
        passed = _of_the_rest(
            passed, min(passes), len(self.data.cases), lambda place: self._seconds_at(place, sight, names)
        )
        return Seconds(read_s, passed, case_s, min(passes))

    def _seconds_at(self, place: int, sight: Sight, names: Sequence[str]) -> float:
        """Of the backbone over one case, which is kept."""
        case = self.data.cases[place : place + 1]
        prepared = prepare_all(case, sight.views, _cache())
        return _timed(lambda: self._features(sight, case, prepared, names, ()))[0]

    def seconds_to_read(self, sight: Sight, first: int = 4, num_cases: int = 8) -> float:
        """Of one case, measured on others than those of :meth:`seconds_per_case`."""
        few = self.data.cases[first : first + num_cases]
        return _timed(lambda: prepare_all(few, sight.views, _cache()), len(few))[0] if few else math.inf

    def training_pass_s(self, task: TaskSettings) -> float:
        """Seconds of the backbone over the slices of one case, in the number format of training and in whole chunks, as
        slices of several cases share them there: the least of three tries."""
        network = self.backbone(task.backbone.name).module.to(self.device)
        encoding = Encoding(chunk_size=task.train.chunk_size, dtype=choose_dtype(task.train.precision, self.device))
        weights = compute_weights(network, {}, encoding.dtype)

        def once(images: torch.Tensor) -> None:
            run_backbone(network, weights, images, encoding)
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)

        seconds = 0.0
        with torch.inference_mode():
            for view in task.views.values():
                slices = view.size[2] or WIDEST_SLICES
                together = min(BATCH * slices, encoding.chunk_size)
                images = torch.zeros(together, 3, *view.size[:2], device=self.device)
                seconds += min(_timed(lambda images=images: once(images))[0] for _ in range(3)) * slices / together
        return seconds

    def plain(self, method: str, task: TaskSettings, prepared: Sequence[PreparedCase]) -> Candidate:
        """A plain method of ``PLAIN`` on the pool.

        Raises:
            ManifestError: scans that it cannot measure, or nothing differs between them.
        """
        started, cases = time.monotonic(), self.data.cases
        with Progress(total=len(cases), what=f"measuring: {method}", unit="scan", quiet=self.quiet) as bar:
            if PLAIN[method].sees_slices:
                views = voxel_views(task.views)
                task = replace(task, views=views)
                prepared = prepare_all(cases, views, _cache())
                numbers = voxels_of_cases(cases, prepared, views, _cache(), progress=self._on_case(bar))
            else:
                modality = task.data.modality
                numbers = measure_cases(
                    cases, task.views, method, modality, cache=_cache(), prepared=prepared, progress=self._on_case(bar)
                )
        return plain_candidate(method, task, numbers, self.data.pool, prepared, time.monotonic() - started)

    def seconds_to_measure(
        self, method: str, task: TaskSettings, prepared: Sequence[PreparedCase], num_cases: int = 4
    ) -> float:
        """Of one case, measured on a few, which are kept; the first only warms up."""
        if PLAIN[method].sees_slices:
            return 0.0
        modality = task.data.modality

        def measure(number: int) -> None:
            few, its = self.data.cases[number : number + 1], prepared[number : number + 1]
            _succeeds(lambda: measure_cases(few, task.views, method, modality, cache=_cache(), prepared=its))

        return _usual_s(measure, min(num_cases, len(self.data.cases)))

    def frozen(self, sight: Sight) -> Iterator[Candidate]:
        """Every candidate of a sight."""
        started = time.monotonic()
        backbone = self.backbone(sight.task.backbone.name)
        names = self.representations(backbone)
        masks = Pass(features=names).needs_mask
        prepared = self.prepare(sight.task, masks=masks)
        labels = {label for case in prepared for of_view in case.mask_labels.values() for label in of_view}
        names = names if labels else tuple(name for name in names if not FEATURES[name].needs_mask)
        structures = tuple(sorted(labels))
        features = self._features(sight, self.data.cases, prepared, names, structures)
        seconds = time.monotonic() - started
        yield from frozen_candidates(sight, features, names, structures, self.data.pool, prepared, backbone, seconds)

    def representations(self, backbone: LoadedBackbone) -> tuple[str, ...]:
        """Those that the backbone and the masks of the data allow."""
        have_masks = not self.data.without_mask
        return tuple(
            name
            for name, feature in FEATURES.items()
            if (have_masks or not feature.needs_mask)
            and _succeeds(lambda name=name: check_backbone(name, backbone.module))
        )

    def _on_case(self, bar: Progress) -> Callable[..., None]:
        """To be called after each case: moves the bar, and ends the step where its time is over."""

        def on_case(count: int = 1) -> None:
            bar.update(count)
            self.stop.check()

        return on_case

    def _features(
        self,
        sight: Sight,
        cases: Sequence[Case],
        prepared: Sequence[PreparedCase],
        names: Sequence[str],
        structures: tuple[int, ...],
    ) -> list[CaseFeatures]:
        return compute_features(
            cases,
            prepared,
            sight.views,
            backbone=self.backbone(sight.task.backbone.name),
            positions=sight.task.backbone.positions,
            device=self.device,
            slices=_cache(),
            chunk_size=sight.task.train.chunk_size,
            stop=self.stop,
            segmenters=self.segmenters(sight.views),
            wanted=Pass(features=tuple(names), structures=structures),
            quiet=self.quiet or len(cases) < 3,
        ).cases


def _timed(what: Callable[[], Result], parts: int = 1) -> tuple[float, Result]:
    """Seconds of each of some equal parts, and what came of them."""
    started = time.monotonic()
    result = what()
    return (time.monotonic() - started) / parts, result


def _of_the_rest(few_s: float, fresh_s: float, count: int, seconds_at: Callable[[int], float]) -> float:
    """Seconds of a pass over one of the ``count`` cases, of which a few took ``few_s``.

    An earlier run that was refused or stopped may have kept the few and not the rest, which then take ``fresh_s``, as
    without a cache: so where the few were that fast others are asked, until one is not.
    """
    if few_s >= KEPT * fresh_s:
        return few_s
    return max(few_s, *_until_slow((seconds_at(place * count // 4) for place in (2, 1, 3)), KEPT * fresh_s))


def _until_slow(seconds: Iterator[float], slow: float) -> Iterator[float]:
    for each in seconds:
        yield each
        if each >= slow:
            return


def _usual_s(do: Callable[[int], object], count: int) -> float:
    """Seconds that it takes for one of so many: the median, which one that is far larger does not move."""
    seconds = [_timed(lambda number=number: do(number))[0] for number in range(count)]
    return statistics.median(seconds[1:] or seconds)  # the first only warms up


def _cache() -> Cache:
    return Cache(home.cache_folder())


def _succeeds(what: Callable[[], object]) -> bool:
    try:
        what()
    except (UsageError, ManifestError):
        return False
    return True
