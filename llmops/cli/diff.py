"""``llmops diff``: what a change of the config means, experiment by experiment."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

SUMMARY = "say what a change of the config means: leaves, steps, cost, and what got looser"
REFUSED = 3
INVALID = 2

_EPILOG = """BASE and HEAD are git refs, folders (a project, its conf, a run), experiment files,
locks (runs/NAME.lock.yaml) or runs' ids; without HEAD it is the working tree.

examples:
  llmops diff main
  llmops diff HEAD~1 HEAD --format markdown
  llmops diff runs/so_python.lock.yaml --fail-on loosened-safety,loosened-gate
  llmops diff 20261123-101502-7b1e 20261124-090000-11aa"""


def main(argv: Sequence[str]) -> int:
    """Print the difference; 3 if a condition of --fail-on holds, 2 if an experiment is invalid."""
    arguments = _parser().parse_args(argv)
    from llmops import api
    from llmops.plan.diff import matches
    from llmops.review import render

    wanted = conditions(arguments.fail_on)
    found = api.diff(arguments.base, arguments.head)
    if arguments.format == "json":
        print(json.dumps(found.as_json(), indent=1, ensure_ascii=False))
    else:
        print(render.markdown(found) if arguments.format == "markdown" else render.text(found))
    holding = matches(found, wanted)
    for sentence in holding:
        print(f"refused: {sentence}", file=sys.stderr)
    if any(experiment.change == "invalid" for experiment in found.experiments):
        print("error: an experiment is not valid", file=sys.stderr)
        return INVALID
    return REFUSED if holding else 0


def conditions(text: str) -> list[str]:
    from llmops.errors import unknown_name
    from llmops.plan.diff import CONDITIONS

    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in CONDITIONS:
            raise unknown_name("condition", name, CONDITIONS, where="--fail-on")
    return names


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="llmops diff",
        description=SUMMARY,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("base", metavar="BASE", help="what was")
    parser.add_argument(
        "head", metavar="HEAD", nargs="?", help="what is; the working tree if left out"
    )
    parser.add_argument("--format", choices=("text", "markdown", "json"), default="text")
    parser.add_argument(
        "--fail-on",
        default="",
        metavar="CONDITION,...",
        help="end with exit code 3 if one holds: loosened, loosened-safety, loosened-gate, "
        "loosened-leakage, loosened-budget, loosened-data, over-budget, model, limit, rerun, "
        "changed",
    )
    return parser
