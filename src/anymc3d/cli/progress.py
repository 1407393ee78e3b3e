"""The bar of a download."""

from __future__ import annotations

import sys

from anymc3d.files.download import Progress


def progress_bar(quiet: bool) -> Progress | None:
    """A bar on the terminal; None where there is no terminal."""
    if quiet or not sys.stderr.isatty():
        return None
    from tqdm import tqdm

    bar = tqdm(unit="B", unit_scale=True, disable=None)

    def progress(num_bytes: int, total: int) -> None:
        bar.total = total
        bar.update(num_bytes - bar.n)
        if num_bytes >= total:
            bar.close()

    return progress
