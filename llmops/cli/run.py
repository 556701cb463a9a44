"""``llmops run``: one experiment, or with ``-m`` a sweep over several.

A single run composes once and runs here. With ``-m`` every member is checked first, then Hydra's
sweeper and launcher run them, one after the other unless another launcher is chosen.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmops.api import Run

SUMMARY = "run an experiment; with -m a sweep"


def main(argv: Sequence[str]) -> int:
    """Run what the command line names."""
    arguments, rest = _parser().parse_known_args(argv)
    if not any(text.startswith("-") for text in rest):
        return _single(rest, arguments)
    from llmops.config import sweep

    hydra = sweep.normalise(rest)
    if hydra.informs:
        _inform(rest)
        return 0
    if hydra.multirun:
        return _sweep(rest, arguments)
    return _single(list(hydra.overrides), arguments)


def _inform(argv: list[str]) -> None:
    """Let Hydra print what it was asked for, without the secrets of a config not yet checked."""
    from llmops.config import sweep
    from llmops.secrecy import masked

    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            sweep.launch(argv, lambda overrides: None)
    finally:
        print(masked(said.getvalue()), end="")


def _parser() -> argparse.ArgumentParser:
    from llmops.cli.selection import add_budget, add_selection, add_sweep

    parser = argparse.ArgumentParser(
        prog="llmops run",
        usage="llmops run [-m] +experiment=NAME [KEY=VALUE ...] [options]",
        description=SUMMARY,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=(
            "examples:\n"
            "  llmops run +experiment=so_python\n"
            "  llmops run +experiment=so_python tuning.max_steps=20 --limit 500\n"
            "  llmops run -m +experiment=so_python split=group,random_80_20\n"
            "  llmops run -m +experiment=so_python tuning.seed=1,2 hydra/launcher=joblib\n\n"
            "Hydra's own flags work too: --cfg job, --info defaults, --hydra-help."
        ),
    )
    add_selection(parser)
    add_budget(parser)
    parser.add_argument(
        "--detach",
        action="store_true",
        help="return once the run is handed over to the engine; `llmops runs attach` finishes it",
    )
    parser.add_argument("--json", action="store_true", help="print the run record as JSON")
    add_sweep(parser)
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
    from llmops.cli.selection import cancels, selection_of

    console = Console(stderr=arguments.json)
    with RunScreen(console) as screen:
        run = api.run(
            overrides,
            limit=arguments.limit,
            selection=selection_of(arguments),
            budget=arguments.budget,
            detach=arguments.detach,
            cancels=cancels,
            score_on=arguments.score_on or "test",
            on_plan=lambda plan: show_plan(plan, console),
            on_event=screen.event,
        )
    show_result(run.record, run.folder, console)
    return run


# --------------------------------------------------------------------- a sweep


def _sweep(argv: list[str], arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from llmops import api
    from llmops.cli.selection import selection_of
    from llmops.cli.sweep_screen import SweepScreen, show_sweep, sweep_json

    console = Console(stderr=arguments.json)
    done = api.sweep(
        argv,
        api.SweepOptions(
            limit=arguments.limit,
            selection=selection_of(arguments),
            budget=arguments.budget,
            score_on=arguments.score_on,
            metric=arguments.metric,
            contestant=arguments.contestant,
            fail_fast=arguments.fail_fast,
        ),
        watch=lambda folder: SweepScreen(folder, console),
    )
    if arguments.json:
        print(json.dumps(sweep_json(done), indent=1, ensure_ascii=False))
    else:
        show_sweep(done, console)
    return done.exit_code
