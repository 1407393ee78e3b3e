"""What a decision of 1 stands for, in one line: every command that shows a decision says it once."""

from __future__ import annotations

from anymc3d.printable import shown
from anymc3d.settings.config import LabelSettings


def what_is_positive(labels: LabelSettings) -> str:
    """``spleen: decision 1, positive: injured; decision 0, negative: not injured``, for a task of any kind."""
    columns = ", ".join(map(shown, labels.columns))
    if labels.is_number:
        return f"{columns}: a number, in the units of the manifest"
    if labels.one_of_classes:
        classes = ", ".join(map(shown, labels.classes))
        return f"{columns}: decision 1 for the class with the largest probability, of {classes}"
    negative, positive = labels.classes or ("0", "1")
    return f"{columns}: decision 1, positive: {shown(positive)}; decision 0, negative: {shown(negative)}"
