"""Where work that needs nothing of each other runs: processes of this machine, a Slurm array, a Ray cluster."""
