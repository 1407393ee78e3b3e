"""Labels that are numbers: metrics with intervals, the rows of a study, tables and pictures."""
