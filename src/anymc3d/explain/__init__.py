"""Why a classifier said what it said: heatmaps in the scan's own grid, and how well they point at the truth."""

from anymc3d.callable import answer_calls

answer_calls(__name__)
