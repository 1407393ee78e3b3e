"""``anymc3d`` as a script that is asked to stop when its first validation begins: ``stopped_main.py WHOM WORDS...``.

``launcher``: the first process has whatever started the group (torchrun) stopped, and waits for what that passes on.
``itself``: each process is sent the signal, as srun does.
"""

import os
import signal
import sys
import time

from anymc3d.cli.main import main
from anymc3d.train import loop

WHOM, *WORDS = sys.argv[1:]
validate = loop.validate


def stopped_first(parts):
    loop.validate = validate
    if WHOM == "itself":
        os.kill(os.getpid(), signal.SIGTERM)
    elif parts.processes.is_first:
        came, usual = [], signal.getsignal(signal.SIGTERM)
        signal.signal(signal.SIGTERM, lambda *given: came.append(usual(*given)))
        os.kill(os.getppid(), signal.SIGTERM)
        while not came:
            time.sleep(0.01)
    return validate(parts)


loop.validate = stopped_first
sys.exit(main(WORDS))
