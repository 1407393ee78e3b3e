"""A nursery of ``anymc3d`` processes that are killed or stopped on request; run as a script, one JSON request per line.

It has everything imported and nothing computed, so each command is a fork away. A request: ``words`` (the command
line), ``home``, ``said`` (a file for what it prints), ``every_step`` (a checkpoint after each step, not one every five
minutes), ``signal``, and the ``moment`` at which the process sends it to itself, or null:

* ``["call", "module:function", n]``: the n-th call of a function begins;
* ``["torn", pattern, n]``: half of the n-th file whose name fits the pattern is written;
* ``["renamed", pattern, n]``: the n-th such file has just got its final name.

It answers with the process id, and when the process has ended with its exit status.
"""

import fnmatch
import importlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import traceback
from pathlib import Path


class Nursery:
    """The other end: starts commands and waits for them."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        self.number = 0
        assert self._answer("ready")

    def start(self, words, home, said, *, moment=None, every_step=False, sent=signal.SIGKILL, processes=1):
        """Start one command and return its process id; in several processes, as Slurm's srun starts them, their ids."""
        self.number += 1
        request = {"words": words, "home": str(home), "said": str(said), "moment": moment, "every_step": every_step}
        request |= {"signal": int(sent), "number": self.number, "processes": processes}
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self._answer("started")

    def wait(self):
        """The exit status of the command that runs; minus the signal that ended it; of several processes, of each."""
        return self._answer("ended")

    def _answer(self, what):
        """The answer to the last request; those to a request that a test gave up on are passed over."""
        while True:
            answer = json.loads(self.process.stdout.readline())
            if (answer["number"], answer["what"]) == (self.number, what):
                return answer["value"]

    def run(self, words, home, said, **options):
        """Start and wait."""
        self.start(words, home, said, **options)
        return self.wait()

    def close(self):
        self.process.stdin.close()
        self.process.wait(60)
        self.process.stdout.close()


def signal_at(sent, kind, what, number):
    """Install the hook that signals this process."""
    count, lock = itertools.count(1), threading.Lock()

    def is_due():
        with lock:
            return next(count) == number

    def send():
        os.kill(os.getpid(), sent)

    if kind == "call":
        module_name, _, name = what.partition(":")
        module = importlib.import_module(module_name)
        original = getattr(module, name)

        def called(*args, **kwargs):
            if is_due():
                send()
            return original(*args, **kwargs)

        setattr(module, name, called)
        return
    replace = os.replace

    def replaced(source, target):
        due = fnmatch.fnmatch(Path(target).name, what) and is_due()
        if due and kind == "torn":
            os.truncate(source, os.path.getsize(source) // 2)
            send()
        replace(source, target)
        if due:
            send()

    os.replace = replaced


def run_command(request):
    """What a forked process does; never returns."""
    out = os.open(request["said"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.environ["ANYMC3D_HOME"] = request["home"]
    from anymc3d.cli.main import main
    from anymc3d.data.prefetch import queue
    from anymc3d.files import atomic
    from anymc3d.train import log, loop

    # Drawing would be most of a tiny run's time; what matters here is that the picture is written, and when.
    log.draw_curves = lambda folder, rows: atomic.write_bytes(folder.curves, b"drawn\n" * len(rows))
    queue.FEW_CASES = 10**9  # what is counted happens in this process, and not in those that read for it
    if request["every_step"]:
        loop.SAVE_EVERY_S = -1.0
    if request["moment"]:
        signal_at(request["signal"], *request["moment"])
    code = main(request["words"])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def answer(number, what, value):
    sys.stdout.write(json.dumps({"number": number, "what": what, "value": value}) + "\n")
    sys.stdout.flush()


def serve():
    import torch

    import anymc3d.cli.predict
    import anymc3d.cli.train
    import anymc3d.predict.cohort
    import anymc3d.train.folds  # noqa: F401 - the point is to have it all imported

    torch.set_num_threads(1)
    torch.optim.AdamW([torch.zeros(1, requires_grad=True)])  # imports half of torch, which each child would do again
    answer(0, "ready", True)
    for line in sys.stdin:
        request = json.loads(line)
        pids = [forked(request, group) for group in groups(request["processes"])]
        answer(request["number"], "started", pids if len(pids) > 1 else pids[0])
        ended = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
        answer(request["number"], "ended", ended if len(ended) > 1 else ended[0])


def groups(processes):
    """What the environment of each process says of the group."""
    if processes == 1:
        return [{}]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    group = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [group | {"RANK": str(rank)} for rank in range(processes)]


def forked(request, group):
    """The id of a process that does what was asked for."""
    pid = os.fork()
    if pid == 0:
        try:
            os.environ.update(group)
            run_command(request)
        finally:
            traceback.print_exc()  # into ``said``: a moment that no longer exists is named there
            os._exit(70)
    return pid


if __name__ == "__main__":
    serve()
