"""What a sweep shows on the terminal: its members while they run, and the board at the end.

On a terminal a table that is drawn anew; in a pipe one line each time a member's status changes.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from llmops.report import words

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from llmops.api import Sweep
    from llmops.api.leaderboard import Board
    from llmops.lineage.sweep import Member, SweepFolder

POLL_S = 0.5
MOST_LIVE_ROWS = 30  # a longer table would not fit; those that run are shown first
STYLES = {
    "running": "bold",
    "succeeded": "green",
    "refused": "yellow",
    "failed": "bold red",
    "died": "bold red",
    "interrupted": "yellow",
    "waiting": "dim",
}
LIVE_ORDER = ("running", "failed", "died", "interrupted", "refused", "succeeded", "waiting")


class SweepScreen:
    """Shows the members of a sweep while they run; a context manager."""

    def __init__(self, folder: SweepFolder, console: Console, *, poll_s: float = POLL_S) -> None:
        self._folder = folder
        self._console = console
        self._poll_s = poll_s
        self._over = threading.Event()
        self._told: dict[str, str] = {}
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._live: Any = None

    def __enter__(self) -> SweepScreen:
        self._console.print(f"sweep {self._folder.id}", highlight=False, soft_wrap=True)
        if self._console.is_interactive:
            from rich.live import Live

            self._live = Live(console=self._console, transient=True, auto_refresh=False)
            self._live.start()
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join()
        self._show()
        if self._live is not None:
            self._live.stop()

    def _watch(self) -> None:
        while not self._over.wait(self._poll_s):
            self._show()

    def _show(self) -> None:
        members = self._folder.members()
        if self._live is not None:
            self._live.update(_live_table(members), refresh=True)
            return
        for member in members:
            if member.status != self._told.get(member.id) and member.status != "waiting":
                self._told[member.id] = member.status
                parts = (member.id, member.status, _what(member), words.seconds(member.seconds))
                line = ", ".join(part for part in parts if part and part != words.NOTHING)
                self._console.print(line, highlight=False, soft_wrap=True, markup=False)


def _live_table(members: Sequence[Member]) -> Table:
    order = sorted(members, key=lambda one: (LIVE_ORDER.index(one.status), one.number))
    table = _table("member", "status", "what", "time", title=_counts(members))
    for member in order[:MOST_LIVE_ROWS]:
        doing = member.step if member.status == "running" and member.step else _what(member)
        _add(table, (member.id, member.status, doing, words.seconds(member.seconds)), member.status)
    return table


def _counts(members: Sequence[Member]) -> str:
    counts = {status: sum(one.status == status for one in members) for status in LIVE_ORDER}
    return ", ".join(f"{number} {status}" for status, number in counts.items() if number)


def _what(member: Member) -> str:
    return " ".join(text for text in member.overrides if "experiment=" not in text)


def show_sweep(sweep: Sweep, console: Console) -> None:
    """Print the board, every failure with its cause, the chosen member, and where the page lies."""
    for note in sweep.document.get("notes") or ():
        _say(f"note: {note}", console)
    console.print(_board_table(sweep.board) if sweep.board else _plain_table(sweep.members))
    if sweep.board:
        _say(sweep.board.sentence, console)
        for note in sweep.board.notes:
            _say(f"note: {note}", console)
    for member in sweep.members:
        if member.problem:
            _say(f"{member.id} {_what(member)}: {member.problem}", console, style="red")
            _say(f"  hint: {member.hint}" if member.hint else "", console)
    if sweep.document.get("stopped"):
        _say(f"stopped: {sweep.document['stopped']}", console, style="bold red")
    _say(_chosen(sweep), console, style="bold")
    if any(member.status not in ("succeeded", "refused") for member in sweep.members):
        _say(f"what is missing: python -m llmops sweeps resume {sweep.folder.name}", console)
    page = sweep.folder / "sweep.html"
    _say(str(page if page.exists() else sweep.folder), console)


def sweep_json(sweep: Sweep) -> dict[str, Any]:
    """Return what ``--json`` prints of a sweep."""
    return {
        **sweep.document,
        "id": sweep.folder.name,
        "folder": str(sweep.folder),
        "exit_code": sweep.exit_code,
        "leaderboard": sweep.board and sweep.board.as_json(),
        "members": [{**asdict(one), "overrides": list(one.overrides)} for one in sweep.members],
    }


def _board_table(board: Board) -> Table:
    by = board.decides
    keys = list(dict.fromkeys(key for row in board.rows for key in row.varies))
    title = f"{words.metric_title(by.metric)} of {words.plain_name(by.contestant)}"
    costs = any(row.member.money for row in board.rows)
    titles = ("", "member", *_short(keys), title, "status", "time", "cached")
    table = _table(*titles, *(["cost"] if costs else []))
    for row in board.rows:
        unit = by.definition.unit
        span = words.interval(row.low, row.high, unit)
        cached = row.member.cached_steps
        cells = (
            str(row.place or ""),
            row.member.id,
            *(row.varies.get(key, "") for key in keys),
            f"{words.figure(row.value, unit)} {span}".rstrip(),
            row.member.status,
            words.seconds(row.member.seconds),
            "" if cached is None else f"{cached}/{row.member.steps}",
        )
        money = "" if row.member.money is None else f"{row.member.money:,.2f}"
        _add(table, (*cells, *([money] if costs else [])), row.member.status)
    return table


def _short(keys: Sequence[str]) -> list[str]:
    """Return the last word of each key where that is enough to tell them apart."""
    last = [key.rpartition(".")[2] for key in keys]
    return [short if last.count(short) == 1 else key for key, short in zip(keys, last, strict=True)]


def _plain_table(members: Sequence[Member]) -> Table:
    table = _table("member", "overrides", "status", "time", "cached", "run")
    for one in members:
        cached = "" if one.cached_steps is None else f"{one.cached_steps}/{one.steps}"
        time = words.seconds(one.seconds)
        cells = (one.id, _what(one), one.status, time, cached, one.run_id or "")
        _add(table, cells, one.status)
    return table


def _chosen(sweep: Sweep) -> str:
    chosen = sweep.board.chosen if sweep.board else None
    if chosen is None:
        return ""
    what = ", ".join(f"{key}={value}" for key, value in chosen.varies.items()) or chosen.member.id
    if sweep.final is None:
        return f"best: {what} (run {chosen.member.run_id})"
    record = sweep.final.record
    outcome = words.OUTCOMES.get(record["status"], record["status"])
    return f"chosen: {what}; on test rows in run {record['run_id']}: {outcome}"


def _table(*titles: str, title: str = "") -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Column, Table
    from rich.text import Text

    whole = ("run", "member", "status", "time")  # what one copies is never broken into two lines
    columns = [Column(Text(text), overflow="fold", no_wrap=text in whole) for text in titles]
    return Table(*columns, box=SIMPLE_HEAD, title=title or None, title_justify="left")


def _add(table: Table, cells: Sequence[str], status: str) -> None:
    from rich.text import Text

    table.add_row(*(Text(cell) for cell in cells), style=STYLES.get(status, ""))


def _say(text: str, console: Console, *, style: str = "") -> None:
    if text:
        console.print(text, style=style, highlight=False, soft_wrap=True, markup=False)
