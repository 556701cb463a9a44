"""``llmops reproduce``: run a run again from its folder alone, and say what drifted."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from llmops.review.reproduction import Check, Reproduction

SUMMARY = "run a run again from its folder alone, and say what drifted"
DRIFTED = 3

_EPILOG = """The steps that cost nothing run again: data, metrics, safety report, gate. Tuning and
answering are taken from the store where their keys are there; --all runs them again, too. No
model is promoted.

example:
  llmops reproduce 20261123-101502-7b1e"""


def main(argv: Sequence[str]) -> int:
    """Reproduce a run; 0 if everything came out the same, 3 if something drifted."""
    arguments = _parser().parse_args(argv)
    from rich.console import Console

    from llmops import api
    from llmops.cli.screens import RunScreen, show_plan

    console = Console(stderr=arguments.json)
    with RunScreen(console) as screen:
        found = api.reproduce(
            arguments.run,
            everything=arguments.all,
            on_plan=lambda plan: show_plan(plan, console),
            on_event=screen.event,
        )
    if arguments.json:
        print(json.dumps(found.as_json(), indent=1, ensure_ascii=False))
    else:
        _show(found, console)
    return DRIFTED if found.drifts else 0


def _show(found: Reproduction, console: Console) -> None:
    console.print()
    for what in dict.fromkeys(check.what for check in found.checks):
        checks = [check for check in found.checks if check.what == what]
        drifted = [check for check in checks if not check.same]
        if not drifted:
            console.print(_same(what, checks), highlight=False, markup=False)
        for check in drifted:
            line = f"{what}: DRIFTED  {check.name}: {_short(check.before)} -> {_short(check.after)}"
            console.print(line, style="bold red", highlight=False, markup=False)
    verdict = f"{len(found.drifts)} drifted" if found.drifts else "everything came out the same"
    line = f"{found.run_id} again as {found.again} ({found.status}): {verdict}"
    console.print(line, style="bold", highlight=False, markup=False, soft_wrap=True)


def _same(what: str, checks: Sequence[Check]) -> str:
    if len(checks) == 1:
        return f"{what}: same  {_short(checks[0].after)}"
    return f"{what}: same  {len(checks)} compared"


def _short(text: str) -> str:
    return text[:16] if len(text) >= 40 and " " not in text else text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="llmops reproduce",
        description=SUMMARY,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", metavar="RUN", help="a run's id, the beginning of it, or its folder")
    parser.add_argument("--all", action="store_true", help="tune and answer again as well")
    parser.add_argument("--json", action="store_true", help="print every check as JSON")
    return parser
