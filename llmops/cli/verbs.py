"""What commands with verbs of their own share: calling the chosen one, and printing JSON."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence


def call_verb(parser: argparse.ArgumentParser, argv: Sequence[str]) -> int:
    """Call what the chosen verb's parser has as its default ``command``; return the exit code.

    Overrides may also stand after an option, where argparse takes them for nothing.
    """
    arguments, after_options = parser.parse_known_args(argv)
    overrides = [text for text in after_options if "=" in text and not text.startswith("-")]
    if overrides != after_options or (overrides and "overrides" not in arguments):
        parser.error(f"unrecognized arguments: {' '.join(after_options)}")
    if overrides:
        arguments.overrides = [*arguments.overrides, *overrides]
    exit_code: int = arguments.command(arguments)
    return exit_code


def print_json(value: object) -> None:
    """Print a document for another program."""
    print(json.dumps(value, indent=1, ensure_ascii=False))
