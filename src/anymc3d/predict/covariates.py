"""What a plugin takes of a case beside its image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from anymc3d.data.case import Case
from anymc3d.data.case_scans import CaseScans
from anymc3d.data.covariate_cells import covariate_cells
from anymc3d.data.covariates import MEASURE
from anymc3d.data.measures.case import MEASURES_VERSION
from anymc3d.errors import CovariatesError, PluginError, did_you_mean
from anymc3d.plugins.card import PluginCard


def cells_of(card: PluginCard, scans: CaseScans) -> dict[str, str]:
    """The cells that hold the covariates of a case; none for a plugin without.

    Raises:
        ScanError: a scan cannot be measured.
        PluginError: another version of the program measured the training cases.
    """
    names = card.covariate_names
    if not names:
        return {}
    records = [plugin_card.covariates for plugin_card in (card, *(member.card for member in card.members))]
    versions = {record.measures_version for record in records if record is not None and record.measures_version}
    if versions - {MEASURES_VERSION}:
        raise PluginError(
            f"plugin {card.name!r} rests on measures of version {min(versions)}, this program has version "
            f"{MEASURES_VERSION}; use the program it was trained with, or train it again"
        )
    return covariate_cells(names, scans, card.modality)


def covariates_of(cards: Iterable[PluginCard], case: Case) -> dict[str, str]:
    """What some plugins take of a case's row in the manifest, for the record of what its answer depends on."""
    names = dict.fromkeys(name for card in cards for name in card.covariate_names if not name.startswith(MEASURE))
    return {name: case.cells.get(name, "") for name in names}


def check_given(names: Iterable[str], cards: Sequence[PluginCard]) -> None:
    """Check the names of covariates that a person gave: one that no plugin takes would change nothing, in silence.

    Raises:
        UsageError: no plugin takes it.
    """
    covariates = dict.fromkeys(name for card in cards for name in card.covariate_names)
    for name in names:
        if name not in covariates:
            known = f"it takes {', '.join(covariates)}" if covariates else "it takes none"
            known = known if len(cards) == 1 else known.replace("it takes", "they take")
            raise CovariatesError(
                f"covariate {name!r}: no such covariate of the plugin, {known}{did_you_mean(name, covariates)}"
            )
