"""Preparing a dataset as SQL of BigQuery's dialect, so that no row has to leave the warehouse.

Validation, exact duplicates, the prompt and the split by hash become one SELECT whose rows, keys
and sides are those of the steps on this machine. What has no SQL with the same result is refused
by the name of its key. Pure: builds text, knows no warehouse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields

from llmops.data.cleaning import Asked
from llmops.data.settings import Personal, Rules, SplitSettings, Texts, check_columns
from llmops.data.splits import hash_bounds
from llmops.data.texts import ROLE_TAG_ESCAPES, Around
from llmops.errors import ConfigError

# What Arrow trims as white space: Unicode's, and the four separators of ASCII.
SPACES = (
    " \t\n\x0b\x0c\r\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007"
    "\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
)
_KNOWN_RULES = (
    "min_question_characters",
    "max_question_characters",
    "min_answer_characters",
    "max_answer_characters",
    "question_pattern",
    "answer_pattern",
    "erased",
    "max_bad_fraction",
    "min_rows",
    "min_script_fraction",  # asks nothing without `scripts`
)


@dataclass(frozen=True)
class Pushed:
    """The SELECTs of one dataset.

    ``prepared`` has every row with its key, the first rule it breaks (or ``duplicate``), and its
    side.
    """

    prepared: str
    system: str | None

    @property
    def counts(self) -> str:
        """Return the SELECT of rows by what became of them, and the bytes that a model sees."""
        return self._over(
            "SELECT rule, side, COUNT(*) AS row_count, MAX(seen_bytes) AS longest, "
            "SUM(seen_bytes) AS total_bytes FROM (SELECT rule, side, "
            "BYTE_LENGTH(rendered) + BYTE_LENGTH(answer) AS seen_bytes FROM prepared) "
            "GROUP BY rule, side"
        )

    @property
    def leaked(self) -> str:
        """Return the SELECT of test rows that stand in train too."""
        train = "FROM prepared WHERE side = 'train'"
        return self._over(
            "SELECT COUNT(*) AS row_count FROM prepared WHERE side = 'test' AND "
            f"(question_key IN (SELECT question_key {train}) "
            f"OR answer_key IN (SELECT answer_key {train}))"
        )

    @property
    def digests(self) -> str:
        """Return the SELECT of digests, one for each side and first three digits of the key."""
        return self._over(
            "SELECT side, SUBSTR(row_key, 1, 3) AS part, "
            "TO_HEX(SHA256(STRING_AGG(seen, '' ORDER BY row_key))) AS digest "
            "FROM prepared WHERE side IS NOT NULL GROUP BY side, part"
        )

    def lines(self, side: str, format: str) -> str:
        """Return the SELECT whose rows, as JSON, are the lines of a side's file."""
        return self._over(
            f"SELECT {_LINES[format](self.system)} FROM prepared WHERE side = '{side}'"
        )

    def _over(self, select: str) -> str:
        return f"WITH prepared AS (\n{self.prepared}\n)\n{select}"


def push_down(
    query: str,
    columns: Sequence[str],
    asked: Asked,
    split: SplitSettings,
    prompt: Around,
    system: str | None,
) -> Pushed:
    """Return the SQL that prepares the rows of ``query``, which returns ``columns``.

    Raises:
        ConfigError: If something is asked that SQL cannot do with the same result.
    """
    check_columns(asked.columns, columns)
    check_possible(asked, split)
    question, answer = (
        f"source.`{name}`" for name in (asked.columns.question, asked.columns.answer)
    )
    before, after = _text(prompt.before), _text(prompt.after)
    by = {(): "row_key", ("question",): "question_key", ("answer",): "answer_key"}[split.by]
    asked_for, answered = _prefixed("plain_question"), _prefixed("plain_answer")
    draw = f"SUBSTR(TO_HEX(SHA256(CONCAT('{split.seed}:', {by}))), 1, 12)"
    bounds = {side: f"{bound:012x}" for side, bound in hash_bounds(split).items()}
    seen = ", ".join(
        (_prefixed("rendered"), _prefixed("answer"), _text(_constant_prefixed(system)))
    )
    prepared = f"""
SELECT row_key, question_key, answer_key, rule, answer, rendered,
  CASE WHEN rule IS NULL THEN TO_HEX(SHA256(CONCAT({seen}))) END AS seen,
  CASE
    WHEN rule IS NOT NULL THEN NULL
    WHEN {draw} < '{bounds["test"]}' THEN 'test'
    WHEN {draw} < '{bounds["validation"]}' THEN 'validation'
    ELSE 'train' END AS side
FROM (
  SELECT row_key, question_key, answer_key, answer,
    CONCAT({before}, {_shown("question")}, {after}) AS rendered,
    CASE
      WHEN rule IS NULL AND ROW_NUMBER() OVER (
        PARTITION BY rule, row_key ORDER BY question, answer) > 1 THEN 'duplicate'
      ELSE rule END AS rule
  FROM (
    SELECT question, answer, row_key, question_key, answer_key,
      CASE
{_rules(asked.rules)}
      END AS rule
    FROM (
      SELECT question, answer,
        TO_HEX(SHA256(CONCAT({asked_for}, {answered}))) AS row_key,
        TO_HEX(SHA256(CONCAT({asked_for}))) AS question_key,
        TO_HEX(SHA256(CONCAT({answered}))) AS answer_key
      FROM (
        SELECT question, answer,
          {_plain("question")} AS plain_question,
          {_plain("answer")} AS plain_answer
        FROM (SELECT {question} AS question, {answer} AS answer FROM (
{query.strip().rstrip(";")}
        ) AS source)
      )
    )
  )
)"""
    return Pushed(prepared.strip(), system)


def check_possible(asked: Asked, split: SplitSettings) -> None:
    """Check that everything that is asked has SQL with the same result.

    Raises:
        ConfigError: Naming all the keys that stand against it.
    """
    against = [*_not_in_sql(asked, split)]
    if against:
        raise ConfigError(
            f"dataset.runs_in is warehouse, where there is no {', '.join(against)}",
            hint="set them as told, or prepare on this machine: dataset.runs_in=here",
        )


def _not_in_sql(asked: Asked, split: SplitSettings) -> Iterator[str]:
    for field in fields(Texts):
        if getattr(asked.texts, field.name) != "keep":
            yield f"dataset.texts.{field.name} but keep"
    for kind, action in Personal.actions(asked.personal).items():
        yield f"dataset.personal.{kind} {action} (only keep)"
    untouched = Rules(0, 0, 0, 0, 1.0, 0)
    for field in fields(Rules):
        same = getattr(asked.rules, field.name) == getattr(untouched, field.name)
        if field.name not in _KNOWN_RULES and not same:
            yield f"dataset.rules.{field.name}"
    if asked.expectations:
        yield "dataset.expectations"
    if split.method != "hash":
        yield f"split.method {split.method} (only hash)"
    if split.by not in ((), ("question",), ("answer",)):
        yield f"split.by [{', '.join(split.by)}] (only question, answer or none)"


def _rules(rules: Rules) -> str:
    """Return the cases of the first rule that a row breaks, in the order of ``rules.RULES``."""
    pair = ("question", "answer")
    blank = "LENGTH(TRIM({0}, " + _text(SPACES) + ")) = 0"
    cases = [("missing", "{0} IS NULL"), ("nul", r"REGEXP_CONTAINS({0}, r'\x00')")]
    cases += [("replacement_character", r"REGEXP_CONTAINS({0}, r'\x{{FFFD}}')"), ("empty", blank)]
    made = [(rule, test.format(text)) for rule, test in cases for text in pair]
    for text in pair:
        least, most = f"min_{text}_characters", f"max_{text}_characters"
        made.append((least, f"LENGTH({text}) < {getattr(rules, least)}"))
        made.append((most, f"LENGTH({text}) > {getattr(rules, most)}"))
    for text in pair:
        if (pattern := getattr(rules, f"{text}_pattern")) is not None:
            made.append((f"{text}_pattern", f"NOT REGEXP_CONTAINS({text}, {_text(pattern)})"))
    if rules.erased:
        made.append(("erased", f"row_key IN ({', '.join(map(_text, rules.erased))})"))
    return "\n".join(f"        WHEN {test} THEN '{rule}'" for rule, test in made)


def _plain(text: str) -> str:
    """Return what ``keys.normalise`` does to a text."""
    unix = rf"REPLACE(REPLACE({text}, '\r\n', '\n'), '\r', '\n')"
    return f"RTRIM(NORMALIZE({unix}, NFC), {_text(SPACES)})"


def _prefixed(text: str) -> str:
    return f"CAST(BYTE_LENGTH({text}) AS STRING), ':', {text}"


def _constant_prefixed(text: str | None) -> str:
    return "null:" if text is None else f"{len(text.encode())}:{text}"


def _shown(text: str) -> str:
    """Return a text as a prompt shows it: with its role tags escaped."""
    for pattern, escaped in ROLE_TAG_ESCAPES:
        text = f"REGEXP_REPLACE({text}, {_text(pattern)}, {_text(escaped)})"
    return text


def _text(value: str) -> str:
    """Return a text as a literal of BigQuery's; what is not plain ASCII is written out."""
    made = "".join(
        character
        if " " <= character <= "~" and character not in "'\\"
        else f"\\u{ord(character):04x}"
        if ord(character) < 0x10000
        else f"\\U{ord(character):08x}"
        for character in value
    )
    return f"'{made}'"


def _text_bison(system: str | None) -> str:
    return "rendered AS input_text, answer AS output_text"


def _gemini(system: str | None) -> str:
    said = (
        ""
        if system is None
        else f"STRUCT([STRUCT({_text(system)} AS text)] AS parts) AS systemInstruction, "
    )
    turns = ", ".join(
        f"STRUCT('{role}' AS role, [STRUCT({text} AS text)] AS parts)"
        for role, text in (("user", "rendered"), ("model", "answer"))
    )
    return f"{said}[{turns}] AS contents"


def _chat(system: str | None) -> str:
    turns = [("user", "rendered"), ("assistant", "answer")]
    if system is not None:
        turns.insert(0, ("system", _text(system)))
    said = ", ".join(f"STRUCT('{role}' AS role, {text} AS content)" for role, text in turns)
    return f"[{said}] AS messages"


_LINES: Mapping[str, Callable[[str | None], str]] = {
    "text_bison": _text_bison,
    "gemini": _gemini,
    "chat": _chat,
}
