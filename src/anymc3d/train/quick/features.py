"""What one pass of the frozen backbone gives of a scan, computed once per scan and view, and kept on disk.

The key is the content of the prepared slices, which stands for all that decides them (the scan's content, the view's
settings, its region, the version of the preprocessing), and whatever decides what the backbone makes of them. Reading
the prepared slices is cheap; running the backbone is not. So one pass gives the parts of every representation that is
asked for (:mod:`anymc3d.models.features`).

One safetensors file per entry in ``features`` beside the prepared scans, checked on every read. A case's parts are
computed by themselves, so they do not depend on what else is in the data set; several processes may share the folder:
entries appear whole or not at all, and two makers of one entry write the same bytes. The folder is kept within
``LIMIT_BYTES``: what was used longest ago goes first, and nothing that a running process has used.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load, save

from anymc3d.cost.progress import Progress
from anymc3d.data.cache import Cache, cache_error, clear_away
from anymc3d.data.cache_entry import safetensors_facts
from anymc3d.data.cache_size import entry_path, hold, trim_cache
from anymc3d.data.case import Case
from anymc3d.data.case_faults import CaseFault, attempt
from anymc3d.data.case_scans import PreparedCase, Segmenters
from anymc3d.data.dataset import CaseSet
from anymc3d.data.embedding_facts import brightness_of
from anymc3d.errors import InterruptedRunError, ManifestError
from anymc3d.files import home, regular
from anymc3d.files.atomic import write_bytes
from anymc3d.files.private import make_private
from anymc3d.files.regular import NotRegularError
from anymc3d.models.classifier import Encoding, PackedSlices, VolumeClassifier
from anymc3d.models.features import check_backbone, representation
from anymc3d.models.frozen_pass import Pass, frozen_parts
from anymc3d.models.store import LoadedBackbone
from anymc3d.settings.views import ViewSettings
from anymc3d.train.stopping import StopRequest

logger = logging.getLogger(__name__)

FEATURE_VERSION = 2
"""Part of every key. Raise it whenever the parts of the same slices can change."""
PRECISION = "fp32"
"""As ``predict`` computes by default, so that the plugin answers there what it answered here."""
LIMIT_BYTES = 8 * 10**9
"""Size of the folder when a run ends."""
BRIGHTNESS = "brightness"


@dataclass(frozen=True, eq=False)
class ViewFeatures:
    """Of one view of one case. ``parts``: part -> (S, its width) float32, of those that keep places or are pooled over
    masks (1, width), the whole scan's; ``brightness``: mean of each slice (S,)."""

    parts: Mapping[str, np.ndarray]
    brightness: np.ndarray

    def tokens(self, features: str) -> np.ndarray:
        """The rows of one representation: (S, D), or (1, D) of the whole scan."""
        return np.concatenate([self.parts[part] for part in representation(features).parts], axis=1)


CaseFeatures = dict[str, "ViewFeatures | None"]
"""View -> its features, or None where the case lacks the view."""
Keep = Callable[[CaseFeatures], CaseFeatures]
"""What is wanted of a case's features."""


@dataclass(frozen=True)
class Features:
    """Those of all cases in order, and how many entries were computed now and found in the cache."""

    cases: list[CaseFeatures]
    computed: int
    reused: int


class FeatureCache:
    """Entries ``<key>.safetensors`` below one folder (0700)."""

    def __init__(self, folder: Path | None = None) -> None:
        """Make the folder if need be; by default ``features`` in the home folder.

        Raises:
            OutputError: the folder cannot be made.
        """
        self.folder = home.feature_folder() if folder is None else folder
        try:
            make_private(self.folder)
            self.folder.chmod(0o700)
            hold(self, self.folder)
        except OSError as error:
            raise cache_error(self.folder, error) from error

    def get(self, key: str) -> ViewFeatures | None:
        """One entry, or None where there is none or a damaged one.

        Raises:
            OutputError: the entry cannot be read (rights).
        """
        path = entry_path(self.folder, f"{key}.safetensors")
        try:
            features = _decode(regular.read_bytes(path), key)
        except FileNotFoundError:
            return None
        except NotRegularError:
            logger.warning("cached features %s are not a file: computed again", path.name)
            clear_away(path)
            return None
        except OSError as error:
            raise cache_error(self.folder, error) from error
        except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
            logger.warning("cached features %s are damaged (%s): computed again", path.name, error)
            return None
        with contextlib.suppress(OSError):  # another process may have removed it; only its turn to go depends on this
            os.utime(path)
        return features

    def put(self, key: str, features: ViewFeatures) -> None:
        """Keep one entry.

        Raises:
            OutputError: the entry cannot be written (rights, full disk).
        """
        tensors = {**features.parts, BRIGHTNESS: features.brightness}
        facts = {"key": key, "sha256": _hash(tensors)}
        try:
            write_bytes(entry_path(self.folder, f"{key}.safetensors"), save(tensors, metadata=facts))
        except OSError as error:
            raise cache_error(self.folder, error) from error

    def trim(self) -> None:
        """Bring the folder within its limit."""
        trim_cache(self.folder, limit_bytes=LIMIT_BYTES)


def feature_key(
    slices: np.ndarray,
    view: ViewSettings,
    backbone: LoadedBackbone,
    positions: str,
    parts: Collection[str] = ("class",),
    labels: np.ndarray | None = None,
    structures: Sequence[int] = (),
) -> str:
    """Sha256 (hex) over all that decides an entry: ``slices`` (S, C, H, W) as prepared, with the ``labels`` (S, H, W)
    of their mask where it is used, and how they are seen."""
    facts: dict[str, Any] = {
        "slices": _digest(slices),
        "input": view.input,
        "backbone": backbone.fingerprint,
        "positions": positions,
        "mean": None if view.is_standardised else backbone.card.mean,
        "std": None if view.is_standardised else backbone.card.std,
        "precision": PRECISION,
        "parts": sorted(parts),
        "feature_version": FEATURE_VERSION,
    }
    if labels is not None:
        facts |= {"labels": _digest(labels), "structures": list(structures)}
    return hashlib.sha256(json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def compute_features(
    cases: Sequence[Case],
    prepared: Sequence[PreparedCase],
    views: Mapping[str, ViewSettings],
    *,
    backbone: LoadedBackbone,
    positions: str,
    device: torch.device,
    slices: Cache,
    chunk_size: int,
    stop: StopRequest,
    segmenters: Segmenters | None = None,
    wanted: Pass | None = None,
    quiet: bool = False,
    keep: Keep = lambda features: features,
) -> Features:
    """The parts of every case: from the cache, otherwise computed and put there.

    ``keep``: what is wanted of a case's features, where all of all cases would be too much for the memory.

    Raises:
        UsageError: the backbone does not have a part.
        InterruptedRunError: a stop was asked for; what is computed is kept.
        ManifestError: some cases cannot be read or computed; each is listed with its reason.
        OutputError: the cache cannot be used.
    """
    wanted = wanted or Pass()
    source = CaseSet(cases, prepared, views, slices, segmenters)
    maker = FeatureMaker(views, backbone, positions, device, chunk_size, wanted)
    features: list[CaseFeatures] = []
    problems: list[str] = []
    with Progress(total=len(cases), what="frozen features", unit="scan", quiet=quiet) as bar:
        for index in range(len(cases)):
            if stop.signal is not None:
                raise InterruptedRunError(
                    f"stopped after the features of {index} of {len(cases)} scans; they are kept: "
                    "the same command goes on"
                )
            case = attempt(partial(_of_case, source, index, maker, wanted, keep), cases[index])
            if isinstance(case, CaseFault):
                problems.append(f"case {cases[index].id!r}: {case.message}")
            else:
                features.append(case)
            bar.update()
    if problems:
        raise ManifestError("scans that cannot be used", problems)
    maker.cache.trim()
    return Features(features, maker.computed, maker.reused)


def _of_case(source: CaseSet, index: int, maker: FeatureMaker, wanted: Pass, keep: Keep) -> CaseFeatures:
    loaded = source.load(index)
    masks = source.masks(index) if wanted.needs_mask else {}
    return keep({name: maker.features(name, loaded.get(name), masks.get(name)) for name in source.views})


def class_tokens(cases: Sequence[CaseFeatures]) -> list[dict[str, np.ndarray | None]]:
    """View -> class tokens (S, D) of every case."""
    return [{name: None if part is None else part.tokens("class") for name, part in case.items()} for case in cases]


class FeatureMaker:
    """Takes features of single views from the cache, or computes them and puts them there; counts both.

    Raises:
        UsageError: the backbone does not have a part.
    """

    def __init__(
        self,
        views: Mapping[str, ViewSettings],
        backbone: LoadedBackbone,
        positions: str,
        device: torch.device,
        chunk_size: int,
        wanted: Pass,
    ) -> None:
        for name in wanted.features:
            check_backbone(name, backbone.module)
        self.computed = self.reused = 0
        self.cache = FeatureCache()
        self._views, self._backbone, self._positions, self._device = views, backbone, positions, device
        self._wanted, self._network = wanted, backbone.module.to(device)
        # Without LoRA the classifier only says how slices go in; its other parts are not used here.
        self._encoder = VolumeClassifier(
            self._network,
            views=tuple(views),
            num_logits=2,
            neighbours=[name for name, view in views.items() if view.input == "neighbours"],
            standardised=[name for name, view in views.items() if view.is_standardised],
            rank=None,
        )
        self._encoding = Encoding(mean=backbone.card.mean, std=backbone.card.std, chunk_size=chunk_size)

    def features(self, view: str, slices: np.ndarray | None, labels: np.ndarray | None = None) -> ViewFeatures | None:
        """Those of the slices (S, C, H, W) of one view with their mask (S, H, W); None where there are none."""
        if slices is None:
            return None
        wanted = self._wanted
        mask = labels if wanted.needs_mask else None
        key = feature_key(
            slices, self._views[view], self._backbone, self._positions, wanted.parts, mask, wanted.structures
        )
        features = self.cache.get(key)
        if features is not None:
            self.reused += 1
            return features
        features = self.computed_features(view, slices, mask)
        self.cache.put(key, features)
        self.computed += 1
        return features

    def computed_features(self, view: str, slices: np.ndarray, labels: np.ndarray | None = None) -> ViewFeatures:
        """The same, whatever the cache holds; nothing is kept."""
        tensor = torch.from_numpy(slices).to(self._device)
        masks = None if labels is None else torch.from_numpy(labels).to(self._device)
        packed = PackedSlices(tensor, (len(tensor),), labels=masks)
        with torch.inference_mode():
            parts = frozen_parts(self._encoder, self._network, view, packed, self._encoding, self._wanted)
        arrays = {name: np.ascontiguousarray(part.cpu().numpy()) for name, part in parts.items()}
        return ViewFeatures(arrays, brightness_of(slices))


def _decode(content: bytes, key: str) -> ViewFeatures:
    tensors = load(content)
    facts = safetensors_facts(content)
    if facts["key"] != key:
        raise ValueError("they belong to another key")
    if facts["sha256"] != _hash(tensors):
        raise ValueError("their checksum is wrong")
    brightness = tensors.pop(BRIGHTNESS)
    rows = {len(part) for part in tensors.values()}
    if any(part.ndim != 2 for part in tensors.values()) or not rows <= {1, len(brightness)}:
        raise ValueError(f"expected parts of {len(brightness)} rows or one, got {[p.shape for p in tensors.values()]}")
    return ViewFeatures(tensors, brightness)


def _digest(array: np.ndarray) -> str:
    digest = hashlib.sha256(f"{array.dtype} {array.shape}\n".encode())
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _hash(tensors: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name} {_digest(tensors[name])}\n".encode())
    return digest.hexdigest()
