"""Modality and normalisation, from the intensities of the training scans that were looked at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from anymc3d.data.intensity import IntensityProfile, guess_modality
from anymc3d.plan.body import Tissues, choose_ct_windows
from anymc3d.settings.windows import Pair, window_names
from anymc3d.types import Modality

_MASK_VALUES = 64


class IntensityChoice(NamedTuple):
    """Modality, normalisation and windows, each with its reason."""

    modality: Modality
    modality_reason: str
    normalise: str
    windows: tuple[Pair, ...]
    normalise_reason: str


def choose_intensity(
    profiles: Sequence[IntensityProfile],
    dtypes: Sequence[str],
    seen: Sequence[Tissues] = (),
    *,
    windows: tuple[Pair, ...] = (),
) -> IntensityChoice:
    """Modality by majority of the sampled scans, and how their intensities become [0, 1].

    Args:
        profiles: of the scans that were looked at.
        dtypes: stored types of all training scans.
        seen: tissues of the same scans; they choose the windows of CT.
        windows: those that the user asked for.
    """
    modality, reason = guess_majority(profiles)
    if windows:
        named = window_names(windows) or "numbers"
        doubt = "" if modality == "CT" else f"; the scans do not look like CT ({modality}), so check them"
        return IntensityChoice(modality, reason, "window", windows, f"asked for: {named}{doubt}")
    low, high = min(p.minimum for p in profiles), max(p.maximum for p in profiles)
    few_values = all(profile.distinct <= _MASK_VALUES for profile in profiles)
    eight_bit = all(dtype == "uint8" for dtype in dtypes) and low >= 0 and high <= 255
    if (few_values or eight_bit) and low < high:
        kind = "masks or label maps" if few_values else "8-bit values"
        reason = f"{kind}, {low:g} to {high:g}" if eight_bit or few_values else reason
        return IntensityChoice("other", reason, "window", ((low, high),), f"the whole range: {kind}")
    if modality == "CT":
        return IntensityChoice("CT", reason, "window", *choose_ct_windows(seen))
    return IntensityChoice(modality, reason, "percentile", (), "0.5 to 99.5 % of each scan: there is no absolute scale")


def guess_majority(profiles: Sequence[IntensityProfile]) -> tuple[Modality, str]:
    """The modality that most scans look like, and why."""
    guesses = [guess_modality(profile) for profile in profiles]
    modality, votes = Counter(guess.modality for guess in guesses).most_common(1)[0]
    alike = [pair for pair in zip(profiles, guesses, strict=True) if pair[1].modality == modality]
    # Of the scan in the middle, so that one strange scan does not speak for all.
    why = sorted(alike, key=lambda pair: pair[0].p995)[len(alike) // 2][1].reason
    reason = f"{votes} of {len(guesses)} scans looked at: {why}"
    if votes < len(guesses):
        others = sorted({guess.modality for guess in guesses} - {modality})
        reason = f"MIXED: {reason}; the others look like {', '.join(others)}; check them"
    return modality, reason
