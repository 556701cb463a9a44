"""``llmops predict``: ask a registered model a question, or every row of a file or query."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops.cli.verbs import print_json
from llmops.errors import ConfigError

if TYPE_CHECKING:
    from llmops.answering.batch import Done
    from llmops.answering.exchange import Answer
    from llmops.answering.model import OpenModel
    from llmops.ports.model import Message

SUMMARY = "ask a model a question, or every row of a file or query"
BACKEND_FAILED = 5
_EPILOG = """examples:
  llmops predict --model champion --question "How can I load a csv file using Pandas?"
  llmops predict --model so_python:3 --file questions.csv --out answers.csv
  llmops predict --query conf/sql/so_python.sql --out answers.parquet
  llmops predict --model split --file questions.csv --out answers.csv
  llmops predict --model untuned --question "What is a tuple?" +experiment=so_python"""


def main(argv: Sequence[str]) -> int:
    """Ask and show."""
    given = _parser().parse_args(argv)
    if given.question is None:
        return _rows(given)
    if given.out is not None:
        raise ConfigError("--out belongs to --file or --query", hint="use --json > FILE")
    return _one(given)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="llmops predict",
        description=SUMMARY,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--model",
        default="champion",
        help="NAME, NAME@ALIAS, NAME:VERSION, ALIAS, `untuned`, or `split`: those of serve.models, "
        "by weight (default: champion)",
    )
    asked = parser.add_mutually_exclusive_group(required=True)
    asked.add_argument("--question", metavar="TEXT", help="one question; - reads it from stdin")
    asked.add_argument("--file", type=Path, help="rows: .jsonl, .csv or .parquet")
    asked.add_argument("--query", metavar="SQL", help="rows of one SELECT, or of a file .sql")
    parser.add_argument("--out", type=Path, help="where rows and answers go; its suffix counts")
    parser.add_argument("--column", default="question", help="of the questions in the rows")
    parser.add_argument("--replace", action="store_true", help="write over --out")
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--json", action="store_true", help="the whole response")
    shown.add_argument("--raw", action="store_true", help="what the provider answered, as JSON")
    shown.add_argument("--stream", action="store_true", help="show the answer while it is made")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="e.g. safety=strict")
    return parser


def question_of(given: str) -> str:
    """Return the question, which ``-`` has read from stdin.

    Raises:
        ConfigError: If there is none, or it is not text.
    """
    try:
        text = sys.stdin.buffer.read().decode("utf-8") if given == "-" else given
        text.encode("utf-8")
    except UnicodeError as exc:
        raise ConfigError(f"the question is not UTF-8 ({exc})") from exc
    if not text.strip():
        raise ConfigError("the question is empty", hint='--question "How do I ...?"')
    return text


def _one(given: argparse.Namespace) -> int:
    from llmops.answering.asking import answers
    from llmops.api.answering import open_log, open_model, record, serve_config, whose_turn
    from llmops.ports.model import Message

    question = question_of(given.question)
    config = serve_config(given.overrides)
    model = open_model(whose_turn(given.model, question, given.overrides), given.overrides)
    log = open_log(config)
    try:
        messages = (Message("user", question),)
        found = streamed(model, messages) if given.stream else next(answers(model, [messages]))
        identity = record(log, model, found, route="predict", client="command line")
    finally:
        log.close()
    if given.raw:
        print_json(found.raw)
    elif given.json:
        from llmops.answering.exchange import as_json

        print_json({"id": identity, **as_json(found, model, raw=True)})
    else:
        show(found, model, identity, text=not given.stream)
    return BACKEND_FAILED if found.error is not None else 0


def streamed(model: OpenModel, messages: Sequence[Message]) -> Answer:
    """Print an answer while it is made, and return it."""
    from llmops.answering import exchange
    from llmops.answering.asking import stream

    asked = exchange.ask(model, messages)
    shown = ""
    for piece in stream(model, asked):
        if not isinstance(piece, str):
            if not piece.text.startswith(shown) or not shown:
                print(printable(f"\n{piece.text}" if shown else piece.text), end="")
            print(flush=True)
            return piece
        shown += piece
        print(printable(piece), end="", flush=True)
    raise AssertionError("a stream ends with its answer")


def show(found: Answer, model: OpenModel, identity: str, *, text: bool = True) -> None:
    """Print an answer and, on stderr, what is known of it."""
    if text and found.error is None:
        print(printable(found.text), flush=True)
    for line in facts(found, model):
        print(printable(line), file=sys.stderr)
    print(f"id: {identity}", file=sys.stderr)


def facts(found: Answer, model: OpenModel) -> list[str]:
    """Return lines that say how an answer came to be: model, safety, citations, tokens."""
    lines = [
        f"model: {model.label}"
        + (f" ({model.alias})" if model.alias else "")
        + f", prompt {model.prompt.name} {model.prompt_sha256[:12]}"
    ]
    if found.error is not None:
        return [*lines, f"error: {found.error}"]
    blocked = f"blocked: yes, by {', '.join(found.blocked_by)}" if found.blocked else "blocked: no"
    lines.append(f"{blocked}; finished: {found.finish_reason}")
    if found.output is not None:
        lines += [_threshold(name, found, limit) for name, limit in _limits(model, found)]
    for verdict, way in ((found.input, "question"), (found.output, "answer")):
        for finding in verdict.findings if verdict else ():
            lines.append(f"{finding.action} ({finding.layer}, {way}): {finding.detail}")
    lines += [_step(step) for step in found.trace]
    lines += _passages(found)
    lines += [f"cites: {c.uri or c.title or 'an unnamed source'}" for c in found.citations]
    cost = "" if not found.cost else f", {found.cost:.6f} {model.price.currency}"
    lines.append(
        f"tokens: {found.prompt_tokens} in, {found.output_tokens} out{cost};"
        f" latency: {found.latency_s:.2f} s"
    )
    return lines


def _step(step: Mapping[str, Any]) -> str:
    """Return what a step of a chain did, in a line."""
    names = ("choice", "passages", "tokens", "blocked", "error")
    told = "".join(f", {name} {step[name]}" for name in names if step.get(name) is not None)
    return f"step {step['step']}: {step['seconds']:.2f} s{told}"


def _passages(found: Answer) -> list[str]:
    if found.grounding is None:
        return []
    named = ", ".join(one.id for one in found.grounding.passages) or "none"
    unknown = ", ".join(f"[{number}]" for number in found.grounding.unknown)
    return [f"passages: {named}" + (f"; cites unknown {unknown}" if unknown else "")]


def _limits(model: OpenModel, found: Answer) -> list[tuple[str, float | None]]:
    names = sorted({*found.scores, *model.policy.thresholds})
    return [(name, model.policy.thresholds.get(name)) for name in names]


def _threshold(name: str, found: Answer, limit: float | None) -> str:
    score = found.scores.get(name)
    said = "not scored" if score is None else f"{score:.3f}"
    return f"safety: {name} {said}, " + (
        "no threshold" if limit is None else f"threshold {limit:g}"
    )


def _rows(given: argparse.Namespace) -> int:
    from rich.console import Console

    from llmops.api.predicting import predict_file, predict_query

    if given.out is None:
        raise ConfigError("--file and --query need --out", hint="--out answers.jsonl")
    options: dict[str, Any] = {
        "model": given.model,
        "overrides": given.overrides,
        "column": given.column,
        "replace": given.replace,
    }
    with Console(stderr=True).status("opening the model") as status:

        def progress(done: float, total: float | None, note: str = "") -> None:
            status.update(f"{done:,.0f} {note}")

        if given.query is not None:
            done = predict_query(sql_of(given.query), given.out, progress=progress, **options)
        else:
            done = predict_file(given.file, given.out, progress=progress, **options)
    _tell(done, given)
    return BACKEND_FAILED if done.failed else 0


def sql_of(text: str) -> str:
    """Return a SELECT, out of its file if a file's name is given.

    Raises:
        ConfigError: If the file cannot be read.
    """
    if not text.endswith(".sql"):
        return text
    try:
        return Path(text).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{text} cannot be read ({exc})", hint="give the SELECT itself") from exc


def _tell(done: Done, given: argparse.Namespace) -> None:
    if given.json:
        print_json({**vars(done), "out": str(given.out)})
        return
    print(f"{given.out}: {done.rows:,} rows answered, {done.blocked:,} blocked", end="")
    print(f", {done.failed:,} failed (see response_error)" if done.failed else "", end="")
    print(f"; {done.resumed:,} from an earlier run" if done.resumed else "")


def printable(text: str) -> str:
    """Return text that cannot steer a terminal."""
    return "".join(one if one.isprintable() or one in "\n\t" else "\ufffd" for one in text)
