"""The heatmap of one answer of one case, for the pictures of the most confident errors."""

from __future__ import annotations

from dataclasses import dataclass

from anymc3d.data.case import Case
from anymc3d.data.volume import Volume
from anymc3d.errors import UsageError
from anymc3d.explain.heatmaps import FUSED, Heatmap, explain_case
from anymc3d.explain.methods import check_method
from anymc3d.predict.predictor import Predictor


@dataclass(frozen=True)
class CaseHeatmaps:
    """One plugin, ready to explain, and the method.

    Raises:
        UsageError: an unknown method.
    """

    predictor: Predictor
    method: str

    def __post_init__(self) -> None:
        check_method(self.method)

    def heat(self, case: Case, plugin: str, output: str) -> tuple[Volume, Heatmap] | None:
        """The scan and the map of one label (or ``column=class``), over all views; None where another plugin answered.

        Raises:
            UsageError: the plugin has no such label.
            ScanError: the scan cannot be read or used.
        """
        card = self.predictor.plugins[0].card
        if plugin not in ("", card.name):
            return None
        if output not in card.labels.output_names:
            raise UsageError(
                f"--heatmap: expected the plugin that made the predictions, but {card.name!r} has no label {output!r}; "
                f"it has {', '.join(card.labels.output_names)}"
            )
        explained = explain_case(self.predictor, case, methods=[self.method], labels=[output])
        chosen = next((heat for heat in explained.heats if heat.view == FUSED), explained.heats[0])
        return explained.scans[chosen.column], chosen
