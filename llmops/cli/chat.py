"""``llmops chat``: talk with a registered model; what was said is kept by session."""

from __future__ import annotations

import argparse
import secrets
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmops.answering.model import OpenModel
    from llmops.traffic.log import TrafficLog
    from llmops.traffic.sessions import Sessions

SUMMARY = "talk with a model; a session is gone on with by its id"
OWNER = "command line"  # whose sessions these are: a server's clients have their own
_EPILOG = """examples:
  llmops chat --model champion
  llmops chat --session 3f9c21ab
  llmops chat --list
  echo "What is a tuple?" | llmops chat --model champion
in a chat: a question a line; /new begins anew, /forget removes the session, /bye or Ctrl-D ends"""


def main(argv: Sequence[str]) -> int:
    """Talk until the questions end."""
    given = _parser().parse_args(argv)
    from llmops.api.answering import open_log, open_model, open_sessions, others, serve_config

    config = serve_config(given.overrides)
    sessions = open_sessions(config)
    if given.list:
        return _list(sessions, as_json=given.json)
    model = open_model(given.model, others(given.overrides))
    log = open_log(config)
    try:
        _talk(model, log, sessions, given.session or secrets.token_hex(4))
    finally:
        log.close()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="llmops chat",
        description=SUMMARY,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", default="champion", help="as of predict (default: champion)")
    parser.add_argument("--session", metavar="ID", help="go on with this one; default: a new one")
    parser.add_argument("--list", action="store_true", help="list the sessions and end")
    parser.add_argument("--json", action="store_true", help="with --list: print JSON")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    return parser


def _talk(model: OpenModel, log: TrafficLog, sessions: Sessions, session: str) -> None:
    from llmops.cli.predict import printable

    print(
        f"{model.label}, session {session}; go on later:  llmops chat --session {session}",
        file=sys.stderr,
    )
    for line in _lines():
        if line == "/bye":
            return
        if line == "/new":
            session = secrets.token_hex(4)
            print(f"session {session}", file=sys.stderr)
        elif line == "/forget":
            print(f"forgot {sessions.forget(OWNER, session)} turns", file=sys.stderr)
        elif line.startswith("/"):
            print(printable(f"{line}: there is /new, /forget and /bye"), file=sys.stderr)
        else:
            _turn(model, log, sessions, session, line)


def _lines() -> Iterator[str]:
    """Yield what is typed or piped in, without empty lines."""
    while True:
        if sys.stdin.isatty():
            print("> ", end="", flush=True)
        line = sys.stdin.readline()
        if not line:
            return
        if line.strip():
            yield line.strip()


def _turn(
    model: OpenModel, log: TrafficLog, sessions: Sessions, session: str, question: str
) -> None:
    from llmops.answering.exchange import estimated_tokens
    from llmops.api.answering import conversation, record
    from llmops.cli.predict import printable, streamed
    from llmops.traffic.sessions import Turn

    found = streamed(model, conversation(sessions.history(OWNER, session), question))
    record(log, model, found, route="chat", client=OWNER, session=session)
    if found.error is not None:
        print(printable(f"error: {found.error}"), file=sys.stderr)
    elif not found.blocked:
        tokens = estimated_tokens(question) + max(1, found.output_tokens)
        sessions.add(OWNER, session, Turn(question, found.text), tokens=tokens)


def _list(sessions: Sessions, *, as_json: bool) -> int:
    found = sessions.list(OWNER)
    if as_json:
        import json

        print(json.dumps([vars(one) for one in found], indent=1))
        return 0
    for one in found:
        print(f"{one.session}  {one.turns} turns  {one.last}")
    if not found:
        print("no session:  llmops chat --model champion")
    return 0
