"""Random changes of training volumes: the draw, the operations and the table of recipes."""
