"""Scans in, predictions out: one scan in ``predictor``, many of them in ``cohort``."""
