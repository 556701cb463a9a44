"""Finds every problem of a config that does not compose, or does not validate, at once.

Slow, so it runs on failure only. It composes as far as it can: what is known to be wrong is left
out, told of, and what follows from it alone is not told again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llmops.config import compose as composition
from llmops.config import expansion, project, provenance, rules, schemas
from llmops.config.compose import (
    COMPOSITION_ERRORS,
    CompositionFailed,
    Draft,
    Failure,
    Override,
)
from llmops.config.documents import Document
from llmops.config.problems import KeyPath, Problem, command_line, dotted
from llmops.config.schemas import Mistake
from llmops.errors import nearest

_REFERENCE = re.compile(r"\$\{\s*([A-Za-z_][\w.]*)\s*\}")
_EXPERIMENT = "experiment"
_SHOWN = 60  # characters of a wrong text


def problems(overrides: Sequence[str], *, within: str | None = None) -> list[Problem]:
    """Return all problems of an experiment, or of one group of it, in reading order."""
    return _Examination(composition.canonical(overrides), within).run()


@dataclass(frozen=True)
class _Whole:
    """A draft, and the overrides that it was composed with."""

    draft: Draft
    overrides: list[str]


@dataclass
class _Examination:
    """One pass over the overrides, the files and the composed values."""

    overrides: tuple[str, ...]
    within: str | None = None
    found: list[Problem] = field(default_factory=list)
    wrong: list[KeyPath] = field(default_factory=list)  # key paths that are already told of
    table: provenance.Table = field(default_factory=provenance.Table)

    def run(self) -> list[Problem]:
        choices, values = self._sorted_overrides()
        whole = self._whole([choice.text for choice in self._known_choices(choices)], values)
        if whole is not None and self._files_are_usable(whole.draft.documents.values()):
            self._judge(whole.draft, whole.overrides)
        return self.found

    def _whole(self, chosen: list[str], values: list[Override]) -> _Whole | None:
        """Compose with as many of the overrides as can be used, and tell of the others."""
        whole = _together([*chosen, *(value.text for value in values)])
        if whole is not None:
            return whole
        base = self._composed(chosen)
        if base is None:
            return None
        fitting = [value.text for value in values if self._fits(value, base.draft)]
        return _together([*base.overrides, *fitting]) or _together(
            [*base.overrides, *(text for text in fitting if self._applies(base.overrides, text))]
        )

    # ------------------------------------------------------------- overrides

    def _sorted_overrides(self) -> tuple[list[Override], list[Override]]:
        """Return the choices of groups and the values of keys, without those that are refused."""
        choices: list[Override] = []
        values: list[Override] = []
        groups = project.groups()
        for text in self.overrides:
            override = self._parsed(text)
            if override is not None:
                is_choice = override.key.split("@")[0] in groups or "/" in override.key
                (choices if is_choice else values).append(override)
        return self._one_experiment(choices), values

    def _parsed(self, text: str) -> Override | None:
        place = command_line(text)
        refused = composition.refused_override(text)
        if refused:
            key = text.split("=", 1)[0].lstrip("+~")
            self._tell(Problem(place, key, refused.expected, refused.got, refused.hint))
            return None
        try:
            override = composition.parse_override(text)
        except COMPOSITION_ERRORS as exc:
            hint = "quote a text with special characters: 'key=\"a, b\"'"
            self._tell(Problem(place, "", "an override KEY=VALUE", _first_line(exc), hint))
            return None
        if override.sweep:
            hint = "add -m to run one after the other; key=[a,b] is a list, 'key=\"a,b\"' a text"
            self._tell(Problem(place, override.key, "one value", "several values", hint))
            return None
        return override

    def _one_experiment(self, choices: list[Override]) -> list[Override]:
        named = [choice for choice in choices if choice.key == _EXPERIMENT]
        if len(named) < 2:
            return choices
        texts = " and ".join(f"'{choice.text}'" for choice in named)
        self._tell(
            Problem("command line", _EXPERIMENT, "one experiment", texts, "leave one of them out")
        )
        return [choice for choice in choices if choice not in named[1:]]

    def _known_choices(self, choices: list[Override]) -> list[Override]:
        return [choice for choice in choices if self._is_known_choice(choice)]

    def _is_known_choice(self, choice: Override) -> bool:
        group = choice.key.split("@")[0]
        if choice.deletes or "/" in group:
            return True
        known = project.names(group)
        if choice.value is None:
            hint = f"to leave the group out: '~{group}'"
            place = command_line(choice.text)
            self._tell(Problem(place, group, f"one of {', '.join(known)}", "null", hint))
            self.wrong.append((group,))
            return False
        if str(choice.value) in known:
            return True
        self._unknown_choice(command_line(choice.text), group, str(choice.value))
        return False

    def _unknown_choice(self, place: str, group: str, value: str) -> None:
        known = project.names(group)
        hint = nearest(value, known)
        self._tell(Problem(place, group, f"one of {', '.join(known)}", f"'{value}'", hint))
        self.wrong.append(() if group == _EXPERIMENT else (group,))

    def _fits(self, override: Override, base: Draft) -> bool:
        """Say whether an override names a key that it may set; tell of it if not."""
        path = tuple(override.key.split("."))
        if path[0] == "hydra" or self._is_wrong(path):
            return not self._is_wrong(path)
        exists = path in _key_paths(base)
        if override.adds:
            return self._may_add(override, path, exists)
        if exists:
            return True
        self._unknown_key(override, path, base)
        return False

    def _may_add(self, override: Override, path: KeyPath, exists: bool) -> bool:
        plain = override.text.lstrip("+")
        clash = exists and not override.text.startswith("++")
        if clash and not isinstance(override.value, dict | list):
            place = command_line(override.text)
            self._tell(
                Problem(place, dotted(path), "a new key after +", "one that exists", f"'{plain}'")
            )
            return False
        return True

    def _unknown_key(self, override: Override, path: KeyPath, base: Draft) -> None:
        paths = _key_paths(base)
        depth = next(n for n in range(len(path) - 1, -1, -1) if n == 0 or path[:n] in paths)
        above, key = path[:depth], path[depth]
        allowed = schemas.known_keys(above, base.config)
        siblings = {other[depth] for other in paths if other[:depth] == above and other[depth:]}
        known = sorted({*siblings, *allowed})
        mistake = schemas.unknown_key((*above, key), tuple(known))
        hint = mistake.hint
        if key in allowed or (schemas.takes_any_key(above) and not hint):
            hint = f"it is not set here: add it with '+{override.text}'"
        self._tell(
            Problem(command_line(override.text), dotted(path), mistake.expected, mistake.got, hint)
        )

    def _applies(self, choices: list[str], text: str) -> bool:
        """Say whether Hydra can apply an override by itself; tell of it if not."""
        try:
            composition.draft([*choices, text])
        except CompositionFailed as failed:
            replaced = f"to replace what stands there: '++{text.lstrip('+')}'"
            hint = "" if text.startswith("~") else replaced
            key = text.split("=", 1)[0].lstrip("+~")
            got = failed.problem.splitlines()[0]
            self._tell(Problem(command_line(text), key, "a value that fits there", got, hint))
            return False
        return True

    # ----------------------------------------------------------------- files

    def _composed(self, texts: list[str]) -> _Whole | None:
        """Compose; where a file chooses what does not exist, tell of it and choose another."""
        for _ in range(1 + len(project.groups())):
            try:
                return _Whole(composition.draft(texts), texts)
            except CompositionFailed as exc:
                repair = self._repair(exc, texts)
                if repair is None:
                    return None
                texts = [*texts, repair]
        return None

    def _repair(self, failed: CompositionFailed, texts: list[str]) -> str | None:
        """Tell of a failed composition; return an override that gets around it, if one can."""
        if not self._files_are_usable(failed.documents):
            return None
        place = _chosen_by(failed.documents, failed.group, failed.choice)
        if place:
            self._unknown_choice(place, failed.group, failed.choice)
            return _another_choice(failed.group)
        asked = [text for text in texts if text.split("=")[0].lstrip("+") == failed.group]
        where = command_line(asked[0]) if asked else "config"
        got = " ".join(line.strip() for line in failed.problem.splitlines()[:3] if line.strip())
        self._tell(Problem(where, failed.group if asked else "", "files that compose", got))
        return None

    def _files_are_usable(self, documents: Iterable[Document]) -> bool:
        """Tell of what is wrong with the files read; say whether all could be used at all."""
        usable = True
        for document in documents:
            usable = usable and document.usable
            for problem in document.problems:
                self._tell(problem)
                if problem.key:
                    self.wrong += _wrong_paths(document, problem)
        return usable

    # ---------------------------------------------------------------- values

    def _judge(self, draft: Draft, overrides: list[str]) -> None:
        self.table = provenance.build(draft, overrides)
        failed = [failure.path for failure in draft.failures]
        if ("name",) in failed and not self._has_experiment() and self.within is None:
            self._no_experiment()
            return
        for failure in draft.failures:
            if not self._follows(failure, failed):
                self._tell(self._of_failure(failure, draft))
        self.wrong += failed
        newer = rules.newer_version(draft.config)
        if newer and self.within is None:  # whatever else is unknown here follows from that
            self._tell_all(newer)
        elif self.within is None:
            self._tell_all(schemas.mistakes(draft.config))
            self._tell_all(rules.mistakes(draft.config, self.wrong))
        elif self.within in draft.config:
            self._tell_all(self._of_group(draft.config[self.within], self.within))

    def _no_experiment(self) -> None:
        known = project.names(_EXPERIMENT)
        hint = f"one of {', '.join(known)}; your own is a file conf/experiment/NAME.yaml"
        self._tell(Problem("command line", _EXPERIMENT, "+experiment=NAME", "no experiment", hint))

    def _of_group(self, config: Mapping[str, Any], name: str) -> Iterator[Mistake]:
        for mistake in schemas.mistakes(config, name=name):
            path = (name, *mistake.path)
            yield Mistake(path, mistake.expected, mistake.got, mistake.hint, mistake.of_key)

    def _follows(self, failure: Failure, failed: list[KeyPath]) -> bool:
        """Say whether a leaf has no value only because another one, that is told of, has none."""
        if self.within is not None and failure.path[0] != self.within:
            return True
        causes = [path for path in (*failed, *self.wrong) if path != failure.path]
        return self._is_wrong(failure.path) or _refers_to(failure.raw, causes)

    def _of_failure(self, failure: Failure, draft: Draft) -> Problem:
        key, place = dotted(failure.path), self.table.place(failure.path)
        if failure.kind == "missing":
            expected = "a value: this key is mandatory"
            hint = f"set it in an experiment file, or pass {key}=..."
            return Problem(place, key, expected, "??? (missing)", hint)
        raw = failure.raw if len(failure.raw) <= _SHOWN else f"{failure.raw[:_SHOWN]}..."
        if failure.kind == "large":
            return Problem(place, key, expansion.LIMITS, f"{raw}, which stands for more")
        hint = failure.hint or self._nearest_reference(failure, draft)
        why = failure.why if len(failure.why) <= _SHOWN * 4 else f"{failure.why[: _SHOWN * 4]}..."
        return Problem(place, key, "an interpolation that resolves", f"{raw}: {why}", hint)

    def _has_experiment(self) -> bool:
        return any(text.startswith(f"+{_EXPERIMENT}=") for text in self.overrides)

    def _nearest_reference(self, failure: Failure, draft: Draft) -> str:
        known = [dotted(path) for path in provenance.leaves(draft.config)]
        guesses = [nearest(name, known) for name in _REFERENCE.findall(failure.raw)]
        return next((guess for guess in guesses if guess), "")

    def _tell_all(self, mistakes: Iterable[Mistake]) -> None:
        """Tell of mistakes, but not of one that only repeats another by reference."""
        new = [mistake for mistake in mistakes if not self._is_wrong(mistake.path)]
        wrong = [*self.wrong, *(mistake.path for mistake in new)]
        for mistake in new:
            written = self.table.origin(mistake.path).written or ""
            others = [path for path in wrong if path != mistake.path]
            if not _refers_to(written, others):
                place = self.table.place(mistake.path, of_key=mistake.of_key)
                key = dotted(mistake.path)
                self._tell(Problem(place, key, mistake.expected, mistake.got, mistake.hint))
        self.wrong = wrong

    def _is_wrong(self, path: KeyPath) -> bool:
        return any(path[: len(known)] == known for known in self.wrong)

    def _tell(self, problem: Problem) -> None:
        if problem not in self.found:
            self.found.append(problem)


def _together(texts: list[str]) -> _Whole | None:
    try:
        return _Whole(composition.draft(texts), texts)
    except CompositionFailed:
        return None


def _refers_to(written: str, paths: Iterable[KeyPath]) -> bool:
    """Say whether a text refers to one of the paths, to something in one, or around one."""
    named = [tuple(name.split(".")) for name in _REFERENCE.findall(written)]
    return any(
        name[: len(path)] == path or path[: len(name)] == name for name in named for path in paths
    )


def _key_paths(draft: Draft) -> set[KeyPath]:
    """Return every key path of a draft, also of keys that have no value yet."""
    paths = {failure.path for failure in draft.failures}
    paths |= set(_walked(draft.config, ()))
    return paths | {path[:length] for path in paths for length in range(1, len(path))}


def _walked(value: Any, path: KeyPath) -> Iterator[KeyPath]:
    if isinstance(value, Mapping):
        items: Any = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    else:
        return
    for key, item in items:
        yield (*path, str(key))
        yield from _walked(item, (*path, str(key)))


def _wrong_paths(document: Document, problem: Problem) -> list[KeyPath]:
    """Return the key path of a file's problem as the composed config has it."""
    path = tuple(problem.key.split("."))
    if document.package == "_global_" or document.path.name == "config.yaml":
        return [path]
    return [(document.path.parent.name, *path)]


def _chosen_by(documents: Sequence[Document], group: str, name: str) -> str | None:
    """Return the place in a defaults list that chooses ``name`` of ``group``."""
    for document in documents:
        for number, entry in enumerate(document.value.get("defaults") or []):
            for key, value in entry.items() if isinstance(entry, Mapping) else ():
                if key.split()[-1].lstrip("/") == group and value == name:
                    return document.place(("defaults", str(number), key))
    return None


def _another_choice(group: str) -> str | None:
    known = project.names(group)
    return f"{group}={known[0]}" if known else None


def _first_line(exc: BaseException) -> str:
    return (str(exc).splitlines() or [type(exc).__name__])[0]
