"""The doctor: every fault of a data set in one report, before anything is trained."""
