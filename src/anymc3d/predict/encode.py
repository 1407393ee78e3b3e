"""What members of plugins say of a case, of those that do not go through the backbone with others
(:mod:`anymc3d.predict.multi_plugin`): networks of their own, and frozen members of other representations than the class
token, which share one pass with the frozen members that see the same slices.
"""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import torch
from numpy.typing import NDArray
from torch import Tensor

from anymc3d.data.case_scans import CaseScans, PreparedCase
from anymc3d.data.preprocess import PreparedView
from anymc3d.errors import ScanError
from anymc3d.models.classifier import ClassifierOutput, Encoding
from anymc3d.models.frozen_pass import Pass, frozen_parts, tokens_of
from anymc3d.models.plain import PlainClassifier
from anymc3d.plugins.card import PluginCard
from anymc3d.predict.plain_numbers import numbers_of
from anymc3d.predict.resident import Resident, ResidentMember, packed, packed_view
from anymc3d.settings.views import ViewSettings

_Sight = tuple[str, Encoding, ViewSettings]
"""What frozen members must have in common to share a pass: backbone and structures, its statistics, and the slices."""


class Alone:
    """Asks single members of cases; passes of frozen backbones are made once for each case.

    Args:
        residents: all plugins, so that one pass gives what any of them needs.
        device: where they are.
    """

    def __init__(self, residents: Sequence[Resident], device: torch.device) -> None:
        self._device = device
        self._wanted: dict[_Sight, Pass] = {}
        self._kept: WeakKeyDictionary[CaseScans, dict[_Sight, dict[str, Tensor]]] = WeakKeyDictionary()
        for member in (member for resident in residents for member in resident.members if member.is_frozen):
            for view in member.card.preprocessing.values():
                sight = _sight(member, view)
                before = self._wanted.get(sight, Pass(features=()))
                names = tuple(dict.fromkeys([*before.features, member.card.features]))
                self._wanted[sight] = Pass(features=names, structures=member.card.structures)

    def takes(self, member: ResidentMember) -> bool:
        """Whether a member is asked here: it has no class tokens to share, or its pass gives more than them."""
        if not member.has_class_tokens:
            return True
        views = member.card.preprocessing.values()
        return member.is_frozen and any(self._wanted[_sight(member, view)].parts != ("class",) for view in views)

    def of_member(self, member: ResidentMember, case: str, scans: CaseScans) -> ClassifierOutput:
        """What one member says of one case.

        Raises:
            ScanError: a scan cannot be read or used.
        """
        if isinstance(member.classifier, PlainClassifier):
            return self._of_plain(member.card, member.classifier, scans)
        prepared = scans.prepare(member.card.preprocessing)
        if member.is_frozen:
            return self._of_frozen(member, case, scans, prepared)
        batch = packed(member.card.preprocessing, prepared, self._device)

        def run(encoding: Encoding) -> ClassifierOutput:
            with torch.inference_mode():
                return member.classifier(member.network, batch, encoding)

        return member.within_memory(case, run)

    def _of_plain(self, card: PluginCard, classifier: PlainClassifier, scans: CaseScans) -> ClassifierOutput:
        numbers = torch.from_numpy(numbers_of(card, scans)).to(self._device)
        with torch.inference_mode():
            return classifier(numbers.unsqueeze(0))

    def _of_frozen(
        self, member: ResidentMember, case: str, scans: CaseScans, prepared: PreparedCase
    ) -> ClassifierOutput:
        embeddings, counts = {}, {}
        masks = scans.masks(member.card.preprocessing) if member.card.structures else {}
        for name, view in member.card.preprocessing.items():
            slices, labels = prepared.views[name], masks.get(name)
            if slices is None:
                width = member.classifier.widths[name]
                embeddings[name], counts[name] = torch.zeros(0, width, device=self._device), (0,)
                continue
            if member.card.structures and labels is None:
                raise ScanError(f"{view.image}: {member.card.name} needs its segmentation; give it in the mask column")
            parts = self._parts(member, case, scans, name, slices, labels)
            embeddings[name] = tokens_of(member.card.features, parts)
            counts[name] = (len(embeddings[name]),)
        with torch.inference_mode():
            return member.classifier.fuse(embeddings, counts)

    def _parts(
        self,
        member: ResidentMember,
        case: str,
        scans: CaseScans,
        name: str,
        slices: PreparedView,
        labels: NDArray | None,
    ) -> dict[str, Tensor]:
        """The pass over one view, from the case's kept ones or made now."""
        view = member.card.preprocessing[name]
        sight = _sight(member, view)
        passes = self._kept.setdefault(scans, {})
        if sight not in passes:
            view_slices = packed_view(slices, view, self._device)
            if labels is not None:
                view_slices = view_slices._replace(labels=torch.from_numpy(labels).to(self._device))

            def run(encoding: Encoding) -> dict[str, Tensor]:
                with torch.inference_mode():
                    return frozen_parts(
                        member.classifier, member.network, name, view_slices, encoding, self._wanted[sight]
                    )

            passes[sight] = member.within_memory(case, run)
        return passes[sight]


def _sight(member: ResidentMember, view: ViewSettings) -> _Sight:
    record = member.card.backbone
    backbone = "" if record is None else f"{record.fingerprint} {record.positions} {member.card.structures}"
    return backbone, member.encoding, view
