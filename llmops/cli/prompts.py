"""``llmops prompts``: list, show, render, compare and try the prompts of ``conf/prompt``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops.cli.verbs import call_verb, print_json
from llmops.errors import ConfigError

if TYPE_CHECKING:
    from llmops.prompts.prompt import Prompt

SUMMARY = "list and show prompts, render one for a question, compare two, try one"
REFUSED = 3


def main(argv: Sequence[str]) -> int:
    """Look at the project's prompts."""
    return call_verb(_parser(), argv)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="llmops prompts",
        description=SUMMARY,
        epilog="example:  llmops prompts render so_python --question 'How do I read a file?'",
    )
    verbs = parser.add_subparsers(required=True, metavar="list | show | render | diff | test")
    listing = verbs.add_parser("list", help="all prompts")
    listing.set_defaults(command=_list)
    showing = verbs.add_parser("show", help="one prompt, its digest, version and changelog")
    showing.set_defaults(command=_show)
    rendering = verbs.add_parser("render", help="the chat that a model is sent, and its tokens")
    rendering.set_defaults(command=_render)
    rendering.add_argument("--question", default="How do I read a file?")
    rendering.add_argument("--rows", metavar="FILE", help="test rows (Parquet or JSONL) to take")
    rendering.add_argument("--row", type=int, default=0, metavar="N", help="which row, from 0")
    rendering.add_argument(
        "--model", default="smollm2", help="whose tokens: a choice of conf/model"
    )
    comparing = verbs.add_parser("diff", help="what differs between two prompts")
    comparing.set_defaults(command=_diff)
    comparing.add_argument("name", metavar="A")
    comparing.add_argument("other", metavar="B")
    trying = verbs.add_parser("test", help="try hostile questions, and answers given")
    trying.set_defaults(command=_test)
    trying.add_argument("--answer", action="append", default=[], help="check it against the format")
    for verb in (showing, rendering, trying):
        verb.add_argument("name", metavar="PROMPT")
        verb.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="prompt.system='...'")
    for verb in (listing, showing, rendering, comparing, trying):
        verb.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _list(arguments: argparse.Namespace) -> int:
    from llmops import api

    found = [_row(api.prompt(name)) for name in api.prompt_names()]
    if arguments.json:
        print_json(found)
        return 0
    from rich.console import Console
    from rich.table import Table

    table = Table("prompt", "version", "examples", "similar", "output", "digest")
    for row in found:
        table.add_row(*(str(row[name] or "") for name in row))
    Console(markup=False).print(table)
    return 0


def _row(prompt: Prompt) -> dict[str, Any]:
    return {
        "name": prompt.name,
        "version": prompt.version,
        "examples": len(prompt.examples),
        "similar_examples": prompt.similar_examples,
        "output": prompt.output.kind,
        "digest": prompt.digest()[:12],
    }


def _show(arguments: argparse.Namespace) -> int:
    from llmops import api

    prompt = api.prompt(arguments.name, arguments.overrides)
    if arguments.json:
        print_json({**asdict(prompt), "digest": prompt.digest()})
        return 0
    print(f"{prompt.name}  version {prompt.version or 'not given'}  digest {prompt.digest()[:12]}")
    for title, text in (
        ("system", prompt.system),
        ("instruction", prompt.instruction),
        ("template", prompt.template),
    ):
        print(f"\n{title}:\n{_indented(text or '(none)')}")
    print(f"\noutput: {prompt.output.kind}")
    print(f"examples: {len(prompt.examples)} fixed, {prompt.similar_examples} similar")
    for line in prompt.changelog:
        print(f"  {line}")
    return 0


def _render(arguments: argparse.Namespace) -> int:
    from llmops import api
    from llmops.config.compose import group

    prompt = api.prompt(arguments.name, arguments.overrides)
    question = _question(arguments)
    rendered = api.render_prompt(
        prompt, question, model=group("model", [f"model={arguments.model}"])
    )
    if arguments.json:
        print_json(asdict(rendered))
        return 0
    for turn in rendered.chat:
        print(f"[{turn.role}]\n{_indented(turn.text)}")
    if prompt.similar_examples:
        print(f"before the question, for each row: {prompt.similar_examples} similar train rows")
    if rendered.tokens is None:
        print(f"tokens not counted: {rendered.counted_by}")
    else:
        print(f"{rendered.tokens} tokens of {rendered.counted_by}")
    return 0


def _question(arguments: argparse.Namespace) -> str:
    if not arguments.rows:
        return str(arguments.question)
    path = Path(arguments.rows)
    if not path.is_file():
        raise ConfigError(f"there is no file {path}", hint="e.g. an object that `runs show` names")
    rows = _jsonl(path) if path.suffix == ".jsonl" else _parquet(path)
    if not 0 <= arguments.row < len(rows):
        raise ConfigError(f"--row {arguments.row}: {path} has {len(rows)} rows, from 0")
    return str(rows[arguments.row])


def _parquet(path: Path) -> list[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        found: list[str] = pq.read_table(path, columns=["input_text"])["input_text"].to_pylist()
    except (pa.ArrowInvalid, KeyError) as exc:
        raise ConfigError(f"{path} holds no column input_text: {exc}") from exc
    return found


def _jsonl(path: Path) -> list[str]:
    try:
        rows = [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]
        return [str(row.get("input_text") or row["question"]) for row in rows]
    except (ValueError, KeyError, AttributeError) as exc:
        raise ConfigError(f"{path}: a row has neither input_text nor question ({exc})") from exc


def _diff(arguments: argparse.Namespace) -> int:
    from llmops import api

    found = api.diff_prompts(api.prompt(arguments.name), api.prompt(arguments.other))
    if arguments.json:
        print_json([{"what": what, "before": a, "after": b} for what, a, b in found])
        return 0
    for what, before, after in found:
        print(f"{what}:\n  - {_shown(before)}\n  + {_shown(after)}")
    return 0


def _test(arguments: argparse.Namespace) -> int:
    from llmops import api

    tried = api.try_prompt(api.prompt(arguments.name, arguments.overrides), arguments.answer)
    if arguments.json:
        print_json([asdict(one) for one in tried])
    else:
        for one in tried:
            print(f"{'holds ' if one.passed else 'FAILED'}  {one.name}: {one.found}")
    failed = sum(not one.passed for one in tried)
    if failed:
        print(f"{failed} of {len(tried)} failed", file=sys.stderr)
    return REFUSED if failed else 0


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.split("\n"))
