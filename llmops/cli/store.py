"""``llmops store``: check that the store's objects are what their names say, and mend it."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from llmops.api.storage import Verification

SUMMARY = "check that what is stored is whole, and mend it"


def main(argv: Sequence[str]) -> int:
    """Verify the workspace's store and return what ``Verification.exit_code`` says."""
    from rich.console import Console
    from rich.progress import Progress

    from llmops import api

    arguments = _parser().parse_args(argv)
    console = Console(stderr=arguments.json)
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("reading objects")
        found = api.verify_store(
            lambda done, total, note="": bar.update(task, completed=done, total=total),
            repair=arguments.repair,
        )
    if arguments.json:
        print(json.dumps(asdict(found), indent=1))
    else:
        _show(found, console)
    return found.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="llmops store",
        description=SUMMARY,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=(
            "exit code: the sum of 1 damaged objects, 2 finished steps whose objects are gone,\n"
            "4 objects that could not be read; 0 if all is well, or was mended.\n\n"
            "example:  llmops store verify --repair"
        ),
    )
    verbs = parser.add_subparsers(required=True, metavar="verify")
    verifying = verbs.add_parser("verify", help="read every object and follow every index entry")
    verifying.add_argument(
        "--repair",
        action="store_true",
        help="set damaged objects aside and forget steps whose objects are gone: the next run "
        "does them again",
    )
    verifying.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _show(found: Verification, console: Console) -> None:
    console.print(
        f"{found.objects:,} objects, {found.bytes / 1e6:,.1f} MB, {found.entries:,} finished steps"
    )
    for sha256 in found.damaged:
        console.print(f"damaged: object {sha256[:12]}", style="red")
    for sha256 in found.unreadable:
        console.print(f"cannot be read: object {sha256[:12]}", style="red")
    for key in found.torn:
        console.print(f"torn: the index entry {key[:12]}", style="red")
    for one in found.lost:
        console.print(
            f"gone: {one.step}.{one.output}, object {one.sha256[:12]} (step key {one.key[:12]})",
            style="red",
        )
    console.print(_verdict(found))


def _verdict(found: Verification) -> str:
    if not (found.damaged or found.lost or found.torn or found.unreadable):
        return "all is what its name says"
    if found.repaired:
        return "mended: the next run does again what was taken away"
    return "hint: llmops store verify --repair, then run the experiment again"
