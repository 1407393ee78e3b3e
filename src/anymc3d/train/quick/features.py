"""Class tokens of the frozen backbone, computed once per scan and view, and kept on disk.

The key is the content of the prepared slices, which stands for all that decides them (the scan's content, the view's
settings, its region, the version of the preprocessing), and whatever decides what the backbone makes of them. Reading
the prepared slices is cheap; running the backbone is not.

One safetensors file per entry in ``features`` beside the prepared scans, checked on every read. A case's tokens are
computed by themselves, so they do not depend on what else is in the data set; several processes may share the folder:
entries appear whole or not at all, and two makers of one entry write the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load, save

from anymc3d.cost.progress import Progress
from anymc3d.data.cache import Cache
from anymc3d.data.case import Case
from anymc3d.data.case_scans import PreparedCase, Segmenters
from anymc3d.data.dataset import CaseSet
from anymc3d.errors import InterruptedRunError, RunFolderError
from anymc3d.files import home
from anymc3d.files.atomic import write_bytes
from anymc3d.models.classifier import Encoding, PackedSlices, VolumeClassifier
from anymc3d.models.store import LoadedBackbone
from anymc3d.settings.config import ViewSettings
from anymc3d.train.stopping import StopRequest

logger = logging.getLogger(__name__)

FEATURE_VERSION = 1
"""Part of every key. Raise it whenever the class tokens of the same slices can change."""
PRECISION = "fp32"
"""As ``predict`` computes by default, so that the plugin answers there what it answered here."""


class ViewFeatures(NamedTuple):
    """Of one view of one case. ``tokens``: class tokens (S, D) float32; ``brightness``: mean of each slice (S,)."""

    tokens: np.ndarray
    brightness: np.ndarray


CaseFeatures = dict[str, "ViewFeatures | None"]
"""View -> its features, or None where the case lacks the view."""


@dataclass(frozen=True)
class Features:
    """Those of all cases in order, and how many entries were computed now and found in the cache."""

    cases: list[CaseFeatures]
    computed: int
    reused: int


class FeatureCache:
    """Entries ``<key>.safetensors`` in one folder (0700)."""

    def __init__(self, folder: Path | None = None) -> None:
        """Make the folder if need be; by default ``features`` in the home folder.

        Raises:
            RunFolderError: the folder cannot be made.
        """
        self.folder = home.feature_folder() if folder is None else folder
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.folder.chmod(0o700)
        except OSError as error:
            raise _folder_error(self.folder, error) from error

    def get(self, key: str) -> ViewFeatures | None:
        """One entry, or None where there is none or a damaged one.

        Raises:
            RunFolderError: the entry cannot be read (rights).
        """
        path = self.folder / f"{key}.safetensors"
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _folder_error(self.folder, error) from error
        try:
            return _decode(content, key)
        except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
            logger.warning("cached features %s are damaged (%s): computed again", path.name, error)
            return None

    def put(self, key: str, features: ViewFeatures) -> None:
        """Keep one entry.

        Raises:
            RunFolderError: the entry cannot be written (rights, full disk).
        """
        facts = {"key": key, "sha256": _hash(features)}
        try:
            write_bytes(self.folder / f"{key}.safetensors", save(features._asdict(), metadata=facts))
        except OSError as error:
            raise _folder_error(self.folder, error) from error


def feature_key(slices: np.ndarray, view: ViewSettings, backbone: LoadedBackbone, positions: str) -> str:
    """Sha256 (hex) over all that decides class tokens: ``slices`` (S, C, H, W) as prepared, and how they are seen."""
    digest = hashlib.sha256(f"{slices.dtype} {slices.shape}\n".encode())
    digest.update(np.ascontiguousarray(slices).data)
    facts = {
        "slices": digest.hexdigest(),
        "input": view.input,
        "backbone": backbone.fingerprint,
        "positions": positions,
        "mean": backbone.card.mean,
        "std": backbone.card.std,
        "precision": PRECISION,
        "feature_version": FEATURE_VERSION,
    }
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
    quiet: bool = False,
    keep: Callable[[CaseFeatures], CaseFeatures] = lambda features: features,
) -> Features:
    """Class tokens of every case: from the cache, otherwise computed and put there.

    ``keep``: what is wanted of a case's features, where all of all cases would be too much for the memory.

    Raises:
        InterruptedRunError: a stop was asked for; what is computed is kept.
        RunFolderError: the cache cannot be used.
    """
    source = CaseSet(cases, prepared, views, slices, segmenters)
    maker = _Maker(views, backbone, positions, device, chunk_size)
    found: list[CaseFeatures] = []
    with Progress(total=len(cases), what="frozen features", unit="scan", quiet=quiet) as bar:
        for index in range(len(cases)):
            if stop.signal is not None:
                raise InterruptedRunError(
                    f"stopped after the features of {index} of {len(cases)} scans; they are kept: "
                    "the same command goes on"
                )
            loaded = source.load(index)
            found.append(keep({name: maker.features(name, loaded.get(name)) for name in views}))
            bar.update()
    return Features(found, maker.computed, maker.reused)


def class_tokens(cases: Sequence[CaseFeatures]) -> list[dict[str, np.ndarray | None]]:
    """View -> class tokens (S, D) of every case."""
    return [{name: None if found is None else found.tokens for name, found in case.items()} for case in cases]


class _Maker:
    """Takes features of single views from the cache, or computes them and puts them there; counts both."""

    def __init__(
        self,
        views: Mapping[str, ViewSettings],
        backbone: LoadedBackbone,
        positions: str,
        device: torch.device,
        chunk_size: int,
    ) -> None:
        self.computed = self.reused = 0
        self._cache = FeatureCache()
        self._views, self._backbone, self._positions, self._device = views, backbone, positions, device
        self._network = backbone.module.to(device)
        # Without LoRA the classifier only says how slices go in; its other parts are not used here.
        self._encoder = VolumeClassifier(
            self._network,
            views=tuple(views),
            num_logits=2,
            neighbours=[name for name, view in views.items() if view.input == "neighbours"],
            rank=None,
        )
        self._encoding = Encoding(mean=backbone.card.mean, std=backbone.card.std, chunk_size=chunk_size)

    def features(self, view: str, slices: np.ndarray | None) -> ViewFeatures | None:
        """Those of the slices (S, C, H, W) of one view; None where there are none."""
        if slices is None:
            return None
        key = feature_key(slices, self._views[view], self._backbone, self._positions)
        found = self._cache.get(key)
        if found is not None:
            self.reused += 1
            return found
        found = self._encode(view, slices)
        self._cache.put(key, found)
        self.computed += 1
        return found

    def _encode(self, view: str, slices: np.ndarray) -> ViewFeatures:
        with torch.inference_mode():
            tensor = torch.from_numpy(slices).to(self._device)
            packed = PackedSlices(tensor, (len(tensor),))
            tokens = self._encoder.encode(self._network, view, packed, self._encoding)
        brightness = slices.mean(axis=(1, 2, 3), dtype=np.float64).astype(np.float32)
        return ViewFeatures(np.ascontiguousarray(tokens.cpu().numpy()), brightness)


def _decode(content: bytes, key: str) -> ViewFeatures:
    features = ViewFeatures(**load(content))
    facts = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
    if facts["key"] != key:
        raise ValueError("they belong to another key")
    if facts["sha256"] != _hash(features):
        raise ValueError("their checksum is wrong")
    if features.tokens.ndim != 2 or features.brightness.shape != features.tokens.shape[:1]:
        raise ValueError(f"expected tokens (S, D) and brightness (S,), got {[part.shape for part in features]}")
    return features


def _hash(features: ViewFeatures) -> str:
    digest = hashlib.sha256()
    for part in features:
        digest.update(f"{part.dtype} {part.shape}\n".encode())
        digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()


def _folder_error(folder: Path, error: OSError) -> RunFolderError:
    what = f"the feature cache {folder} cannot be used ({error.strerror or error})"
    return RunFolderError(f"{what}; free space, repair its rights, or choose another with ANYMC3D_HOME")
