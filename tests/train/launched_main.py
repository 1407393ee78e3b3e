"""``anymc3d`` as a script whose ``--launch`` starts processes that have it stopped (see ``stopped_main.py``)."""

import sys
from pathlib import Path

from anymc3d.cli.main import main
from anymc3d.train import launch

launch.PROGRAM = (sys.executable, str(Path(__file__).with_name("stopped_main.py")))
sys.exit(main(sys.argv[1:]))
