"""``llmops models``: the registered models, their aliases, and fetching a base model."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from llmops.errors import ConfigError

if TYPE_CHECKING:
    from llmops.ports import AliasMove, ModelVersion, Registry

SUMMARY = "list registered models, show or promote one, pull a base model"
DIGEST_SHOWN = 12  # characters of a digest on the screen


@dataclass(frozen=True)
class Wanted:
    """What ``NAME``, ``NAME@ALIAS`` or ``NAME:VERSION`` asks for; null means the newest version."""

    name: str
    version: str | None


def main(argv: Sequence[str]) -> int:
    """List, show, promote or pull models."""
    if argv and argv[0] == "pull":
        from llmops.cli.pull import pull

        return pull(argv[1:])
    if argv and argv[0] in ("tuned", "import"):
        from llmops.cli import tuned

        return (tuned.tuned if argv[0] == "tuned" else tuned.import_)(argv[1:])
    arguments = _parser().parse_args(argv)
    handled: int = arguments.command(arguments)
    return handled


def parse_model(text: str) -> Wanted:
    """Read ``NAME``, ``NAME@ALIAS`` or ``NAME:VERSION``.

    Raises:
        ConfigError: If a part is empty or a version is no number.
    """
    for mark in "@:":
        name, found, version = text.partition(mark)
        if not found:
            continue
        if not name or not version or (mark == ":" and not version.isdecimal()):
            break
        return Wanted(name, version)
    else:
        return Wanted(text, None)
    raise ConfigError(
        f"'{text}' names no model", hint="for example so_python, so_python@champion or so_python:3"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="llmops models",
        description=SUMMARY,
        epilog="example:  llmops models promote so_python@candidate --reason 'read 20 answers'",
    )
    verbs = parser.add_subparsers(
        required=True, metavar="list | show | promote | pull | tuned | import"
    )
    listing = verbs.add_parser("list", help="all versions of all models")
    listing.set_defaults(command=_list)
    showing = verbs.add_parser("show", help="one version and the history of its aliases")
    showing.set_defaults(command=_show)
    promoting = verbs.add_parser("promote", help="point an alias at a version")
    promoting.set_defaults(command=_promote)
    for verb in (showing, promoting):
        verb.add_argument("model", metavar="NAME[@ALIAS|:VERSION]", help="default: the newest")
    promoting.add_argument("--to", metavar="ALIAS", help="default: deploy.promote_to")
    promoting.add_argument("--reason", required=True, help="kept in the history")
    for verb in (listing, showing, promoting):
        verb.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="e.g. deploy=files")
        verb.add_argument("--json", action="store_true", help="print JSON")
    verbs.add_parser("pull", help="fetch and convert the base model", add_help=False)
    verbs.add_parser("tuned", help="the tuned models that a provider keeps", add_help=False)
    verbs.add_parser("import", help="register a model that was tuned elsewhere", add_help=False)
    return parser


def _list(arguments: argparse.Namespace) -> int:
    versions = _registry(arguments, _deploy(arguments)).list()
    if arguments.json:
        _print_json([asdict(version) for version in versions])
        return 0
    from rich.console import Console
    from rich.table import Table

    table = Table("model", "version", "aliases", "tuned model", "dataset", "run")
    for version in versions:
        table.add_row(
            version.name,
            str(version.version),
            ", ".join(version.aliases),
            version.model.tuned or version.model.base,
            version.model.dataset_version or "",
            version.registered_by,
        )
    none = "no model is registered:  python -m llmops run +experiment=so_python"
    Console().print(table if versions else none)
    return 0


def _show(arguments: argparse.Namespace) -> int:
    registry = _registry(arguments, _deploy(arguments))
    version = _find(registry, parse_model(arguments.model))
    history = registry.history(version.name)
    if arguments.json:
        moves = [asdict(move) for move in history if version.version in (move.before, move.version)]
        _print_json({**asdict(version), "history": moves})
        return 0
    _print_version(version, history)
    return 0


def _promote(arguments: argparse.Namespace) -> int:
    deploy = _deploy(arguments)
    registry = _registry(arguments, deploy)
    alias = arguments.to or deploy["promote_to"]
    if alias is None:
        raise ConfigError("deploy.promote_to is null", hint="name an alias:  --to champion")
    chosen = _find(registry, parse_model(arguments.model))
    promoted = registry.set_alias(chosen.name, alias, chosen.version, reason=arguments.reason)
    if arguments.json:
        _print_json(asdict(promoted))
    else:
        print(f"{promoted.name}@{alias} is version {promoted.version}")
    return 0


def _deploy(arguments: argparse.Namespace) -> Mapping[str, Any]:
    from llmops.config.compose import group

    return group("deploy", arguments.overrides)


def _registry(arguments: argparse.Namespace, deploy: Mapping[str, Any]) -> Registry:
    from llmops.adapters.catalog import adapter, in_cloud
    from llmops.config.compose import group
    from llmops.config.project import workspace

    chosen = deploy["registry"]
    environment = group("env", arguments.overrides) if in_cloud("registry", chosen) else None
    registry: Registry = adapter("registry", chosen, workspace(), environment=environment)
    return registry


def _find(registry: Registry, wanted: Wanted) -> ModelVersion:
    if wanted.version is not None:
        return registry.get(wanted.name, wanted.version)
    for version in registry.list():
        if version.name == wanted.name:
            return version
    return registry.get(wanted.name, "1")  # there is none: let the registry say what there is


def _print_version(version: ModelVersion, history: Sequence[AliasMove]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(show_header=False, box=None)
    rows = {
        "model": f"{version.name}:{version.version}",
        "aliases": ", ".join(version.aliases) or "none",
        "registered by": version.registered_by,
        "digest": version.digest[:DIGEST_SHOWN],
        **{name: str(value) for name, value in asdict(version.model).items() if value is not None},
        **{f"label {name}": value for name, value in sorted(version.labels.items())},
    }
    for row in rows.items():
        table.add_row(*map(escape, row))
    for move in history:
        if version.version in (move.before, move.version):
            before = "nothing" if move.before is None else str(move.before)
            text = f"{move.alias} from {before} to {move.version}: {move.reason}"
            table.add_row(move.at, escape(text))
    Console().print(table)


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=1, ensure_ascii=False))
