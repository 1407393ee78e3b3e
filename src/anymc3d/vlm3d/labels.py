"""The 18 labels of the challenge, in the order of its files; this order is also the one of ``results.json``."""

from __future__ import annotations

from collections.abc import Sequence

from anymc3d.errors import UsageError, did_you_mean
from anymc3d.recipes.chest import CT_RATE_LABELS

LABELS = CT_RATE_LABELS


def check_labels(names: Sequence[str], whose: str) -> None:
    """Check that ``names`` are the 18 labels, in any order; ``whose``: begins the message.

    Raises:
        UsageError: labels are absent, or are others; each with the nearest right name.
    """
    missing = [name for name in LABELS if name not in names]
    others = [name for name in names if name not in LABELS]
    if not missing and not others:
        return
    # A name that is nearly right explains a missing one: then the suggestion says it all.
    sentences = [f"{name!r} is none of them{did_you_mean(name, missing or LABELS)}" for name in others[:4]]
    if len(others) < len(missing):
        sentences.append(f"{len(missing)} are missing: {', '.join(missing[:4])}{' …' if len(missing) > 4 else ''}")
    raise UsageError(
        f"{whose}: expected the {len(LABELS)} labels of the challenge, got {len(names)}; {'; '.join(sentences)}"
    )
