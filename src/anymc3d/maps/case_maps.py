"""One case's segmentation: probabilities on the slices of every view, on the scan's own grid, then the likeliest.

Probabilities are interpolated and labels are not: a border then runs between voxels where it should. Views of one scan
(planes of it) count alike: at each voxel the mean over those that see it decides. What no view sees is background.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from anymc3d.data.case import Case
from anymc3d.data.case_scans import PreparedCase
from anymc3d.data.scan_grid import to_scan_grid
from anymc3d.data.volume import Affine
from anymc3d.errors import PluginError, UsageError
from anymc3d.models.classifier import Encoding
from anymc3d.models.decoders.run import classify_and_decode
from anymc3d.predict.predictor import Predictor
from anymc3d.predict.resident import Resident

Shape = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Drawn:
    """The segmentation of one scan."""

    column: str
    """The manifest column of the scan."""
    labels: NDArray[Any]
    """(I, J, K) uint8 or int16 in the scan's storage order: labels of the structures, 0 background."""
    affine: Affine

    @property
    def shape(self) -> Shape:
        """Voxels along the stored axes."""
        return self.labels.shape


def check_decodes(predictor: Predictor) -> None:
    """Check that there is one plugin, with its decoder.

    Raises:
        UsageError: several plugins. PluginError: it has none.
    """
    if len(predictor.plugins) != 1:
        raise UsageError(f"--segmentation: expected one plugin, got {len(predictor.plugins)}; run it for each")
    (plugin,) = predictor.plugins
    if not plugin.card.decodes:
        trained = plugin.card.segmentation is not None or plugin.card.members
        how = "its decoder was not kept" if trained else "it was trained without one"
        ours = "" if not plugin.card.holds_network else f"method: anymc3d in place of {plugin.card.method.name}, and "
        raise PluginError(
            f"--segmentation: plugin {plugin.card.name!r} holds no decoder ({how}); "
            f"train with {ours}segmentation: {{decoder: nnunet, keep: true}}"
        )


def structures(predictor: Predictor) -> tuple[int, ...]:
    """The labels of the structures that the predictor's one plugin draws."""
    card = predictor.residents[0].members[0].card
    return card.segmentation.classes if card.segmentation is not None else ()


def segment_case(predictor: Predictor, case: Case) -> list[Drawn]:
    """Segment every scan of a case that a view of the plugin shows.

    Raises:
        ScanError: a scan cannot be read or used.
        PluginError: the decoder's answer is not finite.
    """
    (resident,) = predictor.residents
    scans = predictor.scans(case)
    card = resident.plugin.card
    prepared = scans.prepare(card.preprocessing)
    views = prepared.views
    maps = _probabilities(predictor, resident, case, prepared)
    drawn = []
    for column in dict.fromkeys(view.image for view in card.preprocessing.values()):
        of_scan = [
            (maps[name], views[name].affine)
            for name, view in card.preprocessing.items()
            if view.image == column and name in maps
        ]
        if of_scan:
            header = scans.header(column)
            labels = likeliest(of_scan, header.shape, header.affine, structures(predictor))
            drawn.append(Drawn(column, labels, header.affine))
    return drawn


def likeliest(
    maps: Sequence[tuple[NDArray[np.float32], Affine]], shape: Shape, affine: Affine, labels: Sequence[int]
) -> NDArray[Any]:
    """The likeliest label of every voxel of a scan.

    Args:
        maps: of every view, (1 + C, S, H, W) probabilities on its slices, and their affine.
        shape, affine: of the scan as it is stored.
        labels: of the C structures.

    Returns:
        ``shape``; uint8, or int16 where a label needs it.
    """
    result = np.zeros(shape, dtype=np.uint8 if max(labels) <= 255 else np.int16)
    best = _summed(maps, 0, shape, affine)
    for index, label in enumerate(labels, start=1):
        summed = _summed(maps, index, shape, affine)
        above = summed > best
        result[above] = label
        best = np.maximum(best, summed)
    return result


def _summed(
    maps: Sequence[tuple[NDArray[np.float32], Affine]], index: int, shape: Shape, affine: Affine
) -> NDArray[np.float32]:
    """One class over all views. The sum decides as the mean does: a view that does not see a voxel adds 0 to all."""
    return sum(to_scan_grid(of_view[index], view_affine, shape, affine) for of_view, view_affine in maps)


def _probabilities(
    predictor: Predictor, resident: Resident, case: Case, prepared: PreparedCase
) -> dict[str, NDArray[np.float32]]:
    """View -> (1 + C, S, H, W); of an ensemble the mean of its members."""
    batch = predictor.batch(resident.plugin.card, prepared)
    wanted = {name: [0] for name, view in prepared.views.items() if view is not None}

    def run(encoding: Encoding) -> dict[str, NDArray[np.float32]]:
        of_members: dict[str, list[NDArray[np.float32]]] = {name: [] for name in wanted}
        with torch.inference_mode():
            for classifier in (member.classifier for member in resident.members):
                _, maps = classify_and_decode(classifier, resident.backbone.module, batch, encoding, wanted)
                for (name, _), output in maps.items():
                    size = tuple(batch[name].slices.shape[-2:])
                    of_members[name].append(classifier.decoder[name].probabilities(output, size).float().cpu().numpy())
        return {name: np.mean(members, axis=0) for name, members in of_members.items()}

    maps = resident.within_memory(case.id, run)
    if not all(np.isfinite(values).all() for values in maps.values()):
        # No comparison holds with NaN, so such voxels would quietly be background.
        raise PluginError(f"the decoder of {resident.plugin.card.name!r} gave values that are not finite")
    return maps
