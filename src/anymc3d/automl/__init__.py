"""From a manifest to the best ensemble that fits the time: candidates, nested cross-validation, blend, one plugin."""
