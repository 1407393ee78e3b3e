"""Registering for the time of a test."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

from anymc3d.data.readers import FORMATS
from anymc3d.models.architectures import ARCHITECTURES
from anymc3d.models.backbones import NORMALISATION
from anymc3d.models.fusion import FUSIONS
from anymc3d.models.heads import HEADS
from anymc3d.models.lora import TARGETS
from anymc3d.models.own_backbones import OWN_BACKBONES
from anymc3d.registry import Registry
from anymc3d.train.losses import LOSSES, NUMBER_LOSSES

TABLES: tuple[Registry[Any], ...] = (FUSIONS, HEADS, LOSSES, NUMBER_LOSSES, FORMATS, OWN_BACKBONES)
_BESIDE: tuple[MutableMapping[Any, Any], ...] = (ARCHITECTURES, TARGETS, NORMALISATION)
"""What an own backbone adds to."""


@contextmanager
def tables_as_before() -> Iterator[None]:
    """What is registered in the block, or imported from a package, is gone at its end."""
    before = [set(table.own) for table in TABLES], [set(table) for table in _BESIDE]
    try:
        yield
    finally:
        for table, names in zip(TABLES, before[0], strict=True):
            for name in set(table.own) - names:
                del table[name]
        for other_table, keys in zip(_BESIDE, before[1], strict=True):
            for key in set(other_table) - keys:
                del other_table[key]
