"""The test split answered by the finished plugin from folders of embeddings that hold its cases too; no scan is read.

What each member sees of a case stands in the folder that the member was made of: the vectors of its views, or what is
known of the scans. From there on the answer is that of ``predict``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from anymc3d.automl.data import AutoData
from anymc3d.automl.embedded import Source, measured_scan
from anymc3d.automl.folder import AutoFolder
from anymc3d.automl.scoring import TestCases
from anymc3d.data.case_scans import PreparedCase
from anymc3d.data.measures.case import as_numbers
from anymc3d.data.preprocess import PreparedView
from anymc3d.files.tables import write_table
from anymc3d.models.classifier import ClassifierOutput, VolumeClassifier
from anymc3d.models.features import representation
from anymc3d.models.plain import PlainClassifier
from anymc3d.plugins.card import PluginCard
from anymc3d.predict.answer import answered
from anymc3d.predict.resident import ResidentMember
from anymc3d.segmenters.store import portable
from anymc3d.train.quick.embedded import EmbeddedCases, cases_of

LEVELS = ("slice", "mask", "scan")
"""Slices before their means: a member that pools otherwise needs them."""


@dataclass(frozen=True, eq=False)
class _Held:
    """A folder, and the cases of the test split in it."""

    source: Source
    cases: EmbeddedCases

    def views_of(self, card: PluginCard) -> dict[str, str] | None:
        """View of a plugin -> the folder's view that shows the same; None where one is not there."""
        portable_views = {name: portable(view) for name, view in self.source.embedded.views.items()}
        same = {
            plugin_view: [name for name, view in portable_views.items() if view == wanted]
            for plugin_view, wanted in card.preprocessing.items()
        }
        return {plugin_view: names[0] for plugin_view, names in same.items()} if all(same.values()) else None

    def shows(self, card: PluginCard) -> bool:
        """Whether it has what a frozen member sees."""
        parts = set(representation(self.source.embedded.features).parts)
        is_backbone = card.backbone is not None and card.backbone.fingerprint == self.source.backbone.fingerprint
        has_parts = parts.issuperset(representation(card.features).parts)
        return is_backbone and has_parts and self.views_of(card) is not None


class EmbeddedTestCases(TestCases):
    """The cases of the test split as the folders have them.

    Raises:
        ManifestError: some were not embedded; all are listed.
    """

    __test__ = False

    def __init__(
        self, folder: AutoFolder, data: AutoData, device: str, sources: Sequence[Source], *, quiet: bool
    ) -> None:
        ordered = sorted(sources, key=lambda source: LEVELS.index(source.embedded.level))
        self._held = [
            _Held(
                source, cases_of(source.embedded, data.test_cases, source.backbone, structures=source.cases.structures)
            )
            for source in ordered
        ]
        super().__init__(folder, data, device, quiet=quiet)

    def _answers(self, count: int) -> list[dict[str, str]]:
        rows = [self._row(index) for index in range(count)]
        columns = [name for name in rows[0] if name != "plugin"]
        write_table(
            self.folder.test / "predictions.csv", columns, [{name: row[name] for name in columns} for row in rows]
        )
        return rows

    def _row(self, index: int) -> dict[str, str]:
        (resident,) = self.predictor.residents
        plugin, case = resident.plugin, self.data.test_cases[index]
        with torch.inference_mode():
            runs = [(member.card, self._run(member, index)) for member in resident.members]
        return answered(plugin, case.id, self._prepared(plugin.card, index), runs, case.cells).row()

    def _run(self, member: ResidentMember, index: int) -> ClassifierOutput:
        """What one member says."""
        card, classifier = member.card, member.classifier
        if isinstance(classifier, PlainClassifier) and card.plain is not None:
            held = next(
                held_source
                for held_source in self._held
                if held_source.cases.know_their_scans and held_source.views_of(card) is not None
            )
            columns = dict.fromkeys(view.image for view in card.preprocessing.values())
            numbers = as_numbers(measured_scan(held.cases.prepared[index], columns), card.plain.measures)
            return classifier(torch.tensor(numbers, dtype=torch.float32, device=self.predictor.device).unsqueeze(0))
        held = next(held_source for held_source in self._held if held_source.shows(card))
        assert isinstance(classifier, VolumeClassifier)
        features, names = held.cases.features[index], held.views_of(card) or {}
        embeddings = {}
        for plugin_view, name in names.items():
            seen = features[name]
            rows = (
                np.zeros((0, classifier.widths[plugin_view]), np.float32)
                if seen is None
                else seen.tokens(card.features)
            )
            embeddings[plugin_view] = torch.from_numpy(rows).to(self.predictor.device)
        return classifier.fuse(embeddings, {plugin_view: (len(rows),) for plugin_view, rows in embeddings.items()})

    def _prepared(self, card: PluginCard, index: int) -> PreparedCase:
        """What is known of a case, by the views of the plugin: their slices are not, only that they are there."""
        views: dict[str, PreparedView | None] = {}
        scans, measures = {}, {}
        for held in self._held:
            case = held.cases.prepared[index]
            scans |= dict(case.scans)
            portable_views = {name: portable(view) for name, view in held.source.embedded.views.items()}
            for plugin_view, wanted in card.preprocessing.items():
                for name in (
                    name for name, view in portable_views.items() if view == wanted and plugin_view not in views
                ):
                    views[plugin_view] = None if held.cases.features[index][name] is None else _there(wanted.plane)
                    measures |= _renamed(case.measures, name, plugin_view)
            measures |= {name: values for name, values in case.measures.items() if name.startswith(_OF_SCANS)}
        wanted_columns = {view.image for view in card.preprocessing.values()}
        facts = {column: scan_facts for column, scan_facts in scans.items() if column in wanted_columns}
        return PreparedCase(views, facts, {}, measures=measures)


_OF_SCANS = ("geometry.", "histogram.")


def _there(plane: str) -> PreparedView:
    return PreparedView(np.zeros((1, 1, 1, 1), np.float16), np.eye(4), "axial" if plane == "auto" else plane)


def _renamed(measures: Mapping[str, np.ndarray], name: str, plugin_view: str) -> dict[str, np.ndarray]:
    """The measures of a folder's view under its name in the plugin."""
    return {
        f"{what}.{plugin_view}": measures[f"{what}.{name}"]
        for what in ("texture", "layout")
        if f"{what}.{name}" in measures
    }
