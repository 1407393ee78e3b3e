"""Tests for own parts, to be inherited by a test class of pytest: see docs/own-parts.md.

>>> from anymc3d.testing import FusionTests
>>> class TestTopHalf(FusionTests):
...     def make(self, width, generator):
...         return TopHalf(width, generator)  # doctest: +SKIP
"""

from anymc3d.testing.backbones import BackboneTests
from anymc3d.testing.fusions import FusionTests
from anymc3d.testing.heads import HeadTests
from anymc3d.testing.losses import LossTests, NumberLossTests
from anymc3d.testing.readers import ReaderTests
from anymc3d.testing.tables import tables_as_before

__all__ = [
    "BackboneTests",
    "FusionTests",
    "HeadTests",
    "LossTests",
    "NumberLossTests",
    "ReaderTests",
    "tables_as_before",
]
