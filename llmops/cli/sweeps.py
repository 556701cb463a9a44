"""``llmops sweeps``: the sweeps of the workspace, and going on with one."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from llmops.cli.verbs import call_verb

SUMMARY = "list sweeps, show one, run what is missing of one"


def main(argv: Sequence[str]) -> int:
    """List, show or resume sweeps."""
    return call_verb(_parser(), argv)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="llmops sweeps", description=SUMMARY, epilog="example:  llmops sweeps list --json"
    )
    verbs = parser.add_subparsers(required=True, metavar="list | show | resume")
    listing = verbs.add_parser("list", help="all sweeps, newest first")
    listing.set_defaults(command=_list)
    showing = verbs.add_parser("show", help="one sweep's members and what they show")
    showing.set_defaults(command=_show)
    resuming = verbs.add_parser("resume", help="run what is missing, and what failed once more")
    resuming.set_defaults(command=_resume)
    for verb in (showing, resuming):
        verb.add_argument("sweep", metavar="SWEEP", help="a sweep's id, or the beginning of it")
    for verb in (listing, showing, resuming):
        verb.add_argument("--json", action="store_true")
    return parser


def _list(arguments: argparse.Namespace) -> int:
    from llmops import api

    rows = []
    for sweep in api.sweeps():
        done = sum(one.status in ("succeeded", "refused") for one in sweep.members)
        rows.append(
            {
                "id": sweep.folder.name,
                "started": sweep.document.get("started"),
                "status": sweep.document.get("status", "finished"),
                "members": len(sweep.members),
                "done": done,
                "chosen": sweep.document.get("chosen"),
                "overrides": sweep.document["overrides"],
            }
        )
    if arguments.json:
        print(json.dumps(rows, indent=1, ensure_ascii=False))
        return 0
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    table = Table(Column("sweep", no_wrap=True), "started", "status", "members", "asked")
    for row in rows:
        counted = f"{row['done']} of {row['members']}"
        cells = (
            row["id"],
            row["started"] or "",
            row["status"],
            counted,
            " ".join(row["overrides"]),
        )
        table.add_row(*(Text(str(cell)) for cell in cells))
    none = "no sweeps yet:  python -m llmops run -m +experiment=so_python tuning.max_steps=20,40"
    Console().print(table if rows else none)
    return 0


def _show(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from llmops import api
    from llmops.cli.sweep_screen import show_sweep, sweep_json

    found = api.show_sweep(arguments.sweep)
    if arguments.json:
        print(json.dumps(sweep_json(found), indent=1, ensure_ascii=False))
    else:
        show_sweep(found, Console())
    return 0


def _resume(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from llmops import api
    from llmops.cli.sweep_screen import SweepScreen, show_sweep, sweep_json

    console = Console(stderr=arguments.json)
    done = api.resume(arguments.sweep, watch=lambda folder: SweepScreen(folder, console))
    if arguments.json:
        print(json.dumps(sweep_json(done), indent=1, ensure_ascii=False))
    else:
        show_sweep(done, console)
    return done.exit_code
