"""What a decision of 1 stands for, in one line: every command that shows a decision says it once."""

from __future__ import annotations

from anymc3d.settings.config import LabelSettings


def what_is_positive(labels: LabelSettings) -> str:
    """``spleen: decision 1, positive: injured; decision 0, negative: not injured``, for a task of any kind."""
    columns = ", ".join(map(_shown, labels.columns))
    if labels.one_of_classes:
        classes = ", ".join(map(_shown, labels.classes))
        return f"{columns}: decision 1 for the class with the largest probability, of {classes}"
    negative, positive = labels.classes or ("0", "1")
    return f"{columns}: decision 1, positive: {_shown(positive)}; decision 0, negative: {_shown(negative)}"


def _shown(name: str) -> str:
    """A class comes from a table or a plugin: it must not steer the terminal."""
    return name if name.isprintable() else ascii(name)
