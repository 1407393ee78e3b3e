"""Modality and normalisation, from the intensities of the training scans that were looked at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from anymc3d.data.intensity import IntensityProfile, ModalityGuess, guess_modality, is_label_map
from anymc3d.data.volume import SUV
from anymc3d.plan.body import choose_ct_windows
from anymc3d.plan.measure import SampledScan
from anymc3d.settings.windows import Pair, window, window_names
from anymc3d.types import Modality

_MASK_VALUES = 2
_HOT_SUV = 10.0
"""A median scan whose 99.5 % percentile is above is no FDG of the body: more of it would be cut off by 10."""
_MOST_SUV = 60.0
_IN_HEADERS: tuple[Modality, ...] = ("CT", "MR", "PT")


class IntensityChoice(NamedTuple):
    """Modality, normalisation and windows, each with its reason."""

    modality: Modality
    modality_reason: str
    normalise: str
    windows: tuple[Pair, ...]
    normalise_reason: str


def choose_intensity(
    samples: Sequence[SampledScan],
    dtypes: Sequence[str],
    *,
    windows: tuple[Pair, ...] = (),
    modality: Modality | None = None,
) -> IntensityChoice:
    """Modality by majority of the sampled scans, and how their intensities become [0, 1].

    Args:
        samples: the scans that were looked at.
        dtypes: stored types of all training scans.
        windows: those that the user asked for.
        modality: what the user says; None: what the headers say, or else the values.
    """
    guessed, reason = guess_majority(samples)
    if modality is not None:
        guessed, reason = modality, f"asked for ({reason})" if modality != guessed else f"asked for; {reason}"
    if windows:
        named = window_names(windows, guessed) or "numbers"
        doubt = "" if guessed in ("CT", "PT") else f"; the scans do not look like CT ({guessed}), so check them"
        how = "suv" if guessed == "PT" else "window"
        return IntensityChoice(guessed, reason, how, windows, f"asked for: {named}{doubt}")
    profiles = [sample.profile for sample in samples]
    low, high = min(p.minimum for p in profiles), max(p.maximum for p in profiles)
    few_values = all(profile.distinct <= _MASK_VALUES or is_label_map(profile) for profile in profiles)
    eight_bit = all(dtype == "uint8" for dtype in dtypes) and low >= 0 and high <= 255
    if guessed != "PT" and (few_values or eight_bit) and low < high:
        kind = "masks or label maps" if few_values else "8-bit values"
        reason = f"{kind}, {low:g} to {high:g}" if eight_bit or few_values else reason
        return IntensityChoice("other", reason, "window", ((low, high),), f"the whole range: {kind}")
    if guessed == "CT":
        return IntensityChoice("CT", reason, "window", *choose_ct_windows([sample.tissues for sample in samples]))
    if guessed == "PT":
        return IntensityChoice("PT", reason, *_of_pet(samples))
    doubt = ""
    if guessed == "MR" and not any(sample.modality for sample in samples) and modality is None:
        doubt = "; PET of the brain looks alike: --modality PT says so"
    return IntensityChoice(
        guessed, f"{reason}{doubt}", "percentile", (), "0.5 to 99.5 % of each scan: there is no absolute scale"
    )


def _of_pet(samples: Sequence[SampledScan]) -> tuple[str, tuple[Pair, ...], str]:
    """SUV where every scan has it, or looks so; else percentiles, which need no units."""
    without = [sample for sample in samples if sample.units not in (None, SUV)]
    if without:
        why = Counter(sample.why_not_suv for sample in without).most_common(1)[0][0]
        what = f"{len(without)} of {len(samples)} scans have no SUV ({why})"
        return "percentile", (), f"{what}: 0.5 to 99.5 % of each scan, which needs no units; CHECK"
    hot = sorted(sample.profile.p995 for sample in samples)[len(samples) // 2]
    if any(sample.units is None and sample.profile.p995 > _MOST_SUV for sample in samples):
        return (
            "percentile",
            (),
            (
                f"values up to {hot:.4g} are no SUV, and the files do not say their units: 0.5 to 99.5 % of each scan; "
                "convert them to SUV for one scale; CHECK"
            ),
        )
    name = "suv-10" if hot <= _HOT_SUV else "suv-20"
    how_known = (
        "the headers give SUV" if all(sample.units == SUV for sample in samples) else "taken as SUV by their range"
    )
    return (
        "suv",
        (window(name),),
        f"{name}: {how_known}, 99.5 % of the voxels below {hot:.3g} in the middle scan; check",
    )


class ScanEvidence(Protocol):
    """A scan, by which its modality is known: what its header says, and its values."""

    @property
    def modality(self) -> str | None: ...
    @property
    def profile(self) -> IntensityProfile: ...


def guess_majority(samples: Sequence[ScanEvidence]) -> tuple[Modality, str]:
    """The modality of most scans, and why: by their headers where those say it, else by their values."""
    guesses = [_guess(sample) for sample in samples]
    modality, votes = Counter(guess.modality for guess in guesses).most_common(1)[0]
    agreeing = [pair for pair in zip(samples, guesses, strict=True) if pair[1].modality == modality]
    # Of the scan in the middle, so that one strange scan does not speak for all.
    why = sorted(agreeing, key=lambda pair: pair[0].profile.p995)[len(agreeing) // 2][1].reason
    reason = f"{votes} of {len(guesses)} scans looked at: {why}"
    if votes < len(guesses):
        others = sorted({guess.modality for guess in guesses} - {modality})
        reason = f"MIXED: {reason}; the others look like {', '.join(others)}; check them"
    return modality, reason


def _guess(sample: ScanEvidence) -> ModalityGuess:
    modality = next((name for name in _IN_HEADERS if name == sample.modality), None)
    return guess_modality(sample.profile) if modality is None else ModalityGuess(modality, "the header says so")
