"""``python -m llmops``, and the command ``llmops``."""

import gc
import sys

from llmops.cli import main
from llmops.processes import collect_seldom


def run() -> int:
    """Do the command of this process and return its exit code."""
    collect_seldom()
    code = main()
    gc.freeze()  # the process ends: looking through it once more would gain nothing
    return code


if __name__ == "__main__":
    sys.exit(run())
