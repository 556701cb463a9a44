"""``llmops plan``: the steps an experiment would run, why, and what they cost; writes nothing."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmops.plan.build import Plan

SUMMARY = "show which steps would run, why, and what they use and cost; write nothing"


def main(argv: Sequence[str]) -> int:
    """Print the plan of an experiment, or of every member of a sweep."""
    arguments = _parser().parse_intermixed_args(argv)
    from llmops import api

    plans = _plans(arguments)
    if arguments.json:
        print(json.dumps(_as_json(plans, sweep=arguments.multirun), indent=1, ensure_ascii=False))
    else:
        _show(plans, sweep=arguments.multirun)
    api.check_budget(plans, arguments.budget)
    return 0


def _plans(arguments: argparse.Namespace) -> list[Plan]:
    from llmops import api
    from llmops.cli.selection import selection_of

    options: dict[str, Any] = {
        "limit": arguments.limit,
        "selection": selection_of(arguments),
        "against": arguments.against,
    }
    if arguments.multirun:
        return api.plan_members(arguments.overrides, **options)
    return [api.plan(arguments.overrides, **options)]


def _as_json(plans: Sequence[Plan], *, sweep: bool) -> dict[str, Any]:
    from llmops.plan import cost

    if not sweep:
        return plans[0].as_json()
    estimates = [plan.estimate for plan in plans if plan.estimate]
    return {
        "members": [plan.as_json() for plan in plans],
        "estimate": cost.of_sweep(estimates).as_json(),
    }


def _show(plans: Sequence[Plan], *, sweep: bool) -> None:
    from rich.console import Console

    from llmops.cli.screens import show_plan, show_sweep_estimate

    console = Console()
    for plan in plans:
        show_plan(plan, console)
    if sweep:
        show_sweep_estimate(plans, console)


def _parser() -> argparse.ArgumentParser:
    from llmops.cli.selection import add_budget, add_selection

    parser = argparse.ArgumentParser(
        prog="llmops plan",
        description=SUMMARY,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=(
            "examples:\n"
            "  llmops plan +experiment=so_python tuning.max_steps=80\n"
            "  llmops plan +experiment=so_python --against lock --json\n"
            "  llmops plan -m +experiment=so_python tuning.max_steps=20,40 --budget 5"
        ),
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    parser.add_argument(
        "-m", "--multirun", action="store_true", help="plan every member of a sweep"
    )
    parser.add_argument(
        "--against",
        metavar="store|lock|RUN",
        help="what counts as done; by default the store, or the experiment's lock "
        "where the store knows nothing of it",
    )
    parser.add_argument("--json", action="store_true", help="print the plan as JSON")
    add_budget(parser)
    add_selection(parser)
    return parser
