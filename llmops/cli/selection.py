"""What ``run``, ``plan`` and ``runs`` share: options that pick steps and rows, one question."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmops.plan.build import Selection


def add_selection(parser: argparse.ArgumentParser) -> None:
    """Add ``--limit``, ``--from``, ``--only`` and ``--force``."""
    parser.add_argument(
        "--limit", type=int, metavar="ROWS", help="use at most this many rows of the query"
    )
    parser.add_argument(
        "--from", dest="start", metavar="STEP", help="run STEP and all that depends on it again"
    )
    parser.add_argument(
        "--only", metavar="STEP", help="run this step alone; what it takes must be cached"
    )
    parser.add_argument(
        "--force",
        action="append",
        default=[],
        metavar="STEP",
        help="run STEP again although it is cached; may be given several times",
    )


def add_budget(parser: argparse.ArgumentParser) -> None:
    """Add ``--budget``."""
    parser.add_argument(
        "--budget",
        type=_amount,
        metavar="AMOUNT",
        help="refuse, with exit code 3, what may cost more or what nobody knows the price of; "
        "of a sweep the whole; env.budget holds as well, for each run",
    )


def add_sweep(parser: argparse.ArgumentParser) -> None:
    """Add what a sweep decides by, and ``--fail-fast``."""
    parser.add_argument(
        "--score-on",
        choices=("validation", "test"),
        help="the side whose rows are answered; of a sweep validation, so that test rows are read "
        "once, for the chosen member; of a single run test",
    )
    parser.add_argument(
        "--metric", metavar="NAME", help="what a sweep decides by; default: the gate's first rule"
    )
    parser.add_argument(
        "--contestant", metavar="NAME", help="whose figure decides; default: the gate's"
    )
    parser.add_argument(
        "--fail-fast", action="store_true", help="start no further member once one has failed"
    )


def _amount(text: str) -> float:
    try:
        amount = float(text)
    except ValueError:
        amount = -1.0
    if not 0 <= amount < float("inf"):
        raise argparse.ArgumentTypeError(f"'{text}' is no amount of money, e.g. 5 or 0.5")
    return amount


def cancels() -> bool:
    """Ask whether Ctrl-C is to end what runs elsewhere too; without a terminal it is."""
    if not sys.stdin.isatty():
        return True
    answer = input("\nend the job as well? without that it goes on [y/N] ")
    return answer.strip().lower() in ("y", "yes")


def selection_of(arguments: argparse.Namespace) -> Selection:
    """Return what the options of ``add_selection`` picked."""
    from llmops.plan.build import Selection

    return Selection(tuple(arguments.force), arguments.start, arguments.only)
