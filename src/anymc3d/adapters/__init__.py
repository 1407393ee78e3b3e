"""Manifests from public data-set layouts: one table of adapters, each of which checks what it finds."""

from anymc3d.adapters.findings import Finding, Findings
from anymc3d.adapters.registry import ADAPTERS, Adapter, adapt
from anymc3d.adapters.rows import Adapted, AdaptOptions, write_adapted

__all__ = ["ADAPTERS", "AdaptOptions", "Adapted", "Adapter", "Finding", "Findings", "adapt", "write_adapted"]
