"""``llmops run``: one experiment, or with ``-m`` a sweep over several.

A single run composes once and runs here. With ``-m`` every member is checked first, then Hydra's
sweeper and launcher run them, one after the other unless another launcher is chosen.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops.errors import Refused

if TYPE_CHECKING:
    from llmops.api import Run
    from llmops.config.sweep import HydraArguments

SUMMARY = "run an experiment; with -m a sweep"
GRAVITY = (5, 4, 1, 2, 3)  # a sweep ends with the gravest exit code of its members


def main(argv: Sequence[str]) -> int:
    """Run what the command line names."""
    arguments, rest = _parser().parse_known_args(argv)
    if not any(text.startswith("-") for text in rest):
        return _single(rest, arguments)
    from llmops.config import sweep

    hydra = sweep.normalise(rest)
    if hydra.informs:
        _inform(rest, functools.partial(_run_member, Path(), vars(arguments)))
        return 0
    if hydra.multirun:
        return _sweep(rest, hydra, arguments)
    return _single(list(hydra.overrides), arguments)


def _inform(argv: list[str], job: Callable[[list[str]], None]) -> None:
    """Let Hydra print what it was asked for, without the secrets of a config not yet checked."""
    from llmops.config import sweep
    from llmops.secrecy import masked

    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            sweep.launch(argv, job)
    finally:
        print(masked(said.getvalue()), end="")


def _parser() -> argparse.ArgumentParser:
    from llmops.cli.selection import add_budget, add_selection

    parser = argparse.ArgumentParser(
        prog="llmops run",
        usage="llmops run [-m] +experiment=NAME [KEY=VALUE ...] [options]",
        description=SUMMARY,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=(
            "examples:\n"
            "  llmops run +experiment=so_python\n"
            "  llmops run +experiment=so_python tuning.max_steps=20 --limit 500\n"
            "  llmops run -m +experiment=so_python split=group,random_80_20\n\n"
            "Hydra's own flags work too: --cfg job, --info defaults, --hydra-help."
        ),
    )
    add_selection(parser)
    add_budget(parser)
    parser.add_argument("--json", action="store_true", help="print the run record as JSON")
    return parser


# --------------------------------------------------------------------- one run


def _single(overrides: list[str], arguments: argparse.Namespace) -> int:
    run = _run(overrides, arguments)
    if arguments.json:
        print(json.dumps(run.record, indent=1, ensure_ascii=False))
    return run.exit_code


def _run(overrides: list[str], arguments: argparse.Namespace) -> Run:
    from rich.console import Console

    from llmops import api
    from llmops.cli.screens import RunScreen, show_plan, show_result
    from llmops.cli.selection import selection_of

    console = Console(stderr=arguments.json)
    with RunScreen(console) as screen:
        run = api.run(
            overrides,
            limit=arguments.limit,
            selection=selection_of(arguments),
            budget=arguments.budget,
            on_plan=lambda plan: show_plan(plan, console),
            on_event=screen.event,
        )
    show_result(run.record, run.folder, console)
    return run


# --------------------------------------------------------------------- a sweep


def _sweep(argv: list[str], hydra: HydraArguments, arguments: argparse.Namespace) -> int:
    from llmops.config import sweep
    from llmops.config.project import workspace
    from llmops.lineage.sweep import create_sweep, read_members

    if not hydra.own_sweeper:  # another sweeper makes its members up as it goes
        _check_sweep(hydra, arguments)
    elif arguments.budget is not None:
        raise Refused(
            f"a budget of {arguments.budget:g} cannot be guaranteed: the sweeper makes its "
            "members up as it goes",
            hint="bound each run instead: env.budget=AMOUNT",
        )
    folder = create_sweep(workspace(), list(hydra.overrides))
    sweep.launch(argv, functools.partial(_run_member, folder, vars(arguments)))
    members = read_members(folder)
    if arguments.json:
        print(json.dumps(members, indent=1, ensure_ascii=False))
    else:
        _show_sweep(members, folder)
    codes = {member["exit_code"] for member in members}
    return next((code for code in GRAVITY if code in codes), 0)


def _check_sweep(hydra: HydraArguments, arguments: argparse.Namespace) -> None:
    """Check every member, and that the whole sweep is within the budget, before any starts."""
    from llmops import api
    from llmops.cli.selection import selection_of

    members = api.validate_members(hydra.overrides, sweep=True)
    budgets = [(member.config.get("env") or {}).get("budget") for member in members]
    if arguments.budget is None and not any(budget is not None for budget in budgets):
        return
    plans = api.plan_members(
        hydra.overrides,
        limit=arguments.limit,
        selection=selection_of(arguments),
        against="store",
    )
    api.check_budget(plans, arguments.budget)


def _run_member(folder: Path, options: dict[str, Any], overrides: list[str]) -> None:
    """Run one member and note what came of it; its errors stay its own."""
    from llmops.errors import Interrupted, LlmopsError
    from llmops.lineage.sweep import write_member

    try:
        run = _run(overrides, argparse.Namespace(**options))
    except Interrupted:
        raise
    except LlmopsError as exc:
        print(f"error: {exc.problem}\nhint:  {exc.hint}", file=sys.stderr)
        write_member(folder, overrides, None, exc.exit_code)
        return
    write_member(folder, overrides, run.record, run.exit_code)


def _show_sweep(members: Sequence[dict[str, Any]], folder: Path) -> None:
    from rich.console import Console
    from rich.table import Column, Table

    console = Console()
    table = Table("member", Column("run", no_wrap=True), "status", "tuned loss", title="sweep")
    for member in members:
        loss = "" if member["tuned_loss"] is None else f"{member['tuned_loss']:.3f}"
        table.add_row(" ".join(member["overrides"]), member["run_id"], member["status"], loss)
    console.print(table)
    console.print(str(folder), soft_wrap=True, highlight=False)
