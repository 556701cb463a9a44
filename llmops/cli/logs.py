"""``llmops logs``: SQL over what was asked and answered, reviewed rows, retention."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops.cli.verbs import call_verb, print_json

if TYPE_CHECKING:
    from llmops.traffic.log import TrafficLog

SUMMARY = "query the log of answers, make tuning rows of reviewed ones"
_EPILOG = """examples:
  llmops logs query "SELECT model, version, count(*), avg(blocked::int) FROM answers GROUP BY ALL"
  llmops logs feedback ans_... --down --correction "Use a context manager."
  llmops logs reviewed --out reviewed.jsonl
  llmops logs expire"""


def main(argv: Sequence[str]) -> int:
    """Query, review or expire the log."""
    return call_verb(_parser(), argv)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="llmops logs",
        description=SUMMARY,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(required=True, metavar="query | feedback | reviewed | expire")
    query = verbs.add_parser("query", help="one SELECT over answers, feedback and reviewed")
    query.add_argument("sql", metavar="SQL", help="DuckDB's dialect, or a file that ends in .sql")
    query.add_argument("--limit", type=int, default=50, help="rows shown (default 50)")
    query.set_defaults(command=_query)
    feedback = verbs.add_parser("feedback", help="say what you think of an answer")
    feedback.add_argument("id", metavar="ID", help="of the answer: ans_...")
    rating = feedback.add_mutually_exclusive_group()
    rating.add_argument("--up", dest="rating", action="store_const", const="up")
    rating.add_argument("--down", dest="rating", action="store_const", const="down")
    feedback.add_argument("--correction", metavar="TEXT", help="what should have been answered")
    feedback.add_argument("--comment", metavar="TEXT")
    feedback.set_defaults(command=_feedback)
    reviewed = verbs.add_parser("reviewed", help="write liked and corrected answers as tuning rows")
    reviewed.add_argument("--out", type=Path, required=True, help="a .jsonl for dataset=jsonl")
    reviewed.set_defaults(command=_reviewed)
    expire = verbs.add_parser("expire", help="remove what serve.log.retention_days does not keep")
    expire.set_defaults(command=_expire)
    for verb in (query, feedback, reviewed, expire):
        verb.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="e.g. serve=local")
        verb.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _query(given: argparse.Namespace) -> int:
    from llmops.cli.predict import sql_of
    from llmops.traffic.query import rows

    names, found = rows(_folder(given), sql_of(given.sql))
    if given.json:
        print_json([{name: _plain(value) for name, value in row.items()} for row in found])
        return 0
    from rich.console import Console
    from rich.table import Table

    table = Table(*names)
    for row in itertools.islice(found, given.limit):
        table.add_row(*(_cell(row[name]) for name in names))
    console = Console(markup=False, highlight=False)
    console.print(table if table.row_count else "no rows")
    if left := sum(1 for _ in found):
        console.print(f"and {left:,} more; see them with --limit or --json")
    return 0


def _feedback(given: argparse.Namespace) -> int:
    from llmops.api.feedback import give_feedback

    give_feedback(
        given.id,
        rating=given.rating,
        correction=given.correction,
        comment=given.comment,
        overrides=given.overrides,
    )
    if given.json:
        print_json({"answer_id": given.id})
    else:
        print(f"{given.id}: noted")
    return 0


def _reviewed(given: argparse.Namespace) -> int:
    from llmops.traffic.reviewed import write_reviewed

    done = write_reviewed(_folder(given), given.out)
    if given.json:
        print_json({**vars(done), "out": str(given.out)})
        return 0
    print(f"{given.out}: {done.written:,} rows, {done.corrected:,} of them corrected")
    left_out = ("disliked", "blocked", "without_content", "repeated")
    print("left out: " + ", ".join(f"{name} {vars(done)[name]:,}" for name in left_out))
    print(f'use them:  llmops run +experiment=... dataset=jsonl "dataset.files=[{given.out}]"')
    return 0


def _expire(given: argparse.Namespace) -> int:
    from llmops.api.answering import open_sessions, serve_config

    config = serve_config(given.overrides)
    now = datetime.now(UTC)
    segments, turns = _log(given).expire(now), open_sessions(config).expire(now)
    if given.json:
        print_json({"segments": segments, "turns": turns})
    else:
        print(f"removed {segments:,} segments of the log and {turns:,} turns of old sessions")
    return 0


def _folder(given: argparse.Namespace) -> Path:
    from llmops.api.answering import serve_config
    from llmops.config.project import workspace

    return workspace() / str(serve_config(given.overrides)["log"]["path"])


def _log(given: argparse.Namespace) -> TrafficLog:
    import msgspec

    from llmops.api.answering import serve_config
    from llmops.config.project import workspace
    from llmops.traffic.log import LogSettings, TrafficLog

    settings = msgspec.convert(serve_config(given.overrides)["log"], LogSettings)
    return TrafficLog(settings, workspace())


def _cell(value: Any) -> Any:
    from rich.text import Text

    from llmops.cli.predict import printable

    return Text("null", style="dim") if value is None else Text(printable(str(_plain(value)))[:200])


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat() + "Z"
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value if isinstance(value, bool | int | float | str | None) else str(value)
