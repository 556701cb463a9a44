"""What could stand at the end of a command line. ``llmops _complete LINE`` prints it.

A shell asks at every press of Tab, so this reads file names, JSON Schemas and, of YAML, single
lines: it imports neither Hydra nor a YAML parser. It offers; whether a line is right says
``validate``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from llmops.config import project, schemas

# Options and what follows a verb, as the verbs' own --help tells; a test compares the two.
_SELECTION = ("--limit", "--from", "--only", "--force")
OPTIONS: Mapping[str, tuple[str, ...]] = {
    "run": (
        "--detach",
        *_SELECTION,
        "--json",
        "--multirun",
        "--budget",
        "--score-on",
        "--metric",
        "--contestant",
        "--fail-fast",
    ),
    "plan": (*_SELECTION, "--json", "--multirun", "--against", "--budget"),
    "validate": ("--multirun", "--json"),
    "explain": ("--json",),
    "compile": ("--output",),
    "runs": (
        "--json",
        "--status",
        "--since",
        "--until",
        "--commit",
        "--tag",
        "--figure",
        "--html",
        "--limit",
        "--mlflow",
        "--tensorboard",
        "--remove",
        "--keep",
        "--older-than",
        "--grace-hours",
        "--dry-run",
    ),
    "sweeps": ("--json",),
    "gate": ("--gate", "--json"),
    "lineage": ("--depth", "--json"),
    "site": ("--json", "--out"),
    "prompts": ("--answer", "--json", "--model", "--question", "--row", "--rows"),
    "warehouse": ("--dataset", "--json", "--limit", "--replace", "--site"),
    "models": (
        "--alias",
        "--encoder",
        "--force",
        "--json",
        "--out",
        "--reason",
        "--to",
        "--verify",
    ),
    "store": (
        "--json",
        "--repair",
    ),
    "logs": (
        "--comment",
        "--correction",
        "--down",
        "--json",
        "--limit",
        "--out",
        "--up",
    ),
    "safety": (
        "--json",
        "--model",
        "--prompts-only",
        "--suite",
    ),
    "predict": (
        "--column",
        "--file",
        "--json",
        "--model",
        "--out",
        "--query",
        "--question",
        "--raw",
        "--replace",
        "--stream",
    ),
    "chat": (
        "--json",
        "--list",
        "--model",
        "--session",
    ),
    "serve": (
        "--json",
        "--model",
        "--name",
    ),
    "monitor": (
        "--cron",
        "--json",
        "--vertex",
    ),
    "init": ("--force", "--json"),
    "doctor": ("--json",),
    "schema": ("--out", "--add-lines", "--check", "--json"),
    "diff": ("--format", "--fail-on"),
    "reproduce": ("--all", "--json"),
    "review": (
        "--base",
        "--head",
        "--fail-on",
        "--repository",
        "--pull-request",
        "--dry-run",
        "--json",
    ),
}
FOLLOWING: Mapping[str, tuple[str, ...]] = {
    "runs": ("list", "show", "compare", "export", "attach", "query", "tag", "gc"),
    "sweeps": ("list", "show", "resume"),
    "models": (
        *("list", "show", "card", "promote", "rollback", "delete", "export", "pull"),
        *("tuned", "import"),
    ),
    "gate": ("check",),
    "store": ("verify",),
    "logs": ("query", "feedback", "reviewed", "expire"),
    "safety": ("test",),
    "prompts": ("list", "show", "render", "diff", "test"),
    "warehouse": ("tables", "preview", "query", "load"),
    "completion": ("bash", "fish", "zsh"),
}
TAKE_OVERRIDES = ("run", "plan", "validate", "explain", "compile")
TAKE_STEP = ("--from", "--only", "--force")
TAKE_RUN = ("accept", "reproduce")
_CHOSEN_PIPELINE = re.compile(r"^\s*-\s*(?:override\s+/)?pipeline:\s*(\w+)", re.MULTILINE)
_STEP = re.compile(r"^  ([a-z]\w*):", re.MULTILINE)
_VALUES = {"true": True, "false": False}


def main(argv: Sequence[str]) -> int:
    """Print the candidates for the last word of a line, one a line."""
    words = argv[0].split(" ") if argv else [""]
    print("\n".join(sorted(set(candidates([w for w in words[1:-1] if w], words[-1])))))
    return 0


def candidates(before: Sequence[str], current: str) -> Iterator[str]:
    """Yield what ``current`` could become after the words ``before``, the program's name aside."""
    return (found for found in _offered(before, current) if found.startswith(current))


def _offered(before: Sequence[str], current: str) -> Iterable[str]:
    from llmops.cli import VERBS

    if not before:
        return (*VERBS, "--help", "--version")
    verb = before[0]
    if current.startswith("-"):
        return (*OPTIONS.get(verb, ()), "--help")
    if before[-1] in TAKE_STEP and verb in TAKE_OVERRIDES:
        return _steps(before)
    if verb in FOLLOWING and len(before) == 1:
        return FOLLOWING[verb]
    if verb in TAKE_RUN or before[:2] in (["runs", "show"], ["runs", "attach"]):
        return _runs()
    if verb in TAKE_OVERRIDES:
        is_key = verb == "explain" and len(before) == 1
        return _keys(current, before, ends=("",)) if is_key else _overrides(before, current)
    return ()


# -------------------------------------------------------------------- overrides


def _overrides(before: Sequence[str], current: str) -> Iterator[str]:
    sign = current[: len(current) - len(current.lstrip("+~"))]
    key, equals, value = current[len(sign) :].partition("=")
    if equals:
        others, comma, _ = value.rpartition(",")  # of a sweep
        yield from (f"{sign}{key}={others}{comma}{choice}" for choice in _values(key))
        return
    if sign == "~":
        yield from (f"~{group}" for group in project.groups())
        return
    if not any(word.lstrip("+").startswith("experiment=") for word in before):
        yield "+experiment="
    if "." not in key:
        yield from (f"{sign}{group}=" for group in project.groups() if group != "experiment")
    yield from (f"{sign}{found}" for found in _keys(key, before, ends=("=",)))


def _values(key: str) -> Iterable[str]:
    """Return the choices of a group, or the values that a key's schema lists."""
    if key in project.groups():
        return project.names(key)
    found: set[str] = set()
    for rules in _rules(tuple(key.split("."))):
        items = rules.get("items", rules)
        found |= {str(value) for value in items.get("enum", ())}
        found |= set(_VALUES) if items.get("type") == "boolean" else set()
        found |= {"null"} if "null" in items.get("type", ()) else set()
    return found


def _keys(current: str, before: Sequence[str], ends: tuple[str, ...]) -> Iterator[str]:
    """Yield the keys one level below what stands before the last dot."""
    above = tuple(current.split(".")[:-1])
    prefix = "".join(f"{part}." for part in above)
    if above == ("pipeline", "steps"):
        yield from (f"{prefix}{step}." for step in _steps(before))
    for key in _below(above):
        if list(_below((*above, key))) or (*above, key) == ("pipeline", "steps"):
            yield f"{prefix}{key}."
        else:
            yield from (f"{prefix}{key}{end}" for end in ends)


def _below(path: tuple[str, ...]) -> Iterator[str]:
    for rules in _rules(path):
        yield from rules.get("properties", {})


def _rules(path: tuple[str, ...]) -> list[Mapping[str, Any]]:
    """Return the schema's rules for a key: of every kind, for the config is not read here."""
    found = _branches(schemas.schema("root"), "root")
    for part in path:
        below = []
        for rules, name in found:
            child = rules.get("properties", {}).get(part) or rules.get("additionalProperties")
            below += _branches(child, name) if isinstance(child, Mapping) else []
        found = below
    return [rules for rules, _ in found]


def _branches(rules: Mapping[str, Any], name: str) -> list[tuple[Mapping[str, Any], str]]:
    while "$ref" in rules:
        target = rules["$ref"]
        if target.startswith("#/$defs/"):
            rules = schemas.schema(name)["$defs"][target.removeprefix("#/$defs/")]
        else:
            name = target.removeprefix("llmops:")
            rules = schemas.schema(name)
    found = [(rules, name)]
    for branch in rules.get("allOf", ()):
        found += _branches(branch["then"], name)
    return found


# -------------------------------------------------------------- steps and runs


def _steps(before: Sequence[str]) -> list[str]:
    """Return the step names of the pipeline that the command line chooses."""
    path = project.find_file(f"pipeline/{_pipeline(before)}.yaml")
    return _STEP.findall(path.read_text("utf-8").partition("steps:\n")[2]) if path else []


def _pipeline(before: Sequence[str]) -> str:
    given = dict(word.lstrip("+").split("=", 1) for word in before if "=" in word)
    if "pipeline" in given:
        return given["pipeline"]
    for file in (f"experiment/{given.get('experiment')}.yaml", "config.yaml"):
        path: Path | None = project.find_file(file)
        found = _CHOSEN_PIPELINE.search(path.read_text("utf-8")) if path else None
        if found:
            return found[1]
    return ""


def _runs() -> list[str]:
    return [file.parent.name for file in (project.workspace() / "runs").glob("*/*/run.json")]
