"""``python -m llmops``, and the command ``llmops``."""

import sys

from llmops.cli import main
from llmops.processes import collect_seldom


def run() -> int:
    """Do the command of this process and return its exit code."""
    collect_seldom()
    return main()


if __name__ == "__main__":
    sys.exit(run())
