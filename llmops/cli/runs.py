"""``llmops runs``: what ran before."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from llmops.cli.verbs import call_verb
from llmops.errors import ConfigError

if TYPE_CHECKING:
    from rich.table import Table

    from llmops.api import Collected
    from llmops.lineage.catalogue import RunRow

SUMMARY = "list, show, compare, query, tag and attach to runs, clear what none of them needs"
BAD = ("corrupt", "failed", "died")


def main(argv: Sequence[str]) -> int:
    """Do what the verb says to the workspace's runs."""
    return call_verb(_parser(), argv)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="llmops runs",
        description=SUMMARY,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=(
            "examples:\n"
            "  llmops runs list so_python --status succeeded --figure 'tuned.loss<2.8'\n"
            '  llmops runs query "SELECT experiment, min(tuned_loss) FROM runs GROUP BY 1"\n'
            "  llmops runs gc --keep 20 --older-than 30 --dry-run"
        ),
    )
    verbs = parser.add_subparsers(
        required=True, metavar="list | show | compare | export | attach | query | tag | gc"
    )
    _add_list(verbs)
    _add_others(verbs)
    return parser


def _add_list(verbs: Any) -> None:
    listing = verbs.add_parser("list", help="all runs, newest first")
    listing.add_argument("experiment", nargs="?", metavar="EXPERIMENT")
    listing.add_argument("--status", metavar="STATUS", help="e.g. succeeded, failed, corrupt")
    listing.add_argument("--since", metavar="DATE", help="began then or later, e.g. 2026-11-23")
    listing.add_argument("--until", metavar="DATE", help="began before")
    listing.add_argument("--commit", metavar="SHA", help="the beginning of a git commit")
    listing.add_argument("--tag", metavar="TAG")
    listing.add_argument("--figure", metavar="TEST", help="e.g. 'tuned.loss<2.8'")
    listing.add_argument("--limit", type=int, metavar="N", help="the newest N")
    listing.add_argument("--json", action="store_true")
    listing.set_defaults(command=_list)


def _add_others(verbs: Any) -> None:
    showing = verbs.add_parser("show", help="one run's result")
    showing.add_argument("run", metavar="RUN", help="a run's id, or the beginning of it")
    showing.set_defaults(command=_show)
    comparing = verbs.add_parser("compare", help="what differs: config, figures, answers")
    comparing.add_argument("runs", nargs="+", metavar="RUN", help="the first is compared with")
    comparing.add_argument("--html", metavar="FILE", help="write it as a page as well")
    comparing.set_defaults(command=_compare)
    exporting = verbs.add_parser("export", help="write a run into MLflow or for TensorBoard")
    exporting.add_argument("run", metavar="RUN")
    target = exporting.add_mutually_exclusive_group(required=True)
    target.add_argument("--mlflow", metavar="URI", help="a server, or e.g. sqlite:///mlflow.db")
    target.add_argument("--tensorboard", metavar="FOLDER", help="event files go below it")
    exporting.set_defaults(command=_export)
    asking = verbs.add_parser("query", help="ask the runs with SQL")
    asking.add_argument("sql", metavar="SQL", help="over the tables runs, figures and steps")
    asking.set_defaults(command=_query)
    tagging = verbs.add_parser("tag", help="tag a run; tagged runs are kept by gc")
    tagging.add_argument("run", metavar="RUN")
    tagging.add_argument("tags", nargs="*", metavar="TAG")
    tagging.add_argument("--remove", action="append", default=[], metavar="TAG")
    tagging.set_defaults(command=_tag)
    clearing = verbs.add_parser("gc", help="remove old runs, and what then nothing reaches")
    clearing.add_argument("--keep", type=int, metavar="N", help="newest runs of each experiment")
    clearing.add_argument(
        "--older-than", type=float, metavar="DAYS", help="only older runs; and kept answers"
    )
    clearing.add_argument(
        "--grace-hours", type=float, default=1.0, metavar="H", help="leave what is newer; default 1"
    )
    clearing.add_argument("--dry-run", action="store_true", help="say it, remove nothing")
    clearing.set_defaults(command=_gc)
    attaching = verbs.add_parser(
        "attach", help="follow a run that goes on elsewhere, and finish its record"
    )
    attaching.add_argument("run", metavar="RUN", help="a run's id, or the beginning of it")
    attaching.set_defaults(command=_attach)
    for verb in (showing, comparing, exporting, asking, tagging, clearing, attaching):
        verb.add_argument("--json", action="store_true")


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
    from llmops.lineage.catalogue import Wanted

    names = ("experiment", "status", "since", "until", "commit", "tag", "figure")
    rows = api.run_rows(Wanted(**{name: getattr(arguments, name) for name in names}))
    rows = rows[: arguments.limit]
    if arguments.json:
        print(json.dumps([_json_row(row) for row in rows], indent=1))
        return 0
    from rich.console import Console

    none = "no such runs:  python -m llmops run +experiment=so_python makes one"
    Console().print(_run_table(rows) if rows else none)
    return 0


def _json_row(row: RunRow) -> dict[str, Any]:
    fields = asdict(row)
    del fields["steps"], fields["process"]
    return fields


def _run_table(rows: Sequence[RunRow]) -> Table:
    from rich.table import Column, Table
    from rich.text import Text

    table = Table(
        Column("run", no_wrap=True), "experiment", "status", "dataset", "tuned loss", "seconds"
    )
    for row in rows:
        loss = "" if row.tuned_loss is None else f"{row.tuned_loss:.3f}"
        side = " on validation" if row.scored_on == "validation" and loss else ""
        seconds = "" if row.seconds is None else f"{row.seconds:.1f}"
        status = f"{row.status}: {row.why}" if row.why else row.status
        if row.tags:
            status += f" [{', '.join(row.tags)}]"
        cells = (
            row.run_id,
            row.experiment,
            status,
            row.dataset_version or "",
            loss + side,
            seconds,
        )
        table.add_row(*map(Text, cells), style="red" if row.status in BAD else "")
    return table


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


def _export(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    from llmops import api

    if arguments.mlflow:
        made = {"mlflow_run": api.export_to_mlflow(arguments.run, arguments.mlflow)}
    else:
        folder = api.export_to_tensorboard(arguments.run, Path(arguments.tensorboard))
        made = {"folder": str(folder)}
    print(json.dumps(made) if arguments.json else next(iter(made.values())))
    return 0


def _compare(arguments: argparse.Namespace) -> int:
    from llmops.cli.compare import compare

    return compare(arguments)


def _query(arguments: argparse.Namespace) -> int:
    from llmops import api

    answer = api.query_runs(arguments.sql)
    if arguments.json:
        rows = [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]
        print(json.dumps(rows, indent=1, ensure_ascii=False, default=str))
        return 0
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table
    from rich.text import Text

    table = Table(*map(escape, answer.columns))
    for row in answer.rows:
        table.add_row(*(Text("" if value is None else str(value)) for value in row))
    Console().print(table)
    return 0


def _tag(arguments: argparse.Namespace) -> int:
    from llmops import api

    if not arguments.tags and not arguments.remove:
        raise ConfigError("no tag is named", hint="llmops runs tag RUN keep   or   --remove keep")
    tags = api.tag_run(arguments.run, add=arguments.tags, remove=arguments.remove)
    print(json.dumps(list(tags)) if arguments.json else f"tags: {', '.join(tags) or 'none'}")
    return 0


def _gc(arguments: argparse.Namespace) -> int:
    from llmops import api

    done = api.gc(
        keep=arguments.keep,
        older_than_days=arguments.older_than,
        grace_hours=arguments.grace_hours,
        dry_run=arguments.dry_run,
    )
    print(json.dumps(asdict(done), indent=1) if arguments.json else _told(done))
    return 0


def _told(done: Collected) -> str:
    from llmops.report.words import count, size

    found = done.garbage
    verb = "would remove" if done.dry_run else "removed"
    lines = [
        f"{verb} {count(len(done.runs), 'run')}, {count(len(found.entries), 'cached step')}, "
        f"{count(len(found.objects), 'object')}: {size(found.bytes)}",
        *(f"  {run}" for run in done.runs),
        f"keeps {count(done.kept_runs, 'run')}, {count(found.kept_objects, 'object')}: "
        f"{size(found.kept_bytes)}",
    ]
    if done.answers:
        lines.append(f"{verb} {count(done.answers, 'kept answer')} that nothing used since")
    if done.corrupt:
        lines.append(f"corrupt, and kept with all they made: {', '.join(done.corrupt)}")
    if done.foreign_runs:
        lines.append(f"kept for other workspaces: {count(done.foreign_runs, 'run')}")
    if done.dry_run:
        lines.append("nothing was removed; without --dry-run it is")
    return "\n".join(lines)
