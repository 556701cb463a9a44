"""What commands with verbs of their own share: calling the chosen one, and printing JSON."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence


def call_verb(parser: argparse.ArgumentParser, argv: Sequence[str]) -> int:
    """Call what the chosen verb's parser has as its default ``command``; return the exit code."""
    arguments = parser.parse_args(argv)
    exit_code: int = arguments.command(arguments)
    return exit_code


def print_json(value: object) -> None:
    """Print a document for another program."""
    print(json.dumps(value, indent=1, ensure_ascii=False))
