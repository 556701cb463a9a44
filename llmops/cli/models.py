"""``llmops models``: the registered models, their aliases, and fetching a base model."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from llmops.cli.verbs import call_verb, print_json
from llmops.errors import ConfigError

if TYPE_CHECKING:
    from llmops.ports.registry import AliasMove, ModelVersion, Registry

SUMMARY = "list, show, promote, roll back, delete and export models, pull a base model"
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
    return call_verb(_parser(), argv)


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
        required=True,
        metavar="list | show | card | promote | rollback | delete | export | pull | tuned | import",
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
    promoting.add_argument(
        "--force", action="store_true", help="without a passed gate; needs --reason"
    )
    promoting.add_argument("--reason", help="kept in the history")
    rolling = verbs.add_parser("rollback", help="point an alias back at what it held before")
    rolling.set_defaults(command=_rollback)
    rolling.add_argument("model", metavar="NAME@ALIAS", help="default alias: deploy.promote_to")
    deleting = verbs.add_parser("delete", help="delete a version that no alias points at")
    deleting.set_defaults(command=_delete)
    deleting.add_argument("model", metavar="NAME:VERSION")
    for verb in (rolling, deleting):
        verb.add_argument("--reason", required=True, help="kept in the history")
    exporting = verbs.add_parser("export", help="write merged weights for transformers and vLLM")
    exporting.set_defaults(command=_export)
    exporting.add_argument("--out", required=True, metavar="FOLDER")
    describing = verbs.add_parser("card", help="print the model card, Markdown or JSON")
    describing.set_defaults(command=_card)
    for verb in (exporting, describing):
        verb.add_argument("model", metavar="NAME[@ALIAS|:VERSION]", help="default: the newest")
    for verb in (listing, showing, promoting, rolling, deleting, exporting, describing):
        verb.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="e.g. deploy=files")
        verb.add_argument("--json", action="store_true", help="print JSON")
    verbs.add_parser("pull", help="fetch and convert the base model", add_help=False)
    verbs.add_parser("tuned", help="the tuned models that a provider keeps", add_help=False)
    verbs.add_parser("import", help="register a model that was tuned elsewhere", add_help=False)
    return parser


def _list(arguments: argparse.Namespace) -> int:
    versions = _registry(arguments).list()
    if arguments.json:
        print_json([asdict(version) for version in versions])
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
    registry = _registry(arguments)
    version = _find(registry, parse_model(arguments.model))
    history = registry.history(version.name)
    if arguments.json:
        moves = [asdict(move) for move in history if version.version in (move.before, move.version)]
        print_json({**asdict(version), "history": moves})
        return 0
    _print_version(version, history)
    return 0


def _promote(arguments: argparse.Namespace) -> int:
    from llmops.api.registering import promote

    deploy = _deploy(arguments)
    registry = _registry(arguments)
    alias = arguments.to or deploy["promote_to"]
    if alias is None:
        raise ConfigError("deploy.promote_to is null", hint="name an alias:  --to champion")
    chosen = _find(registry, parse_model(arguments.model))
    promoted = promote(registry, chosen, alias, reason=arguments.reason, force=arguments.force)
    return _told(promoted, f"{promoted.name}@{alias} is version {promoted.version}", arguments)


def _rollback(arguments: argparse.Namespace) -> int:
    deploy = _deploy(arguments)
    registry = _registry(arguments)
    wanted = parse_model(arguments.model)
    alias = wanted.version or deploy["promote_to"]
    if alias is None or alias.isdecimal():
        raise ConfigError("no alias is named", hint=f"for example {wanted.name}@champion")
    back = registry.rollback(wanted.name, alias, reason=arguments.reason)
    return _told(back, f"{back.name}@{alias} is version {back.version} again", arguments)


def _delete(arguments: argparse.Namespace) -> int:
    registry = _registry(arguments)
    wanted = parse_model(arguments.model)
    if wanted.version is None:
        raise ConfigError("no version is named", hint=f"for example {wanted.name}:3")
    chosen = _find(registry, wanted)
    registry.delete(chosen.name, chosen.version, reason=arguments.reason)
    said = f"{chosen.name}:{chosen.version} is deleted; `runs gc` frees what only it needed"
    return _told(chosen, said, arguments)


def _card(arguments: argparse.Namespace) -> int:
    from llmops.api.registering import card
    from llmops.lineage.model_card import markdown

    registry = _registry(arguments)
    made = card(registry, _find(registry, parse_model(arguments.model)))
    if arguments.json:
        print(json.dumps(made, indent=1, ensure_ascii=False, default=str))
    else:
        print(markdown(made), end="")
    return 0


def _export(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    from llmops.api.registering import export
    from llmops.report.words import size

    registry = _registry(arguments)
    chosen = _find(registry, parse_model(arguments.model))
    done = export(registry, chosen, _model(chosen, arguments), Path(arguments.out))
    if arguments.json:
        print_json({"folder": str(done.folder), "files": list(done.files), "bytes": done.bytes})
    else:
        print(f"{done.folder}: {', '.join(done.files)}, {size(done.bytes)}")
    return 0


def _model(version: ModelVersion, arguments: argparse.Namespace) -> Mapping[str, Any]:
    """Return the model group that a version was tuned with, from its run, or the chosen one."""
    from llmops.config.compose import group
    from llmops.config.project import workspace
    from llmops.lineage.run_folder import find_run

    try:
        found: Mapping[str, Any] = find_run(workspace(), version.registered_by).config()["model"]
    except (ConfigError, KeyError):
        return group("model", arguments.overrides)
    return found


def _told(version: ModelVersion, text: str, arguments: argparse.Namespace) -> int:
    if arguments.json:
        print_json(asdict(version))
    else:
        print(text)
    return 0


def _deploy(arguments: argparse.Namespace) -> Mapping[str, Any]:
    from llmops.config.compose import group

    return group("deploy", arguments.overrides)


def _registry(arguments: argparse.Namespace) -> Registry:
    from llmops.api.answering import open_registry

    return open_registry(arguments.overrides)


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
            table.add_row(move.at, escape(_moved(move)))
    Console().print(table)


def _moved(move: AliasMove) -> str:
    if move.event == "delete":
        return f"version {move.before} deleted: {move.reason}"
    if move.event == "drop":
        return f"{move.alias} dropped from {move.before}: {move.reason}"
    back = "back " if move.event == "rollback" else ""
    before = "nothing" if move.before is None else str(move.before)
    return f"{move.alias} {back}from {before} to {move.version}: {move.reason}"
