"""``llmops validate``: checks an experiment, or every member of a sweep, and runs nothing."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from llmops.errors import ConfigProblems

_EPILOG = """examples:
  llmops validate +experiment=so_python tuning.max_steps=20
  llmops validate -m +experiment=so_python split=group,random_80_20"""


def main(argv: Sequence[str]) -> int:
    """Check a config; every mistake is told at once."""
    given = _parser().parse_intermixed_args(argv)
    try:
        checked = _checked(given.overrides, sweep=given.multirun)
    except ConfigProblems as exc:
        if not given.json:
            raise
        print(json.dumps({"valid": False, "problems": exc.problems}, indent=2))
        return exc.exit_code
    if given.json:
        print(json.dumps({"valid": True, "experiments": checked}, indent=2))
    else:
        for member in checked:
            print(f"{member['name']} {member['version']}: valid, config {member['digest'][:12]}")
    return 0


def _checked(overrides: list[str], *, sweep: bool) -> list[dict[str, str]]:
    from llmops.api import validate_members
    from llmops.config.identity import config_digest

    return [
        {
            "name": composed.config["name"],
            "version": composed.config["version"],
            "digest": config_digest(composed.config),
        }
        for composed in validate_members(overrides, sweep=sweep)
    ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="llmops validate",
        description="Check a config: every mistake at once, each with its place. Runs nothing.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="e.g. +experiment=NAME")
    parser.add_argument(
        "-m", "--multirun", action="store_true", help="check each member of a sweep"
    )
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    return parser
