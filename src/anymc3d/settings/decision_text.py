"""What a decision of 1 stands for, in one line: every command that shows a decision says it once."""

from __future__ import annotations

from anymc3d.printable import shown
from anymc3d.settings.config import LabelSettings


def what_is_positive(labels: LabelSettings) -> str:
    """``Decision 1 (positive) means spleen = injured; decision 0 (negative) means spleen = not injured``, for a task of
    any kind."""
    columns = ", ".join(map(shown, labels.columns))
    if labels.is_number:
        return f"{columns}: a number, in the units of the manifest"
    if labels.one_of_classes:
        classes = ", ".join(map(shown, labels.classes))
        return f"{columns}: the class with the largest probability, of {classes}, has decision 1; the others have 0"
    negative, positive = map(shown, labels.classes or ("0", "1"))
    if len(labels.columns) > 1:
        means = f"decision 1 (positive) means that the label is {positive}; decision 0 (negative) that it is {negative}"
        return f"{columns}: {means}"
    return f"Decision 1 (positive) means {columns} = {positive}; decision 0 (negative) means {columns} = {negative}"
