"""The column contract between the data steps: names, order and meaning, nothing else.

Knows no file and no library. Every column is a string unless a line says otherwise.
"""

from __future__ import annotations

ROW_KEY = "row_key"
"""sha256, in hex, of the normalised question and answer: a row's identity and its sort order."""

QUESTION = "input_text"
"""The question as the warehouse gave it."""

ANSWER = "output_text"
"""The reference answer as the warehouse gave it."""

OPTIONAL = ("id", "author", "licence", "url", "tags", "created_at")
"""Columns a row has where ``dataset.columns`` maps them; absent where it does not."""

RENDERED = "input_text_instruct"
"""The user text that the model sees: the question in the prompt's template."""

SYSTEM = "system"
"""The prompt's system text; null where it has none."""

GROUP = "group"
"""The row's group: the first 16 characters of the smallest row key among its members."""

CHECKS = "checks"
"""Python that must not fail after the answer's code; only in evaluation sets that have it."""

ROW = (ROW_KEY, QUESTION, ANSWER, *OPTIONAL)
"""Good rows, sorted by row key, each key once."""

EXAMPLE = (*ROW, RENDERED, SYSTEM)
"""Rendered rows, in the same order."""

SPLIT = (*EXAMPLE, GROUP)
"""The rows of one side of a split, in the same order."""

QUARANTINED = (ROW_KEY, "rule", "column", "excerpt", "position")
"""Refused rows by position: the first rule each broke. ``position`` is int64, from 0, in the
query's result; ``row_key`` is null where the row has no valid question and answer."""

SIDES = ("train", "validation", "test")
"""The sides of a split; a side's number is its place here."""

PROMPT_NAME = b"llmops.prompt_name"
PROMPT_SHA256 = b"llmops.prompt_sha256"
DATASET_VERSION = b"llmops.dataset_version"
"""Keys of the Parquet schema metadata that travel with examples and sides."""
