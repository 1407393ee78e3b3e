"""Scans in, predictions out: the journey of one scan, from file to decision. The twin of ``anymc3d.train.fit``.

``load("plugin.safetensors").predict("scan.nii.gz")`` gives the record that is also a row of ``predictions.csv``.
Several plugins share one resident backbone per fingerprint, one read of each scan and the passes they have in common.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import partial
from pathlib import Path

from numpy.typing import ArrayLike

from anymc3d.cost.device import DTYPES, choose_device, number_format
from anymc3d.data.case import Case
from anymc3d.data.case_faults import CaseFault, attempt
from anymc3d.data.case_scans import CaseScans, PreparedCase
from anymc3d.data.in_memory import is_path
from anymc3d.data.scan import Known
from anymc3d.data.time_limit import within
from anymc3d.data.volume import Millimetres, Volume
from anymc3d.errors import UsageError, did_you_mean
from anymc3d.models.classifier import Encoding, PackedSlices
from anymc3d.plugins import Plugin, load_named
from anymc3d.plugins.card import PluginCard
from anymc3d.predict.answer import Runs, answered, unanswered
from anymc3d.predict.covariates import cells_of, check_given
from anymc3d.predict.encode import Alone
from anymc3d.predict.faults import predict_fault
from anymc3d.predict.multi_plugin import Request, run_together
from anymc3d.predict.prediction import Prediction
from anymc3d.predict.resident import Resident, packed, prepared_for, residents_of, seen_views
from anymc3d.predict.scan_inputs import Scan, volumes_and_references
from anymc3d.predict.study import study_case
from anymc3d.segmenters.build import build_segmenters

DEFAULT_CHUNK = 64

Encoded = tuple[PreparedCase, Runs]
"""The slices of one case as a plugin takes them, and the outputs of its members."""


class Predictor:
    """Plugins, ready to predict.

    Args:
        plugins: several may belong to one backbone, which is then held once; baselines need none.
        backbone: a name, folder or file; by default each plugin's own, found by fingerprint in the local store.
        device: auto, cpu, cuda or cuda:N.
        precision: of the backbone's arithmetic: fp32 (the reference), bf16, or auto (bf16 where it is native).
        chunk_size: slices per backbone call; changes memory, not the result.
        segmenters: for plugins whose views show a region: the file of the network that draws it, where the local store
            does not have it, or the TotalSegmentator program.
        case_memory: bytes of host memory that :meth:`predict_case` may take for a case, beside what is resident.

    Raises:
        PluginError, BackboneError: a plugin cannot be used, or its backbone is not at hand.
    """

    def __init__(
        self,
        plugins: Sequence[Plugin],
        *,
        backbone: str | None = None,
        device: str = "auto",
        precision: str = "fp32",
        chunk_size: int = DEFAULT_CHUNK,
        segmenters: Sequence[str | Path] = (),
        case_memory: int | None = None,
    ) -> None:
        self.case_memory = case_memory
        views = seen_views([plugin.card for plugin in plugins])
        self._segmenters = build_segmenters(views, given_paths=segmenters)
        self.device = choose_device(device)
        self.number_format = number_format(precision, self.device)
        encoding = Encoding(chunk_size=chunk_size, dtype=DTYPES[self.number_format])
        self.residents = residents_of(plugins, backbone=backbone, device=self.device, encoding=encoding)
        self.alone = Alone(self.residents, self.device)

    def __repr__(self) -> str:
        names = ", ".join(plugin.card.name for plugin in self.plugins)
        return f"<Predictor of {names} on {self.device}, {self.number_format}>"

    @property
    def plugins(self) -> tuple[Plugin, ...]:
        """The plugins, in the order they were given."""
        return tuple(resident.plugin for resident in self.residents)

    def only(self, names: Sequence[str]) -> Predictor:
        """Some of the plugins, in their order here, with all that is resident; nothing is loaded again.

        Raises:
            UsageError: a name that no plugin has.
        """
        known = [plugin.card.name for plugin in self.plugins]
        for name in names:
            if name not in known:
                raise UsageError(f"no plugin is called {name!r}{did_you_mean(name, known)}")
        chosen = copy(self)
        chosen.residents = [resident for resident in self.residents if resident.plugin.card.name in names]
        chosen.alone = Alone(chosen.residents, self.device)
        return chosen

    def predict(
        self,
        scan: Scan | None = None,
        *,
        views: Mapping[str, Scan] | None = None,
        case: str | None = None,
        spacing: Millimetres | None = None,
        affine: ArrayLike | None = None,
        series: str | None = None,
        mask: str | Path | None = None,
        center: tuple[float, float, float] | None = None,
        covariates: Mapping[str, str | float] | None = None,
    ) -> Prediction | list[Prediction]:
        """Predict one study: one scan, or ``views`` = view -> scan. One plugin gives one prediction, several a list.

        A scan is a path, or in memory: a NumPy array or torch tensor with its ``spacing`` (mm along its axes, which are
        then right, anterior, superior) or its ``affine`` (4, 4, to RAS mm), an image of nibabel or SimpleITK, or a
        ``Volume``. ``mask`` and ``center`` (RAS, mm) are for plugins whose views show an organ or a point, as in the
        manifest. ``covariates``: column -> value, for plugins that have some; one that is missing is a warning.

        Raises:
            UsageError: what was given is no scan, or an array without spacing and affine.
            ScanError: the scan cannot be read or used (:meth:`predict_case` gives a prediction with status error).
        """
        if mask is not None and not is_path(mask):
            raise UsageError(f"mask: expected the path of a file, got {type(mask).__name__}; save it beside the scan")
        check_given(covariates or (), [plugin.card for plugin in self.plugins])
        volumes, references = volumes_and_references(scan, views, spacing, affine)
        at_hand = references.pop("", None)
        study = study_case(
            at_hand,
            references or None,
            case=case,
            spacing=spacing,
            series=series,
            mask=mask,
            center=center,
            covariates={name: str(value) for name, value in (covariates or {}).items()},
        )
        scans = self.scans(study, volumes)
        encoded = self._encoded(study, scans)
        predictions = [
            self._answered(resident, scans, encoded[number])
            if number in encoded
            else self.predict_scans(resident, study, scans)
            for number, resident in enumerate(self.residents)
        ]
        return predictions[0] if len(predictions) == 1 else predictions

    def predict_case(
        self, case: Case, *, timeout_s: float | None = None, scans: CaseScans | None = None
    ) -> list[Prediction]:
        """Predict a manifest's case with every plugin; a failure is a prediction with status ``error``.

        ``timeout_s``: seconds for each step: the work that plugins share, and the work of each plugin.
        ``scans``: of the case, where they have been opened already (:meth:`scans_known`).
        """
        scans = self.scans(case) if scans is None else scans
        encoded = self._encoded(case, scans, timeout_s)
        return [
            self._guarded(resident, case, scans, encoded.get(number), timeout_s)
            for number, resident in enumerate(self.residents)
        ]

    def _encoded(self, case: Case, scans: CaseScans, timeout_s: float | None = None) -> dict[int, Encoded]:
        """Number of the plugin -> the outputs of its members, of several plugins that share passes through backbones.

        A plugin that cannot take part is left out: it then runs alone and reports why.
        """
        if len(self.residents) == 1:
            return {}
        requests: dict[int, Request] = {}
        for number, resident in enumerate(self.residents):
            ready = partial(_prepare_members, resident, scans)
            if not isinstance(attempt(partial(within, timeout_s, ready, self.case_memory), case), CaseFault):
                requests[number] = Request(resident, scans)

        def encoded() -> dict[int, Encoded]:
            runs = run_together(list(requests.values()), case.id, self.device, self.alone)
            pairs = zip(requests.items(), runs, strict=True)
            return {
                n: (prepared_for(request.resident.plugin.card, scans), member_runs)
                for (n, request), member_runs in pairs
            }

        together = attempt(partial(within, timeout_s, encoded, self.case_memory), case)
        return {} if isinstance(together, CaseFault) else together

    def _guarded(
        self, resident: Resident, case: Case, scans: CaseScans, encoded: Encoded | None, timeout_s: float | None
    ) -> Prediction:
        def predicted() -> Prediction:
            if encoded is None:
                return self.predict_scans(resident, case, scans)
            return self._answered(resident, scans, encoded)

        answer = attempt(partial(within, timeout_s, predicted, self.case_memory), case, describe=predict_fault)
        return unanswered(resident.plugin, case.id, answer.message) if isinstance(answer, CaseFault) else answer

    def predict_scans(self, resident: Resident, case: Case, scans: CaseScans) -> Prediction:
        """The prediction of one plugin for one case whose scans are open.

        Raises:
            ScanError: a scan cannot be read or used.
            PluginError: a logit is not finite.
        """
        prepared = prepared_for(resident.plugin.card, scans)
        return self._answered(resident, scans, (prepared, self.encode(resident, case, scans)))

    def _answered(self, resident: Resident, scans: CaseScans, encoded: Encoded) -> Prediction:
        return answered(resident.plugin, scans.case.id, *encoded, cells_of(resident.plugin.card, scans))

    def scans(self, case: Case, volumes: Mapping[str, Volume] | None = None) -> CaseScans:
        """The scans of a case, each read at most once, as the plugins take them; ``volumes``: those in memory, by
        image column."""
        renamed = self._as_trained(case)
        if volumes and set(renamed.images) != set(case.images):
            volumes = dict.fromkeys(renamed.images, volumes["image"])
        return CaseScans(renamed, segmenters=self._segmenters, volumes=volumes)

    def scans_known(self, case: Case, known: Known | None) -> CaseScans:
        """The scans of a case that another process has read already, as far as :func:`needs_of` asks for it."""
        return CaseScans(self._as_trained(case), segmenters=self._segmenters, known=known)

    def _as_trained(self, case: Case) -> Case:
        """A single scan is used as the one image column that the plugins were trained on."""
        wanted = {view.image for view in seen_views([plugin.card for plugin in self.plugins])}
        if set(case.images) == {"image"} and len(wanted) == 1:
            return replace(case, images={wanted.pop(): case.images["image"]})
        return case

    def encode(self, resident: Resident, case: Case, scans: CaseScans) -> Runs:
        """The outputs of each member of one plugin; only one set of adapted weights is in memory at a time."""
        (runs,) = run_together([Request(resident, scans)], case.id, self.device, self.alone)
        return runs

    def batch(self, card: PluginCard, prepared: PreparedCase) -> dict[str, PackedSlices]:
        """The prepared slices of one case as the classifier takes them; a view it lacks has no slices."""
        return packed(card.preprocessing, prepared, self.device)


def _prepare_members(resident: Resident, scans: CaseScans) -> None:
    """Prepare the slices of all members; they are kept for later calls."""
    for member in resident.members:
        prepared_for(member.card, scans)


def load(
    plugin: str | Path | Sequence[str | Path],
    *,
    backbone: str | None = None,
    device: str = "auto",
    precision: str = "fp32",
    segmenters: Sequence[str | Path] = (),
) -> Predictor:
    """Load one plugin file or several into one predictor; see :class:`Predictor`. ``NAME=FILE`` names a plugin anew."""
    paths = [plugin] if isinstance(plugin, (str, Path)) else list(plugin)
    plugins = [load_named(path) for path in paths]
    return Predictor(plugins, backbone=backbone, device=device, precision=precision, segmenters=segmenters)
