"""One output folder out of the parts of a run that was split by ``--part K/N`` or an engine."""
