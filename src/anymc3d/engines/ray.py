"""Tasks of a Ray cluster, each with one resident predictor."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from anymc3d.engines.scheduler import call, collect, submitting
from anymc3d.engines.work import EngineOptions, Outcome, Work
from anymc3d.errors import PackageError


def run_ray(work: Sequence[Work], options: EngineOptions) -> Iterator[Outcome]:
    """As tasks of a Ray cluster: that of ``RAY_ADDRESS``, or one started here. A task whose process or node is lost is
    started again, ``retries`` times, wherever there is room."""
    try:
        import ray
    except ImportError:
        raise PackageError("--backend ray: needs Ray; pip install 'anymc3d[ray]'") from None
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a cluster that is started here sends nothing home
    with submitting("ray"):
        if not ray.is_initialized():
            ray.init(log_to_driver=False)
        remote = ray.remote(call).options(**{"max_retries": options.retries, **options.parameters})
        handles = [remote.remote(piece) for piece in work]
    yield from collect(work, [lambda handle=handle: ray.get(handle) for handle in handles])
