"""``python -m anymc3d``: the command, for torchrun and for where no script is on the path."""

import sys

from anymc3d.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
