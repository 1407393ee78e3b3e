"""Trunk tokens of training slices: computed once for each scan, view and augmented copy, and used in many epochs.

With ``method.blocks`` nothing before the seam changes in training, so what the trunk makes of a scan is kept. In place
of a fresh draw in every epoch, ``train.copies`` copies of each scan are drawn, by the content of its slices and not by
the run: epochs, runs of other settings, folds and members of an ensemble use the same ones. An epoch goes on to the
next copy of each case.

Tokens are computed by themselves for every scan and view, and their key is all that decides them. So it makes no
difference to a run which of them were found, which were made, and which were not kept because the cache is full.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from anymc3d.data.array_store import ArrayStore
from anymc3d.data.augmentation import augment
from anymc3d.files import home
from anymc3d.models.build import Classifier
from anymc3d.models.chunked_rows import ChunkedRows
from anymc3d.models.classifier import Encoding, PackedSlices, VolumeClassifier
from anymc3d.models.seam import TrunkTokens
from anymc3d.models.store import LoadedBackbone
from anymc3d.settings.config import TaskSettings
from anymc3d.settings.views import ViewSettings
from anymc3d.train.draws import Visit, generator

COPIES = 8
"""What ``train.copies: null`` means; compared with 1 and 4 in benchmarks/last_blocks.md."""
TOKEN_VERSION = 1
"""Part of every key. Raise it whenever the tokens of the same slices, or the augmented slices of a draw, can change."""


class Piece(NamedTuple):
    """One view of one case on its way to tokens: they are kept already, or are made of ``slices`` (S, C, H, W)."""

    key: str
    tokens: TrunkTokens | None
    slices: Tensor | None


@dataclass(frozen=True)
class TrunkPass:
    """How slices become trunk tokens.

    Args:
        classifier, backbone: say where the seam is, and how slices go in.
        encoding: chunk size and precision.
        store: None = nothing is kept.
        views: of the task.
        augmentation: entry of the augmentation table.
        copies: of each case; 1 where nothing is drawn.
        seed: of the order in which copies are used.
    """

    classifier: VolumeClassifier
    backbone: LoadedBackbone
    encoding: Encoding
    store: ArrayStore | None
    views: Mapping[str, ViewSettings]
    augmentation: str
    copies: int
    seed: int
    _hashes: dict[tuple[int, str], str] = field(default_factory=dict)
    """Hashes of the prepared slices of (case, view), kept over the run."""

    def piece(self, name: str, slices: np.ndarray, visit: Visit, epoch: int, device: torch.device) -> Piece:
        """The tokens of one view of a case, of the copy for ``epoch``, or the augmented slices they are to be made of.

        ``slices``: (S, C, H, W) as prepared.
        """
        copy = self.copy_of(visit, epoch)
        if (visit.case, name) not in self._hashes:
            self._hashes[visit.case, name] = _content(slices)
        content = self._hashes[visit.case, name]
        key = self._key(content, name, copy)
        stored = None if self.store is None else self.store.get(key)
        if stored is not None:
            return Piece(key, self._read(stored, device), None)
        tensor = torch.from_numpy(slices).to(device).float()
        draws = generator(0, "augmented copy", copy, content)
        parameters = augment.draw(augment.recipe(self.augmentation), generator=draws, shape=tuple(tensor.shape))
        bounds = augment.value_range(self.views[name])
        return Piece(key, None, augment.apply(parameters, tensor, value_range=bounds))

    def tokens(self, name: str, piece: Piece) -> TrunkTokens:
        """The tokens of a piece (S, T, D) in float16, computed and kept if they were not found."""
        if piece.tokens is not None:
            return piece.tokens
        packed = PackedSlices(piece.slices, (len(piece.slices),))
        pieces = ChunkedRows(len(piece.slices))
        with torch.no_grad():
            for part in self.classifier.starts(self.backbone.module, name, packed, self.encoding):
                pieces.add(part.tokens)
        made = part._replace(tokens=pieces.whole())
        if self.store is not None:
            self.store.put(piece.key, {"tokens": made.tokens.cpu().numpy(), "grid": np.array(made.grid)})
        return made

    def plain(self) -> TrunkPass:
        """The same for cases that are not augmented."""
        return replace(self, augmentation="none", copies=1, _hashes={})

    def in_float32(self) -> TrunkPass:
        """The same with the trunk computed in float32."""
        return replace(self, encoding=replace(self.encoding, dtype=torch.float32))

    def copy_of(self, visit: Visit, epoch: int) -> int:
        """Which copy of a case a visit uses: one after the other, from a first one that is drawn."""
        first = int(torch.randint(self.copies, (), generator=generator(self.seed, "first copy", visit.case)))
        return (first + epoch + visit.again) % self.copies

    def _read(self, stored: Mapping[str, np.ndarray], device: torch.device) -> TrunkTokens:
        rows, columns = (int(number) for number in stored["grid"])
        return TrunkTokens(torch.from_numpy(stored["tokens"]).to(device), self.classifier.seam, (rows, columns))

    def _key(self, content: str, name: str, copy: int) -> str:
        view, card = self.views[name], self.backbone.card
        facts = {
            "slices": content,
            "input": view.input,
            "trunk": self.backbone.trunk(self.classifier.seam),
            "seam": self.classifier.seam,
            "network": repr(self.backbone.module.config),
            "mean": None if view.is_standardised else card.mean,
            "std": None if view.is_standardised else card.std,
            "dtype": str(self.encoding.dtype),
            "chunk_size": self.encoding.chunk_size,
            "augmentation": asdict(augment.recipe(self.augmentation)),
            "bounds": augment.value_range(view),
            "copy": copy,
            "version": TOKEN_VERSION,
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def trunk_pass(
    task: TaskSettings, classifier: Classifier, backbone: LoadedBackbone | None, encoding: Encoding
) -> TrunkPass | None:
    """How the training slices of a task become tokens; None where the slices themselves are trained on.

    Raises:
        RunFolderError: the folder of the tokens cannot be made.
    """
    if not task.train.copies or backbone is None or not isinstance(classifier, VolumeClassifier):
        return None
    limit = int(task.train.token_cache_gb * 1e9)
    options = {"what": "trunk tokens", "setting": "train.token_cache_gb"}
    return TrunkPass(
        classifier=classifier,
        backbone=backbone,
        encoding=encoding,
        store=ArrayStore(home.token_folder(), limit_bytes=limit, **options) if limit else None,
        views=task.views,
        augmentation=task.augmentation,
        copies=task.train.copies if augment.recipe(task.augmentation) != augment.Recipe() else 1,
        seed=task.train.seed,
    )


def _content(slices: np.ndarray) -> str:
    digest = hashlib.sha256(f"{slices.dtype} {slices.shape}\n".encode())
    digest.update(np.ascontiguousarray(slices).data)
    return digest.hexdigest()
