"""The version of this package, without importing anything."""

__version__ = "0.1.0"
