"""The doctor: every fault of a data set in one report, before anything is trained."""

from anymc3d.callable import answer_calls

answer_calls(__name__)
