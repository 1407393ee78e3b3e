"""Arrays of a Slurm cluster, submitted by submitit.

What became of an element is learnt from its result file and from ``squeue``: ``sacct``, which submitit would ask, needs
a data base that many clusters do not have.
"""

from __future__ import annotations

import logging
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr
from io import StringIO
from typing import Any

from anymc3d.engines.scheduler import call, collect, final, in_one_line, lost, submitting
from anymc3d.engines.work import EngineOptions, Outcome, Work
from anymc3d.errors import PackageError

logger = logging.getLogger(__name__)

SLURM = "slurm"
POLL_SECONDS = 1.0
ASK_SECONDS = 10.0
"""Between questions to the queue, which others ask too; at first more often."""
FILE_SECONDS = 20.0
"""How long the result of an element that has left the queue may take to appear on a slow shared disk."""


def run_slurm(work: Sequence[Work], options: EngineOptions) -> Iterator[Outcome]:
    """As one array, every element one piece; those that were lost or stopped as another one, ``retries`` times."""
    left = list(work)
    for more in range(options.retries, -1, -1):
        again = []
        for piece, outcome in _array(left, options):
            if outcome.state == "waiting" and more:
                logger.warning("%s: %s; started again", piece.name, outcome.message)
                again.append(piece)
            else:
                yield final(piece, outcome)
        left = again
        if not left:
            return


def _array(work: Sequence[Work], options: EngineOptions) -> Iterator[tuple[Work, Outcome]]:
    try:
        import submitit
    except ImportError:
        raise PackageError("--backend slurm: needs submitit; pip install 'anymc3d[slurm]'") from None
    parameters = dict(options.parameters)
    cluster = parameters.pop("cluster", SLURM)
    with submitting(SLURM):
        executor = submitit.AutoExecutor(folder=options.folder / SLURM, cluster=cluster)
        # Without it every element would end after submitit's own five minutes: the partition's limit is right.
        ours = {"slurm_job_name": "anymc3d"} | ({} if "timeout_min" in parameters else {"slurm_time": None})
        at_once = {"slurm_array_parallelism": options.jobs} if options.jobs > 1 else {}
        executor.update_parameters(**ours | at_once | parameters)
        with redirect_stderr(StringIO()):  # submitit repeats there what its error says too
            handles = executor.map_array(call, list(work))
    if cluster != SLURM:
        yield from zip(work, collect(work, [handle.result for handle in handles]), strict=True)
        return
    job, folder = handles[0].job_id.split("_")[0], options.folder / SLURM
    logger.info("Slurm: job %s, %d elements; their logs are in %s", job, len(work), folder)
    yield from _ended(work, handles)


def _ended(work: Sequence[Work], handles: Sequence[Any]) -> Iterator[tuple[Work, Outcome]]:
    """Each piece when its element has ended. Who stops the command stops the elements."""
    running = dict(zip([piece.name for piece in work], zip(work, handles, strict=True), strict=True))
    missing_since: dict[str, float] = {}
    asked_at, pause = time.monotonic(), POLL_SECONDS
    try:
        while running:
            for name, (piece, handle) in list(running.items()):
                if handle.paths.result_pickle.exists():
                    yield piece, _answer(piece, handle)
                elif name in missing_since and time.monotonic() - missing_since[name] > FILE_SECONDS:
                    yield (
                        piece,
                        lost(piece, f"job {handle.job_id} ended without an answer (log: {handle.paths.stderr})"),
                    )
                else:
                    continue
                del running[name]
            if running and time.monotonic() - asked_at > pause:
                asked_at, pause = time.monotonic(), min(2 * pause, ASK_SECONDS)
                queued = _queued()
                for name in running if queued is not None else ():
                    if running[name][1].job_id not in queued:
                        missing_since.setdefault(name, asked_at)
            time.sleep(POLL_SECONDS if running else 0)
    finally:
        for _, handle in running.values():
            handle.cancel(check=False)


def _answer(piece: Work, handle: Any) -> Outcome:
    try:
        return handle.result()
    except Exception as error:  # noqa: BLE001 - whatever went wrong on its node, it is this piece's alone
        return lost(piece, f"job {handle.job_id} failed ({in_one_line(error)}; log: {handle.paths.stderr})")


def _queued() -> set[str] | None:
    """The elements of this user that wait or run; None where the queue does not answer, which is asked again."""
    command = ["squeue", "--noheader", "--array", "--format=%i", f"--user={os.getuid()}"]
    try:
        queue = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError) as error:
        logger.warning("squeue does not answer (%s); asked again", in_one_line(error))
        return None
    return set(queue.split())
