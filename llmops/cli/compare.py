"""``llmops runs compare``: what differs between runs, as text, page or JSON."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops.report import words
from llmops.report.comparison_page import comparison_page, verdict

if TYPE_CHECKING:
    from rich.console import Console

ANSWER_SHOWN = 160  # characters of an answer on the screen


def compare(arguments: argparse.Namespace) -> int:
    """Compare the runs that the command names with the first of them."""
    from llmops import api
    from llmops.files import disk_errors, write_text

    found = api.compare(arguments.runs).as_json()
    if arguments.html:
        path = Path(arguments.html)
        with disk_errors(path.parent, setting="--html"):
            write_text(path, comparison_page(found))
    if arguments.json:
        print(json.dumps(found, indent=1, ensure_ascii=False))
        return 0
    from rich.console import Console

    _show(found, Console())
    if arguments.html:
        print(arguments.html)
    return 0


def _show(found: Mapping[str, Any], console: Console) -> None:
    from rich.table import Table
    from rich.text import Text

    ids = [run["run_id"] for run in found["runs"]]
    for note in found["notes"]:
        console.print(Text(f"note: {note}", style="red"))
    config = Table("config", *ids, title="what differs in the config")
    for leaf in found["leaves"]:
        cells = [
            f"{words.value(value)}\n{who or ''}".rstrip()
            for value, who in zip(leaf["values"], leaf["set_by"], strict=True)
        ]
        config.add_row(Text(leaf["path"]), *map(Text, cells))
    console.print(config if found["leaves"] else "the configs are the same")
    figures = Table("figure", *ids, title="figures, and differences on the same rows")
    for row in found["figures"]:
        figures.add_row(Text(f"{row['contestant']} {row['metric']}"), *map(Text, _cells(row)))
    if found["figures"]:
        console.print(figures)
    for row in found["answers"]:
        title = f"{row['contestant']}, row {row['row_key'][:12]}: {words.percent(row['changed'])}"
        console.print(Text(f"{title} changed", style="bold"))
        for run_id, text in zip(ids, row["answers"], strict=True):
            console.print(Text(f"  {run_id}: {' '.join((text or '').split())[:ANSWER_SHOWN]}"))


def _cells(row: Mapping[str, Any]) -> list[str]:
    cells = []
    for place, (figure, change) in enumerate(zip(row["figures"], row["differences"], strict=True)):
        figure = figure or {}
        span = words.interval(figure.get("low"), figure.get("high"), row["unit"])
        text = f"{words.figure(figure.get('value'), row['unit'])} {span}".rstrip()
        if place:
            moved = "" if not change else words.signed(change["value"], row["unit"])
            text += f"\n{moved} {verdict(change, row['better'])}"
        cells.append(text)
    return cells
