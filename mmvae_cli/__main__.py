"""``python -m mmvae_cli``: the same command as ``mmvae``. A study's runs are started by this file's path, which is the
code that was called, whatever lies in the current folder or is installed beside it."""

import sys
from pathlib import Path

if not __package__ and (root := str(Path(__file__).parents[1])) not in sys.path:
    sys.path.insert(0, root)

from mmvae_cli.cli import main

if __name__ == "__main__":
    main()
