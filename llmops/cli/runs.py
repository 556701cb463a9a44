"""``llmops runs``: what ran before."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmops.api import Run

SUMMARY = "list runs, show one, go on with one that runs elsewhere"


def main(argv: Sequence[str]) -> int:
    """List the workspace's runs, show one, or attach to one."""
    arguments = _parser().parse_args(argv)
    handled: int = arguments.command(arguments)
    return handled


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="llmops runs", description=SUMMARY, epilog="example:  llmops runs list --json"
    )
    verbs = parser.add_subparsers(required=True, metavar="list | show | attach")
    listing = verbs.add_parser("list", help="all runs, newest first")
    listing.add_argument("experiment", nargs="?", metavar="EXPERIMENT")
    listing.add_argument("--json", action="store_true")
    listing.set_defaults(command=_list)
    showing = verbs.add_parser("show", help="one run's result")
    showing.add_argument("run", metavar="RUN", help="a run's id, or the beginning of it")
    showing.add_argument("--json", action="store_true")
    showing.set_defaults(command=_show)
    attaching = verbs.add_parser(
        "attach", help="follow a run that goes on elsewhere, and finish its record"
    )
    attaching.add_argument("run", metavar="RUN", help="a run's id, or the beginning of it")
    attaching.add_argument("--json", action="store_true")
    attaching.set_defaults(command=_attach)
    return parser


def _attach(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from llmops import api
    from llmops.cli.screens import RunScreen, show_result
    from llmops.cli.selection import cancels

    console = Console(stderr=arguments.json)
    with RunScreen(console) as screen:
        run = api.attach(arguments.run, cancels=cancels, on_event=screen.event)
    if arguments.json:
        print(json.dumps(run.record, indent=1, ensure_ascii=False))
    show_result(run.record, run.folder, console)
    return run.exit_code


def _list(arguments: argparse.Namespace) -> int:
    from llmops import api

    runs = api.runs(arguments.experiment)
    if arguments.json:
        print(json.dumps([_row(run) for run in runs], indent=1))
        return 0
    from rich.console import Console
    from rich.table import Column, Table

    table = Table(
        Column("run", no_wrap=True), "experiment", "status", "dataset", "tuned loss", "seconds"
    )
    for row in map(_row, runs):
        loss = "" if row["tuned_loss"] is None else f"{row['tuned_loss']:.3f}"
        cells = (row["run_id"], row["experiment"], row["status"], row["dataset_version"] or "")
        table.add_row(*cells, loss, "" if row["seconds"] is None else f"{row['seconds']:.1f}")
    Console().print(table if runs else "no runs yet:  python -m llmops run +experiment=so_python")
    return 0


def _row(run: Run) -> dict[str, Any]:
    from llmops.lineage.record import tuned_loss

    record = run.record
    keys = ("run_id", "experiment", "version", "status", "started", "seconds", "dataset_version")
    return {key: record[key] for key in keys} | {
        "tuned_loss": tuned_loss(record),
        "folder": str(run.folder),
    }


def _show(arguments: argparse.Namespace) -> int:
    from llmops import api

    run = api.show(arguments.run)
    if arguments.json:
        print(json.dumps(run.record, indent=1, ensure_ascii=False))
        return 0
    from rich.console import Console

    from llmops.cli.screens import show_result

    show_result(run.record, run.folder, Console())
    return 0
