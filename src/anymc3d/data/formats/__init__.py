"""Files of scans by format: each reader checks its header before a byte of voxels is read."""
