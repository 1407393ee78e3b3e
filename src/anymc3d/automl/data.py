"""The cases of a run: the manifest, its pool of cases outside the test split in outer folds, and what is planned."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from anymc3d.automl.checks import check_column, check_outcomes
from anymc3d.automl.kinds import find_labels
from anymc3d.automl.settings import AutoSettings
from anymc3d.data.case import Case
from anymc3d.data.covariate_checks import check_covariates
from anymc3d.data.labels import encode
from anymc3d.data.manifest import Manifest, read_manifest
from anymc3d.errors import ManifestError, UsageError
from anymc3d.evaluate.regression.scale import NumberScale, scale_of
from anymc3d.plan import plan_task
from anymc3d.plan.region import NAMED, POINT_MM
from anymc3d.settings.config import DataSettings, LabelSettings, TaskSettings
from anymc3d.settings.views import RoiSettings
from anymc3d.train.quick.crossval import Pool, make_pool
from anymc3d.train.study import Study
from anymc3d.types import Plane

logger = logging.getLogger(__name__)

THREE: tuple[Plane, ...] = ("axial", "coronal", "sagittal")
SITE = "site"
POINT_BOXES_MM: Mapping[str, float] = {"point": POINT_MM, "wide point": 112.0}
"""Sides of the boxes about a point of interest; the wide one is that of the paper's nodules (task T6)."""


@dataclass(frozen=True, eq=False)
class AutoData:
    """``pool``: labelled cases outside the test split; ``rows``: their positions in the manifest; ``test``: positions
    of the labelled test cases; ``site``: the column whose values are left out one by one, or none; ``covariates``:
    columns that may answer beside the image; ``scale``: of a number, in whose units the pool's targets stand;
    ``drawn``: a region that ``segmenters`` draw."""

    manifest: Manifest
    labels: LabelSettings
    targets: np.ndarray
    pool: Pool
    rows: tuple[int, ...]
    test: tuple[int, ...]
    site: str
    covariates: tuple[str, ...] = ()
    scale: NumberScale | None = None
    drawn: RoiSettings | None = None
    segmenters: tuple[str, ...] = ()

    @property
    def cases(self) -> list[Case]:
        """Of the pool."""
        return [self.manifest.cases[row] for row in self.rows]

    @property
    def test_cases(self) -> list[Case]:
        """Of the test split."""
        return [self.manifest.cases[row] for row in self.test]

    @property
    def without_mask(self) -> int:
        """Cases of the pool and the test split that lack the mask of one of their scans."""
        cases = [*self.cases, *self.test_cases]
        return sum(not all(case.mask(column) for column in case.images) for case in cases)

    @property
    def study(self) -> Study:
        """The pool as training cases, for the record of a plugin."""
        splits = ["test"] * len(self.manifest.cases)
        for row in self.rows:
            splits[row] = "train"
        return Study(self.manifest, tuple(splits), self.targets, self.manifest)

    def by_site(self) -> Pool | None:
        """The pool with its sites as outer folds; None where there are none."""
        if not self.site:
            return None
        values = [case.cells.get(self.site, "") or "(empty)" for case in self.cases]
        names = sorted(set(values))
        if len(names) < 2:
            return None
        folds = np.array([names.index(value) for value in values])
        return replace(self.pool, folds=folds, fold_names=tuple(names))


def read_data(
    path: Path,
    columns: Sequence[str],
    settings: AutoSettings,
    leave_out: str | None,
    *,
    covariates: Sequence[str] = (),
    kind: str | None = None,
    check_scans: bool = True,
    drawn: RoiSettings | None = None,
    segmenters: Sequence[str | Path] = (),
) -> AutoData:
    """Read the manifest and deal the cases out; ``check_scans``: they have to be there.

    Raises:
        ManifestError, UsageError: every fault of them; nothing is computed before.
    """
    manifest = read_manifest(path, labels=columns, check_scans=check_scans)
    if leave_out is not None:
        check_column(manifest, leave_out, columns)
    labels = find_labels(manifest, columns, kind)
    targets = encode(manifest.cases, labels)
    check_covariates(covariates, manifest, targets, labels)
    known = ~np.isnan(targets).all(axis=1)
    rows = [i for i, case in enumerate(manifest.cases) if known[i] and case.split != "test"]
    test = [i for i, case in enumerate(manifest.cases) if known[i] and case.split == "test"]
    if not rows:
        raise ManifestError(str(path), ["expected cases with labels outside the test split, got none"])
    cases = [manifest.cases[row] for row in rows]
    scale = scale_of(targets[rows]) if labels.is_number else None
    train_targets = targets[rows] if scale is None else scale.standard(targets[rows])
    bare = Pool(tuple(c.patient for c in cases), train_targets, labels, np.zeros(len(rows), dtype=np.intp), ("all",))
    check_outcomes(bare, settings.least_cases, settings.outer_folds)
    pool = make_pool(cases, train_targets, labels, folds=settings.outer_folds, seed=settings.seed)
    site = leave_out or (SITE if SITE in manifest.columns and SITE not in columns else "")
    drawn_by = tuple(map(str, segmenters))
    return AutoData(
        manifest, labels, targets, pool, tuple(rows), tuple(test), site, tuple(covariates), scale, drawn, drawn_by
    )


def plan_all(data: AutoData, backbone: str) -> dict[tuple[str, str], TaskSettings]:
    """What ``anymc3d plan`` says, by (planes, region); what cannot be planned is left out, and said."""
    columns = data.manifest.image_columns
    planned: dict[tuple[str, str], TaskSettings] = {("own", "whole"): _plan(data, backbone, (), None, None)}
    for region, roi in _regions(data).items():
        try:
            planned["three", region] = _three_planes(data, backbone, columns, roi)
        except (UsageError, ManifestError) as error:
            if region == "drawn":
                raise
            logger.info("planes and regions: %s", error)
    return planned


def _regions(data: AutoData) -> dict[str, RoiSettings | None]:
    """What can be shown of every case of the pool and the test split, by the names of ``sights.REGIONS``."""
    cases = [*data.cases, *data.test_cases]
    regions: dict[str, RoiSettings | None] = {"whole": None}
    if not data.without_mask:
        regions["mask"] = NAMED["mask"]
    if all(case.center is not None for case in cases):
        regions |= {name: RoiSettings(source="point", size_mm=(side,) * 3) for name, side in POINT_BOXES_MM.items()}
    if data.drawn is not None:
        regions["drawn"] = data.drawn
    return regions


def _three_planes(data: AutoData, backbone: str, columns: Sequence[str], roi: RoiSettings | None) -> TaskSettings:
    if len(columns) == 1:
        return _plan(data, backbone, THREE, None, roi)
    tasks = {column: _plan(data, backbone, THREE, column, roi) for column in columns}
    views = {
        f"{column.partition('.')[2] or column}-{name}": view
        for column, task in tasks.items()
        for name, view in task.views.items()
    }
    return replace(next(iter(tasks.values())), views=views)


def _plan(
    data: AutoData,
    backbone: str,
    planes: Sequence[Plane],
    column: str | None,
    roi: RoiSettings | None,
) -> TaskSettings:
    planned = plan_task(
        data.manifest.path,
        data.labels.columns,
        backbone_name=backbone,
        image_column=column,
        planes=planes,
        roi=roi,
        segmenters=data.segmenters,
        labels=data.labels,
    ).settings
    views = {
        name: view if view.roi is None else replace(view, roi=replace(view.roi, on_empty="whole"))
        for name, view in planned.views.items()
    }
    data_settings = DataSettings(manifest=planned.data.manifest, modality=planned.data.modality)
    calibration = "none" if data.labels.is_number else planned.calibration
    return replace(planned, views=views, data=data_settings, labels=data.labels, calibration=calibration)
