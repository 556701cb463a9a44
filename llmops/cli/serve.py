"""``llmops serve``: answer over HTTP; ``llmops serve token``: make a client's token."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from llmops.errors import MissingExtra

SUMMARY = "answer over HTTP: our own routes and OpenAI's"
_EPILOG = """examples:
  llmops serve --model champion
  llmops serve --model so_python@champion=0.9 --model so_python@candidate=0.1
  llmops serve serve=production serve.port=9000
  llmops serve token --name ops"""


def main(argv: Sequence[str]) -> int:
    """Serve until asked to stop, or make a token."""
    if argv and argv[0] == "token":
        return _token(argv[1:])
    given = _parser().parse_args(argv)
    from llmops.api.answering import others, serve_config

    config = serve_config(given.overrides)
    if given.model:
        config["models"] = [_share(text) for text in given.model]
    token = _ensure_token(config)
    try:
        from llmops.serving.server import serve
    except ModuleNotFoundError as exc:
        if exc.name and exc.name.partition(".")[0] == "llmops":
            raise
        raise MissingExtra(
            f"serve needs the package '{exc.name}'", hint="pip install 'llmops[serve]'"
        ) from exc
    serve(
        config,
        others(given.overrides),
        on_start=lambda address: _tell(address, config, token, as_json=given.json),
    )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="llmops serve",
        description=SUMMARY,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--model",
        action="append",
        metavar="MODEL[=WEIGHT]",
        help="who answers, instead of serve.models; several share the traffic by weight",
    )
    parser.add_argument("--json", action="store_true", help="tell the address as JSON")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="e.g. serve.port=9000")
    return parser


def _share(text: str) -> dict[str, Any]:
    from llmops.errors import ConfigError

    model, found, weight = text.partition("=")
    try:
        value = float(weight) if found else 1.0
    except ValueError:
        value = -1.0
    if not model or not 0 <= value < float("inf"):
        raise ConfigError(f"'{text}' is no MODEL=WEIGHT", hint="for example champion=0.9")
    return {"model": model, "weight": value}


def _ensure_token(config: dict[str, Any]) -> str | None:
    """Give a config without tokens a fresh one, for this server's life, and return it."""
    from llmops.serving.clients import new_token, token_digest

    if config["tokens"]:
        return None
    token = new_token()
    config["tokens"] = [{"name": "started", "sha256": token_digest(token)}]
    return token


def _tell(address: str, config: dict[str, Any], token: str | None, *, as_json: bool) -> None:
    models = ", ".join(f"{one['model']} {one['weight']:g}" for one in config["models"])
    if as_json:
        print(json.dumps({"address": address, "models": config["models"], "token": token}))
    else:
        print(f"serving {models} at {address}")
        if token is not None:
            print(f"token (until this server stops): {token}")
            print(
                f"try:  curl {address}/v1/predict -H 'Authorization: Bearer {token}'"
                " -H 'Content-Type: application/json' -d '{\"question\": \"What is a tuple?\"}'"
            )
    sys.stdout.flush()


def _token(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="llmops serve token", description="make a client's token; it is shown once"
    )
    parser.add_argument("--name", required=True, help="the client's name, as logs show it")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args(argv)
    from llmops.serving.clients import new_token, token_digest

    token = new_token()
    entry = {"name": given.name, "sha256": token_digest(token)}
    if given.json:
        print(json.dumps({"token": token, **entry}))
    else:
        print(f"token, for the client, shown this once:  {token}")
        print(f"for serve.tokens:  - {{name: {entry['name']}, sha256: {entry['sha256']}}}")
    return 0
