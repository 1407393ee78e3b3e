"""Maps drawn by a plugin that kept its decoder: on the scan's own grid, and how well they fit the truth."""
