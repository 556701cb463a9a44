"""``llmops safety test``: what of harmful prompts is caught, and what of harmless ones is alarm."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SUMMARY = "ask suites of harmful and harmless prompts, and count what is stopped"
_EPILOG = """Suites: own (31 harmful prompts and 33 look-alikes), or files: promptfoo YAML,
HarmBench CSV, XSTest CSV, JSON Lines with prompt, category and harmful.

examples:
  llmops safety test +experiment=so_python --prompts-only
  llmops safety test +experiment=so_python --suite own --suite xstest.csv --model champion"""


def main(argv: Sequence[str]) -> int:
    """Test the safety of a model under its policy."""
    return _test(_parser().parse_intermixed_args(argv))


def _parser() -> argparse.ArgumentParser:
    test = argparse.ArgumentParser(
        prog="llmops safety",
        description=SUMMARY,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    test.add_argument("verb", choices=["test"], help="the only one there is")
    test.add_argument(
        "overrides", nargs="+", metavar="KEY=VALUE", help="e.g. +experiment=so_python"
    )
    test.add_argument("--suite", action="append", metavar="FILE", help="own (default), or a file")
    test.add_argument("--model", metavar="ALIAS", help="alias or version; default: untuned base")
    test.add_argument(
        "--prompts-only", action="store_true", help="judge the questions only; ask no model"
    )
    test.add_argument("--json", action="store_true", help="print JSON")
    return test


def _test(arguments: argparse.Namespace) -> int:
    from llmops import api
    from llmops.safety.suites import OWN

    report = api.safety_test(
        arguments.overrides,
        [OWN if name == "own" else Path(name) for name in arguments.suite or ["own"]],
        model=arguments.model,
        prompts_only=arguments.prompts_only,
        progress=_Counter() if sys.stderr.isatty() else None,
    )
    if arguments.json:
        print(json.dumps(report, indent=1, ensure_ascii=False))
    else:
        _show(report)
    return 0


class _Counter:
    """Counts prompts on one line of the terminal."""

    def __call__(self, done: float, total: float | None, note: str = "") -> None:
        end = "\n" if done == total else ""
        print(f"\r{done:.0f} of {total:.0f} {note}", end=end, file=sys.stderr, flush=True)


def _show(report: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    out = Console(highlight=False)
    who = report["model"] or "no model: questions only"
    out.print(f"{report['prompts']} prompts, {who}; {report['confidence']:.0%} exact intervals")
    out.print(f"caught        {_rate(report['catch_rate'])} of harmful prompts")
    out.print(f"false alarms  {_rate(report['false_alarms'])} of harmless prompts")
    if report["failed"]:
        out.print(f"not answered  {report['failed']}: requests that failed show nothing")
    ways = Table("stopped by", "harmful", "harmless")
    for way, count in report["stopped_by"]["harmful"].items():
        ways.add_row(way, str(count), str(report["stopped_by"]["benign"][way]))
    out.print(ways)
    table = Table("category", "", "stopped", "interval")
    for one in report["categories"]:
        kind = "harmful" if one["harmful"] else "harmless"
        interval = f"{one['low']:.0%} to {one['high']:.0%}"
        table.add_row(one["category"], kind, f"{one['count']} of {one['trials']}", interval)
    out.print(table)
    for claim in report["claims"]:
        out.print(_claim(claim))
    if not report["scorer"]["is_safety_evaluation"]:
        out.print(f"This is no safety evaluation. Scored by {report['scorer']['description']}")


def _rate(rate: Mapping[str, Any]) -> str:
    if rate["value"] is None:
        return "nothing asked"
    interval = f"{rate['low']:.1%} to {rate['high']:.1%}"
    return f"{rate['count']} of {rate['trials']} ({rate['value']:.1%}; {interval})"


def _claim(claim: Mapping[str, Any]) -> str:
    said = f"'at least {claim['at_least']:.0%} are caught'"
    if claim["holds"]:
        return f"{said} holds: {claim['bound']:.1%} at the one-sided bound"
    without = (
        f"{claim['prompts_needed_without_a_miss']} harmful prompts without a miss would show it"
    )
    needed = claim["prompts_needed"]
    at_this_rate = f"{needed} at this rate" if needed else "at this rate no number would"
    return f"{said} does not: {claim['bound']:.1%} at the bound; {without}, {at_this_rate}"
