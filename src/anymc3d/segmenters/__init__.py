"""What draws the segmentations of regions: networks, and a program of its own environment."""
