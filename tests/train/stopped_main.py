"""``anymc3d`` as a script that has whatever started it (torchrun) stopped when its first validation begins.

The first of the processes does so, and waits for what that passes on to it.
"""

import os
import signal
import sys
import time

from anymc3d.cli.main import main
from anymc3d.train import loop

validate = loop.validate


def stopped_first(parts):
    loop.validate = validate
    if parts.processes.is_first:
        came, usual = [], signal.getsignal(signal.SIGTERM)
        signal.signal(signal.SIGTERM, lambda *given: came.append(usual(*given)))
        os.kill(os.getppid(), signal.SIGTERM)
        while not came:
            time.sleep(0.01)
    return validate(parts)


loop.validate = stopped_first
sys.exit(main(sys.argv[1:]))
