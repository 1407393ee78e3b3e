"""Embeddings of scans, frozen or as a plugin sees them, in files that other programs read (docs/embeddings.md)."""
