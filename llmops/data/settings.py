"""What the config says of data, as dataclasses, and the checks that need no rows.

Ranges of single keys are the schema's; what two keys must agree on is checked here.

Knows no file, no row and no heavy library: it is imported at start-up.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields

from llmops.data.columns import ANSWER, QUESTION
from llmops.data.moments import microseconds
from llmops.errors import ConfigError, unknown_name

SPLIT_METHODS = ("group", "random", "hash", "time", "stratified")
HASH_JOINS = ("question", "answer", "id", "author")  # what a row's hash can go by, one at most
STRATA = ("tags", "author", "licence")
JOINS = ("question", "answer", "near_duplicate", "id", "author")
FORMATS = ("text_bison", "gemini", "chat")


@dataclass(frozen=True)
class Columns:
    """Which column of the query holds what; null where the query has none."""

    question: str
    answer: str
    id: str | None = None
    author: str | None = None
    licence: str | None = None
    url: str | None = None
    tags: str | None = None
    created_at: str | None = None

    def by_row_column(self) -> Mapping[str, str]:
        """Return row column -> query column for what is mapped, in the order of ``columns.ROW``."""
        names = {"question": QUESTION, "answer": ANSWER}
        mapped = {f.name: getattr(self, f.name) for f in fields(self)}
        return {names.get(name, name): column for name, column in mapped.items() if column}


@dataclass(frozen=True)
class Rules:
    """Rules for rows; lengths in characters (Unicode code points) and in tokens.

    ``required`` and ``unique`` name roles of ``dataset.columns``; ``scripts`` are Unicode scripts,
    of which at least ``min_script_fraction`` of the letters are; ``created_from`` (inclusive) and
    ``created_before`` are moments in ISO 8601; ``erased`` are keys of rows that must not come back.
    """

    min_question_characters: int
    max_question_characters: int
    min_answer_characters: int
    max_answer_characters: int
    max_bad_fraction: float
    min_rows: int
    required: tuple[str, ...] = ()
    unique: tuple[str, ...] = ()
    question_pattern: str | None = None
    answer_pattern: str | None = None
    scripts: tuple[str, ...] = ()
    min_script_fraction: float = 0.5
    min_question_tokens: int | None = None
    max_question_tokens: int | None = None
    min_answer_tokens: int | None = None
    max_answer_tokens: int | None = None
    created_from: str | None = None
    created_before: str | None = None
    erased: tuple[str, ...] = ()


@dataclass(frozen=True)
class Texts:
    """What is done to questions and answers before they get their key."""

    html: str = "keep"
    role_tags: str = "keep"
    control_characters: str = "keep"


@dataclass(frozen=True)
class Personal:
    """Per kind of personal data what is done with it: ``keep``, ``count``, ``mask`` or ``drop``."""

    email: str = "keep"
    phone: str = "keep"
    ip: str = "keep"
    card: str = "keep"
    iban: str = "keep"
    keys: str = "keep"
    phone_region: str = "US"

    def actions(self) -> Mapping[str, str]:
        """Return kind -> action for the kinds that are looked for."""
        named = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "phone_region"}
        return {kind: action for kind, action in named.items() if action != "keep"}


@dataclass(frozen=True)
class Tokens:
    """How tokens are counted.

    ``tokenizer`` is the path of a ``tokenizer.json``, or null for an estimate of a token per four
    bytes of UTF-8; ``sample`` is how many rows the profile's figures are of, null for all.
    """

    tokenizer: str | None = None
    sample: int | None = 1000


@dataclass(frozen=True)
class Expectation:
    """A bound on a figure of the profile, e.g. ``texts.answer.characters.p50``."""

    figure: str
    at_least: float | None = None
    at_most: float | None = None


@dataclass(frozen=True)
class NearDuplicates:
    """When two texts are near-duplicates.

    ``threshold`` is the Jaccard similarity of their sets of word shingles, in (0, 1]; with more
    ``permutations`` fewer pairs are compared in vain.
    """

    threshold: float
    shingle_words: int
    permutations: int


@dataclass(frozen=True)
class SplitSettings:
    """How rows are divided; the fractions are of rows, add up to 1, and are met by whole groups.

    ``stratify`` is the column that ``stratified`` keeps in proportion: of tags the first one.
    """

    method: str
    train: float
    validation: float
    test: float
    seed: int
    by: tuple[str, ...]
    stratify: str | None = None

    def fractions(self) -> Mapping[str, float]:
        """Return side -> fraction, in the order of ``columns.SIDES``."""
        return {"train": self.train, "validation": self.validation, "test": self.test}


def check_columns(columns: Columns, available: Sequence[str]) -> None:
    """Check that the query gives every mapped column, and none twice.

    Raises:
        ConfigError: Naming the key, with the nearest column.
    """
    mapped = {f.name: getattr(columns, f.name) for f in fields(columns)}
    for key, column in mapped.items():
        if column and column not in available:
            raise unknown_name(
                "column", column, available, where=f"dataset.columns.{key}, in the query's result"
            )
    if columns.question == columns.answer:
        raise ConfigError(
            f"dataset.columns: question and answer both name '{columns.question}'",
            hint="set dataset.columns.answer to the column that holds the answers",
        )


def check_roles(rules: Rules, columns: Columns) -> None:
    """Check that the rules ask only for columns that the query gives.

    Raises:
        ConfigError: Naming the key.
    """
    mapped = [f.name for f in fields(columns) if getattr(columns, f.name)]
    for key in ("required", "unique"):
        for role in getattr(rules, key):
            if role not in mapped:
                raise unknown_name("mapped column", role, mapped, where=f"dataset.rules.{key}")
    for key in ("created_from", "created_before"):
        moment = getattr(rules, key)
        if moment is not None and "created_at" not in mapped:
            raise ConfigError(
                f"dataset.rules.{key} needs dataset.columns.created_at, which is null",
                hint="name the query's column that holds the time of writing",
            )
        if moment is not None and microseconds(moment) is None:
            raise ConfigError(
                f"dataset.rules.{key}: '{moment}' is no moment in time",
                hint="write it in ISO 8601, for example 2020-01-01",
            )


def check_rules(rules: Rules) -> None:
    """Check that a row can satisfy ``rules``.

    Raises:
        ConfigError: Naming the key.
    """
    for what in ("question", "answer"):
        low, high = f"min_{what}_characters", f"max_{what}_characters"
        if getattr(rules, low) > getattr(rules, high):
            raise ConfigError(
                f"dataset.rules.{low} {getattr(rules, low)} is above {high} {getattr(rules, high)}",
                hint=f"no row could pass; raise dataset.rules.{high}",
            )
        _check_pattern(f"{what}_pattern", getattr(rules, f"{what}_pattern"))
    for script in rules.scripts:
        _check_pattern("scripts", f"\\p{{{script}}}")


def _check_pattern(key: str, pattern: str | None) -> None:
    if pattern is None:
        return
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        pc.match_substring_regex(pa.array([""]), pattern)
    except pa.ArrowInvalid as exc:
        raise ConfigError(
            f"dataset.rules.{key}: {pattern!r} is no RE2 pattern: {str(exc).partition(': ')[2]}",
            hint="RE2 has no look-around and no back-references; scripts are names such as Latin",
        ) from exc


def check_split(split: SplitSettings) -> None:
    """Check method, fractions and joins.

    Raises:
        ConfigError: Naming the key and what exists.
    """
    if split.method not in SPLIT_METHODS:
        raise unknown_name("method", split.method, SPLIT_METHODS, where="split.method")
    for join in split.by:
        if join not in JOINS:
            raise unknown_name("join", join, JOINS, where="split.by")
    _check_fractions(split)
    _check_method(split)
    if not 0 <= split.seed < 2**32:
        raise ConfigError(f"split.seed {split.seed} is not in [0, 2**32)")


def _check_method(split: SplitSettings) -> None:
    """Check what only one method asks for."""
    if split.method == "hash" and (len(split.by) > 1 or set(split.by) - {*HASH_JOINS}):
        raise ConfigError(
            f"split.by [{', '.join(split.by)}]: "
            f"a row's hash goes by one of {', '.join(HASH_JOINS)}",
            hint="name one, or none for the row itself; split=group joins rows by several",
        )
    if split.method == "stratified" and split.stratify not in STRATA:
        raise unknown_name("column", str(split.stratify), STRATA, where="split.stratify")


def _check_fractions(split: SplitSettings) -> None:
    for side, fraction in split.fractions().items():
        if not 0 <= fraction <= 1 or (fraction == 0 and side != "validation"):
            raise ConfigError(
                f"split.{side} {fraction} is not a usable fraction",
                hint="split.train and split.test lie in (0, 1), split.validation in [0, 1)",
            )
    total = math.fsum(split.fractions().values())
    if abs(total - 1) > 1e-9:
        raise ConfigError(
            f"split: train {split.train} + validation {split.validation} + test {split.test} "
            f"is {total:.6g}, not 1",
            hint=f"set split.train={1 - split.validation - split.test:.6g}",
        )


def check_formats(formats: Iterable[str], *, has_system: bool) -> None:
    """Check that each format exists and can carry the prompt.

    Raises:
        ConfigError: Naming the key and what exists.
    """
    for name in formats:
        if name not in FORMATS:
            raise unknown_name("format", name, FORMATS, where="dataset.formats")
    if has_system and "text_bison" in formats:
        raise ConfigError(
            "dataset.formats: text_bison has no place for the system text of prompt.system",
            hint="leave text_bison out of dataset.formats, or move the text to prompt.instruction",
        )


def check_version(version: str) -> None:
    """Check that the version tag can be part of a file name.

    Raises:
        ConfigError: If it holds anything but letters, digits, dots, dashes and underscores.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", version):
        raise ConfigError(
            f"version: {version!r} cannot be part of a file name",
            hint="use letters, digits, dots, dashes and underscores, for example version=v1",
        )
