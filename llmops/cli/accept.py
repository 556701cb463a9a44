"""``llmops accept``: make a run the accepted one of its experiment."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

SUMMARY = "write a run's keys, digests and metrics as its experiment's lock"


def main(argv: Sequence[str]) -> int:
    """Write ``runs/<experiment>.lock.yaml`` from a run."""
    parser = argparse.ArgumentParser(
        prog="llmops accept",
        description=SUMMARY,
        epilog="example:  llmops accept 20261123-101502-7b1e",
    )
    parser.add_argument("run", metavar="RUN", help="a run's id, or the beginning of it")
    from llmops import api

    print(api.accept(parser.parse_args(argv).run))
    return 0
