"""Layouts of weights files, one module a family: from the names in a file to one canonical set of tensors."""
