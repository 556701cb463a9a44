"""Finds what differs between two sources, composing only the experiments that can differ."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from llmops.config import schemas
from llmops.errors import ConfigError, ConfigProblems
from llmops.plan import diff
from llmops.plan.cost import Knowledge
from llmops.plan.diff import Diff, ExperimentDiff, Version
from llmops.plan.loosening import Loosening, cheaper
from llmops.review import sources, trees
from llmops.review.sources import Source
from llmops.review.trees import Tree
from llmops.steps import step_kinds

TABLES = "knowledge/"
PRICES = "knowledge/prices.yaml"


def differences(base: str, head: str | None, workspace: Path, knowledge: Knowledge) -> Diff:
    """Compare two sources; ``head`` None is the working tree.

    Raises:
        ConfigError: If a source names nothing, or one experiment has no counterpart.
    """
    with ExitStack() as stack:
        old = sources.find(base, workspace, stack)
        new = sources.working_tree() if head is None else sources.find(head, workspace, stack)
        if _single(old) or _single(new):
            return _one(old, new, knowledge)
        assert old.tree is not None
        assert new.tree is not None
        return _all(old.tree, new.tree, knowledge)


def _single(source: Source) -> bool:
    return source.version is not None or source.only is not None


def _one(old: Source, new: Source, knowledge: Knowledge) -> Diff:
    name = _name(new) or _name(old)
    assert name is not None
    before = _version(old, name, strict=False)
    after = _version(new, name, strict=True)
    found = _compared(before, after, knowledge)
    return Diff(old.label, new.label, (found,) if found else (), 0 if found else 1)


def _name(source: Source) -> str | None:
    return source.version.name if source.version else source.only


def _version(source: Source, name: str, *, strict: bool) -> Version:
    if source.version is not None:
        return source.version
    assert source.tree is not None
    file = source.only or sources.experiment_called(source.tree, name)
    if file is None:
        known = ", ".join(source.tree.experiments)
        raise ConfigError(f"{source.label} has no experiment '{name}'", hint=f"it has: {known}")
    return sources.of_experiment(source.tree, file, strict=strict)


def _all(old: Tree, new: Tree, knowledge: Knowledge) -> Diff:
    found: list[ExperimentDiff] = []
    before, after = set(old.experiments), set(new.experiments)
    for name in sorted(before | after):
        if name not in after:
            found.append(ExperimentDiff(name, "removed"))
        elif name not in before:
            found.append(_added(new, name, knowledge))
    for name in trees.affected(old, new):
        if one := _changed(old, new, name, knowledge):
            found.append(one)
    same = len(before | after) - len(found)
    return Diff(
        base=old.label,
        head=new.label,
        experiments=tuple(sorted(found, key=lambda one: one.name)),
        unchanged=same,
        tables=tuple(sorted(n for n in trees.changed_files(old, new) if n.startswith(TABLES))),
        cheaper=_cheaper(old, new),
    )


def _cheaper(old: Tree, new: Tree) -> tuple[Loosening, ...]:
    """Compare the price tables, where both sides have one that fits its schema."""
    tables = []
    for tree in (old, new):
        if PRICES not in tree.files:
            return ()
        table = tree.read(PRICES)
        if table.problems or schemas.mistakes(table.value, name="knowledge/prices"):
            return ()
        tables.append(table.value)
    return tuple(cheaper(*tables))


def _added(tree: Tree, name: str, knowledge: Knowledge) -> ExperimentDiff:
    try:
        version = sources.of_experiment(tree, name, strict=True)
    except ConfigError as exc:
        return _invalid(name, exc)
    return diff.added(version, step_kinds(_steps_of(version)), knowledge)


def _changed(old: Tree, new: Tree, name: str, knowledge: Knowledge) -> ExperimentDiff | None:
    try:
        after = sources.of_experiment(new, name, strict=True)
    except ConfigError as exc:
        return _invalid(name, exc)
    try:
        before = sources.of_experiment(old, name, strict=False)
    except ConfigError as exc:
        note = f"it did not compose before, so there is nothing to compare with: {exc.problem}"
        return replace(diff.added(after, step_kinds(_steps_of(after)), knowledge), notes=(note,))
    return _compared(before, after, knowledge)


def _compared(before: Version, after: Version, knowledge: Knowledge) -> ExperimentDiff | None:
    kinds = step_kinds(tuple(dict.fromkeys((*_steps_of(before), *_steps_of(after)))))
    return diff.compare(before, after, kinds, knowledge)


def _steps_of(version: Version) -> tuple[str, ...]:
    """Return the entry points that bring the version's own step kinds."""
    return tuple(version.config["project"]["steps"]) if version.config else ()


def _invalid(name: str, exc: ConfigError) -> ExperimentDiff:
    problems = exc.problems if isinstance(exc, ConfigProblems) else (exc.problem,)
    return ExperimentDiff(name, "invalid", problems=tuple(problems))
