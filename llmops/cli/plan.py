"""``llmops plan``: the steps an experiment would run, and why; nothing is started."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

SUMMARY = "show which steps would run, and why; start nothing"


def main(argv: Sequence[str]) -> int:
    """Print the plan of an experiment."""
    arguments = _parser().parse_args(argv)
    from llmops import api
    from llmops.cli.selection import selection_of

    plan = api.plan(arguments.overrides, limit=arguments.limit, selection=selection_of(arguments))
    if arguments.json:
        print(json.dumps(plan.as_json(), indent=1))
        return 0
    from rich.console import Console

    from llmops.cli.screens import show_plan

    show_plan(plan, Console())
    return 0


def _parser() -> argparse.ArgumentParser:
    from llmops.cli.selection import add_selection

    parser = argparse.ArgumentParser(
        prog="llmops plan",
        description=SUMMARY,
        epilog="example:  llmops plan +experiment=so_python tuning.max_steps=80",
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--json", action="store_true", help="print the plan as JSON")
    add_selection(parser)
    return parser
