"""What a file of embeddings says of the scans themselves, beside the vectors: a line of JSON in the file's header.

With it a plugin that is made of embeddings knows its training scans as one that is made of the scans does: their
intensities, and how unlike them a new scan is. Shape, spacing and modality are all that is kept of a scan's header.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anymc3d.data.case_scans import PreparedCase
from anymc3d.data.intensity import IntensityProfile
from anymc3d.data.ood_measures import LENGTHS, Measures, measure_case
from anymc3d.data.scan import ScanFacts

KEY = "scans"
"""The key in the file's header."""
_COUNTS = ("distinct",)


@dataclass(frozen=True, eq=False)
class CaseFacts:
    """Of one case. ``scans``: image column -> facts, without warnings; ``measures``: by
    :func:`anymc3d.data.ood_measures.measure_case`; ``brightness``: view -> mean of each slice (S,)."""

    scans: Mapping[str, ScanFacts]
    measures: Measures
    brightness: Mapping[str, NDArray[np.float32]]


def facts_of(prepared: PreparedCase) -> CaseFacts:
    """What is kept of a case whose slices are at hand."""
    seen = {name: view.slices for name, view in prepared.views.items() if view is not None}
    return CaseFacts(
        prepared.scans, measure_case(prepared), {name: brightness_of(slices) for name, slices in seen.items()}
    )


def brightness_of(slices: NDArray[np.float16]) -> NDArray[np.float32]:
    """(S, C, H, W) -> the mean of each slice (S,)."""
    return slices.mean(axis=(1, 2, 3), dtype=np.float64).astype(np.float32)


def encode_facts_of(facts: CaseFacts) -> str:
    """As one line."""
    scans = {
        column: {
            "intensities": asdict(scan.intensities),
            "spacing": scan.spacing,
            "shape": scan.shape,
            "modality": scan.modality,
        }
        for column, scan in facts.scans.items()
    }
    numbers = {
        "measures": {name: values.tolist() for name, values in facts.measures.items()},
        "brightness": {name: values.tolist() for name, values in facts.brightness.items()},
    }
    return json.dumps({"scans": scans, **numbers}, separators=(",", ":"))


def decode_facts_of(text: str) -> CaseFacts:
    """What :func:`encode_facts_of` wrote.

    Raises:
        ValueError: it is something else.
    """
    try:
        plain = json.loads(text)
        scans = {str(column): _scan(scan) for column, scan in plain["scans"].items()}
        measures = {str(name): np.array(values, dtype=np.float64) for name, values in plain["measures"].items()}
        light = {str(name): np.array(values, dtype=np.float32) for name, values in plain["brightness"].items()}
    except (KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error
    for name, values in measures.items():
        if values.shape != (LENGTHS.get(name.partition(".")[0], 0),):
            raise ValueError(f"measure {name[:50]!r} has the shape {values.shape}")
    if not all(np.isfinite(values).all() for values in (*measures.values(), *light.values())):
        raise ValueError("expected finite numbers only")
    return CaseFacts(scans, measures, light)


def _scan(plain: Mapping[str, Any]) -> ScanFacts:
    seen = {
        field.name: (int if field.name in _COUNTS else float)(plain["intensities"][field.name])
        for field in fields(IntensityProfile)
    }
    (right, front, up), (x, y, z) = map(float, plain["spacing"]), map(int, plain["shape"])
    modality = plain["modality"]
    if not all(map(math.isfinite, (*seen.values(), right, front, up))) or min(right, front, up, x, y, z) <= 0:
        raise ValueError("expected finite numbers, and sizes above 0")
    return ScanFacts(
        IntensityProfile(**seen), (right, front, up), (x, y, z), (), None if modality is None else str(modality)
    )
