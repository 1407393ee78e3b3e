"""What predictions are worth: metrics, intervals, calibration, comparisons."""

from anymc3d.callable import answer_calls

answer_calls(__name__)
