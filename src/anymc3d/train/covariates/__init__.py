"""Covariates of a task: fitted on the training rows, and joined with the image."""
