"""What makes embeddings: a frozen backbone with the views of a task, or a plugin; and what of its answer is kept.

Letters: S slices, D width, P patches in rows and columns, M structures of a mask.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from anymc3d.cost.device import DTYPES, choose_device, number_format
from anymc3d.data.case import Case
from anymc3d.data.case_scans import CaseScans, PreparedCase, Segmenters
from anymc3d.data.embedding_facts import CaseFacts, facts_of
from anymc3d.data.prefetch.needs import Needs
from anymc3d.data.preprocess import PreparedView
from anymc3d.data.scan import Known
from anymc3d.errors import PluginError, ScanError, UsageError, did_you_mean
from anymc3d.models.chunked_rows import ChunkedRows
from anymc3d.models.classifier import Encoding, VolumeClassifier, grid_of, run_backbone
from anymc3d.models.features import check_backbone, read_parts, representation
from anymc3d.models.frozen_pass import Pass, frozen_parts, tokens_of
from anymc3d.models.store import find_backbone
from anymc3d.plugins import Plugin
from anymc3d.predict.resident import packed_view, residents_of
from anymc3d.segmenters.build import build_segmenters
from anymc3d.settings.config import TaskSettings
from anymc3d.settings.views import ViewSettings

LEVELS: Mapping[str, str] = {
    "slice": "one row for every slice: its class token, or what --features says",
    "scan": "one row for every scan: the mean of its slices, or as the plugin's head sees it",
    "patch": "one row for every patch of every slice, as a grid",
    "mask": "one row for every structure of the scan's segmentation: the mean of the patches inside",
}
"""THE table of levels."""
DEFAULT_VIEWS = {"image": ViewSettings(size=(224, 224, None))}
"""Without a plugin or task: every slice of the acquisition plane, the brightest half percent cut off."""

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class EmbedSettings:
    """What is kept. ``features``: of a frozen backbone at level slice or scan, an entry of ``FEATURES``."""

    level: str = "slice"
    features: str = "class"

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise UsageError(
                f"--level: unknown {self.level!r}{did_you_mean(self.level, LEVELS)}; have {', '.join(LEVELS)}"
            )
        chosen = representation(self.features)
        if self.features != "class" and self.level not in ("slice", "scan"):
            raise UsageError(f"--features: has a meaning at level slice or scan, not {self.level}; leave it out")
        if chosen.needs_mask:
            raise UsageError("--features mask: is --level mask")
        if chosen.of_scan and self.level == "slice":
            raise UsageError(f"--features {self.features}: is of a whole scan; give --level scan")


@dataclass(frozen=True, eq=False, kw_only=True)
class Source:
    """A network that is ready, the views it sees, and what identifies both."""

    classifier: VolumeClassifier
    network: nn.Module
    encoding: Encoding
    views: Mapping[str, ViewSettings]
    device: torch.device
    identity: Mapping[str, Any]
    is_plugin: bool
    segmenters: Segmenters

    def scans(self, case: Case, known: Known | None = None) -> CaseScans:
        """The scans of a case; ``known``: what another process found of it, as :meth:`needs` says."""
        return CaseScans(case, segmenters=self.segmenters, known=known)

    def needs(self, settings: EmbedSettings, *, slices: bool) -> Needs:
        """What :meth:`embed` asks of the scans of a case; without ``slices`` what shows whether they are the same."""
        return Needs(views=tuple(self.views.values()), slices=slices, masks=settings.level == "mask")

    def embed(self, scans: CaseScans, settings: EmbedSettings) -> Arrays:
        """The arrays of one case by name, see docs/embeddings.md.

        Raises:
            ScanError: a scan or its mask cannot be read or used.
        """
        return self.embed_with_facts(scans, settings)[0]

    def keeps_facts(self, settings: EmbedSettings) -> bool:
        """Whether a plugin can be made of such embeddings, so that they need what is known of the scans."""
        return not self.is_plugin and settings.level != "patch"

    def embed_with_facts(self, scans: CaseScans, settings: EmbedSettings) -> tuple[Arrays, CaseFacts | None]:
        """The same, and what a plugin that is made of them must know of the scans.

        Raises:
            ScanError: a scan or its mask cannot be read or used.
        """
        prepared = scans.prepare(self.views)
        arrays = self._arrays(prepared, scans, settings)
        return arrays, facts_of(prepared) if self.keeps_facts(settings) else None

    def _arrays(self, case: PreparedCase, scans: CaseScans, settings: EmbedSettings) -> Arrays:
        prepared = {name: view for name, view in case.views.items() if view is not None}
        masks = scans.masks(self.views) if settings.level == "mask" else {}
        if self.is_plugin and settings.level == "scan":
            return self._as_the_head_sees(prepared)
        arrays: Arrays = {}
        for name, view in prepared.items():
            with torch.inference_mode():
                arrays |= self._view(name, view, masks.get(name), settings)
        return arrays

    def _view(self, name: str, view: PreparedView, mask: NDArray[Any] | None, settings: EmbedSettings) -> Arrays:
        if settings.level == "mask":
            return self._structures(name, view, mask)
        if settings.level == "patch":
            return self._patches(name, view)
        packed = packed_view(view, self.views[name], self.device)
        if self.is_plugin:
            rows = self.classifier.encode(self.network, name, packed, self.encoding)
        else:
            wanted = Pass(features=(settings.features,))
            rows = tokens_of(
                settings.features,
                frozen_parts(self.classifier, self.network, name, packed, self.encoding, wanted),
            )
        if settings.level == "scan":
            return {name: _float32(rows.mean(dim=0))}
        return {name: _float32(rows), f"{name}.position_mm": centres(view)}

    def _as_the_head_sees(self, prepared: Mapping[str, PreparedView]) -> Arrays:
        """The fused embedding (D,) of all views, which the plugin's head turns into logits."""
        caught: list[Tensor] = []
        hook = self.classifier.head.register_forward_pre_hook(lambda _module, given: caught.append(given[0]))
        batch = {n: packed_view(prepared.get(n), view, self.device) for n, view in self.views.items()}
        try:
            with torch.inference_mode():
                self.classifier(self.network, batch, self.encoding)
        finally:
            hook.remove()
        return {"scan": _float32(caught[0][0])}

    def _patches(self, name: str, view: PreparedView) -> Arrays:
        """(S, rows, columns, D) in half precision, and the affine (4, 4) from (row, column, slice) to RAS mm."""
        packed = packed_view(view, self.views[name], self.device)
        weights = self.classifier.adapted_weights(self.network, name, self.encoding.dtype)
        patches_of = ChunkedRows(sum(packed.counts))
        for start in self.classifier.starts(self.network, name, packed, self.encoding):
            options = self.classifier.options if not isinstance(start, Tensor) else {}
            tokens = run_backbone(self.network, weights, start, self.encoding, **options).tokens
            grid = grid_of(start, self.network)
            patches = tokens[:, self.network.num_prefix_tokens :].float()
            patches_of.add(patches.reshape(len(patches), *grid, -1).half().cpu())
        values = patches_of.whole().numpy()
        return {name: values, f"{name}.affine": patch_affine(view, values.shape[1:3])}

    def _structures(self, name: str, view: PreparedView, mask: NDArray[Any] | None) -> Arrays:
        """(M, D), with the labels (M,) of the structures that the case has."""
        if mask is None:
            raise ScanError(
                f"{self.views[name].image}: --level mask needs its segmentation; give it in the mask column"
            )
        labels = np.unique(mask[mask > 0])
        if not len(labels):
            raise ScanError(f"{self.views[name].image}: its segmentation is empty where the view looks")
        packed = packed_view(view, self.views[name], self.device)
        packed = packed._replace(labels=torch.from_numpy(mask.astype(np.int64)).to(self.device))
        structures = tuple(int(label) for label in labels)
        if self.is_plugin:
            parts = self._pooled(name, packed, structures)
        else:
            wanted = Pass(features=("mask",), structures=structures)
            parts = frozen_parts(self.classifier, self.network, name, packed, self.encoding, wanted)["mask"]
        return {name: _float32(parts.reshape(len(structures), -1)), f"{name}.labels": labels.astype(np.int32)}

    def _pooled(self, name: str, packed: Any, structures: tuple[int, ...]) -> Tensor:
        """As a plugin sees it: its own adapted tokens over the structures."""
        from anymc3d.models.features import pool_masks

        weights = self.classifier.adapted_weights(self.network, name, self.encoding.dtype)
        rows, size = ChunkedRows(sum(packed.counts)), 0
        for start in self.classifier.starts(self.network, name, packed, self.encoding):
            call = partial(run_backbone, self.network, weights, start, self.encoding)
            count = len(start) if isinstance(start, Tensor) else len(start.tokens)
            chunk_labels, size = packed.labels[size : size + count], size + count
            grid = grid_of(start, self.network)
            rows.add(read_parts(self.network, call, ("mask",), grid, chunk_labels, structures)["mask"])
        return pool_masks(rows.whole(), len(structures))


def centres(view: PreparedView) -> NDArray[np.float32]:
    """(S, 3): where the middle of each slice lies, in RAS millimetres."""
    count, _, height, width = view.slices.shape
    index = np.array([[(height - 1) / 2, (width - 1) / 2, s, 1] for s in range(count)])
    return np.ascontiguousarray((index @ view.affine.T)[:, :3], dtype=np.float32)


def patch_affine(view: PreparedView, grid: tuple[int, int]) -> NDArray[np.float64]:
    """(4, 4): patch (row, column, slice) -> RAS millimetres of its centre."""
    pixels = np.array([view.slices.shape[2] / grid[0], view.slices.shape[3] / grid[1], 1.0])
    scale = np.diag([*pixels, 1.0])
    scale[:2, 3] = (pixels[:2] - 1) / 2
    return np.ascontiguousarray(view.affine @ scale)


def _float32(rows: Tensor) -> NDArray[np.float32]:
    return np.ascontiguousarray(rows.float().cpu().numpy())


def of_plugin(
    plugin: Plugin, *, backbone: str | None, device: str, precision: str, chunk_size: int, segmenters: tuple[Path, ...]
) -> Source:
    """A plugin as the source.

    Raises:
        PluginError: an ensemble, or a network that holds all its weights: they have no one embedding.
    """
    where = choose_device(device)
    encoding = Encoding(chunk_size=chunk_size, dtype=DTYPES[number_format(precision, where)])
    (resident,) = residents_of([plugin], backbone=backbone, device=where, encoding=encoding)
    member = resident.members[0]
    classifier = member.classifier
    if len(resident.members) > 1 or not isinstance(classifier, VolumeClassifier) or member.backbone is None:
        raise PluginError(
            f"plugin {plugin.card.name!r}: expected one plugin on a backbone; members of ensembles and networks that "
            "hold all their weights have embeddings of their own kinds. Give the member itself"
        )
    views = plugin.card.preprocessing
    identity = {"plugin": {"name": plugin.card.name, "hash": plugin.hash}, "backbone": member.backbone.fingerprint}
    return Source(
        classifier=classifier,
        network=member.backbone.module,
        encoding=member.encoding,
        views=views,
        device=where,
        identity=identity | {"number_format": number_format(precision, where)},
        is_plugin=True,
        segmenters=build_segmenters(list(views.values()), given_paths=segmenters),
    )


def of_backbone(
    task: TaskSettings | None,
    *,
    backbone: str | None,
    features: str,
    device: str,
    precision: str,
    chunk_size: int,
    segmenters: tuple[Path, ...],
) -> Source:
    """A frozen backbone as the source, with the views of a task or :data:`DEFAULT_VIEWS`.

    Raises:
        BackboneError: it is not at hand.
    """
    from anymc3d.settings.plain import to_plain

    views = DEFAULT_VIEWS if task is None else task.views
    name = backbone or ("dinov2-small" if task is None else task.backbone.name)
    positions = "official" if task is None else task.backbone.positions
    loaded, where = find_backbone(name, position_rule=positions), choose_device(device)
    check_backbone(features, loaded.module)
    network = loaded.module.to(where)
    neighbours = [name for name, view in views.items() if view.input == "neighbours"]
    plain = [name for name, view in views.items() if view.is_standardised]
    options = {"num_logits": 2, "neighbours": neighbours, "standardised": plain, "rank": None}
    classifier = VolumeClassifier(network, views=tuple(views), **options)
    chosen = number_format(precision, where)
    return Source(
        classifier=classifier.to(where),
        network=network,
        encoding=Encoding(mean=loaded.card.mean, std=loaded.card.std, chunk_size=chunk_size, dtype=DTYPES[chosen]),
        views=views,
        device=where,
        identity={
            "backbone": loaded.fingerprint,
            "positions": positions,
            "views": {name: to_plain(view) for name, view in views.items()},
            "number_format": chosen,
        },
        is_plugin=False,
        segmenters=build_segmenters(list(views.values()), given_paths=segmenters),
    )
