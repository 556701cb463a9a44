"""``llmops models tuned`` and ``import``: what a provider keeps, and taking it over."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict


def tuned(argv: Sequence[str]) -> int:
    """List the tuned models that the provider keeps."""
    from llmops import api

    parser = argparse.ArgumentParser(
        prog="llmops models tuned",
        description="list the tuned models that the provider of the model group keeps",
        epilog="example:  llmops models tuned model=gemini env=prod env.project=my-project",
    )
    _add_common(parser)
    arguments = parser.parse_intermixed_args(argv)
    found = api.tuned_models(arguments.overrides)
    if arguments.json:
        print(json.dumps([asdict(one) for one in found], indent=1, ensure_ascii=False))
        return 0
    from rich.console import Console
    from rich.table import Table

    table = Table("title", "made", "base", "tuned model", "endpoint")
    for one in found:
        model = one.model
        table.add_row(one.title, one.made_at, model.base, model.tuned or "", model.endpoint or "")
    Console().print(table if found else "the provider keeps no tuned model here")
    return 0


def import_(argv: Sequence[str]) -> int:
    """Register a model that was tuned elsewhere."""
    from llmops import api

    parser = argparse.ArgumentParser(
        prog="llmops models import",
        description="register a model that was tuned elsewhere",
        epilog="example:  llmops models import so_python answers-v2 --reason 'tuned by hand' "
        "model=gemini env=prod env.project=my-project",
    )
    parser.add_argument("name", help="the registered model's name")
    parser.add_argument("tuned", help="its resource name or endpoint, or its title if it is one")
    parser.add_argument("--alias", help="an alias to point at it")
    parser.add_argument("--reason", required=True, help="kept in the alias's history")
    _add_common(parser)
    arguments = parser.parse_intermixed_args(argv)
    done = api.import_model(
        arguments.name,
        arguments.tuned,
        alias=arguments.alias,
        reason=arguments.reason,
        overrides=arguments.overrides,
    )
    if arguments.json:
        print(json.dumps(asdict(done), indent=1, ensure_ascii=False))
    else:
        at = "".join(f", {alias}" for alias in done.version.aliases)
        print(f"'{done.title}' is {done.version.name}:{done.version.version}{at}")
    return 0


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="e.g. model=gemini")
    parser.add_argument("--json", action="store_true", help="print JSON")
