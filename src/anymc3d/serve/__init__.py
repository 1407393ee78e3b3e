"""A resident service around one predictor: ways in, one queue that survives a kill, a worker process, results."""
