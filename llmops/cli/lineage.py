"""``llmops lineage``: what led to a thing, and what was made of it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmops.lineage.ancestry import Direction

SUMMARY = "walk from a run, dataset, model, file or answer both ways"
DEPTH = 4


def main(argv: Sequence[str]) -> int:
    """Print the tree, or the graph as JSON."""
    from llmops import api
    from llmops.lineage.ancestry import as_json, tree

    arguments = _parser().parse_args(argv)
    found = api.lineage(arguments.name)
    for why in found.away:
        print(f"note: {why}", file=sys.stderr)
    if arguments.json:
        print(json.dumps(as_json(found.graph, found.node), indent=1, ensure_ascii=False))
        return 0
    print(found.node.id)
    directions: dict[Direction, str] = {"up": "made of", "down": "made from it"}
    for direction, title in directions.items():
        lines = list(tree(found.graph, found.node.id, direction, arguments.depth))
        print(f"{title}:" if lines else f"{title}: nothing that is known")
        print("".join(f"  {line}\n" for line in lines), end="")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="llmops lineage",
        description=SUMMARY,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=(
            "examples:\n"
            "  llmops lineage so_python@champion\n"
            "  llmops lineage dataset:v1-3f9c21ab --json"
        ),
    )
    parser.add_argument(
        "name",
        metavar="REF",
        help="a run, sweep, dataset version, model, alias, file's digest or answer's id, or the "
        "beginning of one",
    )
    parser.add_argument("--depth", type=int, default=DEPTH, metavar="N", help=f"default {DEPTH}")
    parser.add_argument("--json", action="store_true")
    return parser
