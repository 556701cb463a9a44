"""Read an evaluation set from files, pinned by its digest, and look for its rows in train.

Gives a test side as ``split`` does, and a card with its contamination, which a gate can judge as
leakage. Knows no benchmark by name and no model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops.data import columns
from llmops.errors import ConfigError, DataError
from llmops.files import file_sha256
from llmops.plan.kinds import Adapters, Outcome, Port, Source, StepKind, Work, leaf

if TYPE_CHECKING:
    import pyarrow as pa

    from llmops.data.evaluation_sets import Row

WINDOW_WORDS = 13  # a run of as many equal words is contamination (Brown et al. 2020, appendix C)


@dataclass(frozen=True)
class Settings:
    """Which files, in which form; ``sha256`` pins what they hold, null to take what is there."""

    files: tuple[str, ...] = leaf("with.files")
    form: str = leaf("with.form")
    sha256: str | None = leaf("with.sha256", optional=True)


def source(settings: Settings, adapters: Adapters) -> Source:
    """Return the digest of the files: a changed file is another set.

    Raises:
        ConfigError: If a file is missing, the form is unknown, or the digest is not the pinned one.
    """
    from llmops.artifacts import digest
    from llmops.data.evaluation_sets import READERS

    del adapters
    if settings.form not in READERS:
        raise ConfigError(
            f"the evaluation set's form is '{settings.form}'", hint=f"valid: {', '.join(READERS)}"
        )
    missing = [name for name in settings.files if not Path(name).is_file()]
    if missing or not settings.files:
        raise ConfigError(
            f"the evaluation set's file {missing[0]} is not there"
            if missing
            else "the evaluation set names no file",
            hint="with: {files: [set.jsonl], form: questions}",
        )
    found = digest([file_sha256(Path(name)) for name in settings.files])
    if settings.sha256 not in (None, found):
        raise ConfigError(
            f"the evaluation set has digest {found[:12]}..., the pipeline pins"
            f" {str(settings.sha256)[:12]}...",
            hint=f"if the new one is meant, pin it: sha256: {found}",
        )
    return Source({"sha256": found})


def run(work: Work[Settings]) -> Outcome:
    """Write ``test`` (Parquet, in key order, each row once) and ``card`` (JSON).

    Raises:
        DataError: If a line cannot be read, or there are no rows.
    """
    import pyarrow.parquet as pq

    from llmops.data.evaluation_sets import read_set

    pinned = source(work.settings, work.adapters).facts["sha256"]
    rows = list(read_set([Path(name) for name in work.settings.files], work.settings.form))
    if not rows:
        raise DataError("the evaluation set has no rows", hint="look at the step's files and form")
    table = _table(rows, f"set-{pinned[:8]}")
    pq.write_table(table, work.outputs["test"])
    card = {
        "dataset_version": f"set-{pinned[:8]}",
        "sha256": pinned,
        "rows": {"test": table.num_rows},
        "duplicates": len(rows) - table.num_rows,
        "leakage": _contamination(table, work.inputs.get("train")),
    }
    work.outputs["card"].write_text(json.dumps(card, indent=2) + "\n", "utf-8")
    return Outcome(rows={"test": table.num_rows}, facts=card)


def _table(rows: Sequence[Row], version: str) -> pa.Table:
    """Return the rows in key order; equal ones once; a group is what has one question."""
    import pyarrow as pa

    from llmops.data.keys import content_keys

    texts = ([row.question for row in rows], [row.answer for row in rows])
    questions, answers = (pa.array(side, pa.string()) for side in texts)
    keys = content_keys(questions, answers).to_pylist()
    groups = [key[:16] for key in content_keys(questions).to_pylist()]
    held = {
        key: {
            columns.ROW_KEY: key,
            columns.QUESTION: row.question,
            columns.ANSWER: row.answer,
            columns.GROUP: group,
            columns.CHECKS: row.checks,
        }
        for key, group, row in zip(keys, groups, rows, strict=True)
    }
    names = [columns.ROW_KEY, columns.QUESTION, columns.ANSWER, columns.GROUP]
    if any(row.checks is not None for row in rows):
        names.append(columns.CHECKS)
    schema = pa.schema([(name, pa.string()) for name in names])
    table = pa.Table.from_pylist([held[key] for key in sorted(held)], schema=schema)
    return table.replace_schema_metadata({columns.DATASET_VERSION: version})


def _contamination(table: pa.Table, train: Path | None) -> Mapping[str, Any] | None:
    """Return how many questions or answers also stand in train, exactly, or by 13 words in a row.

    Null where the step takes no train: then nothing is known, and a gate on it refuses.
    """
    if train is None:
        return None
    import pyarrow.parquet as pq

    exact: set[str] = set()
    runs: set[int] = set()
    known = pq.read_table(train, columns=[columns.QUESTION, columns.ANSWER])
    for name in (columns.QUESTION, columns.ANSWER):
        for text in known[name].to_pylist():
            exact.add(_plain(text))
            runs |= _runs(text)
    rows = table.select([columns.QUESTION, columns.ANSWER]).to_pylist()
    same = [any(len(text) > 1 and _plain(text) in exact for text in row.values()) for row in rows]
    near = [
        is_same or any(_runs(text) & runs for text in row.values())
        for is_same, row in zip(same, rows, strict=True)
    ]
    return {
        "exact": {"rows": sum(same), "share": sum(same) / len(rows)},
        "near": {"rows": sum(near), "share": sum(near) / len(rows), "words": WINDOW_WORDS},
    }


def _plain(text: str) -> str:
    return " ".join(text.lower().split())


def _runs(text: str) -> set[int]:
    words = _plain(text).split()
    return {hash(tuple(words[i : i + WINDOW_WORDS])) for i in range(len(words) - WINDOW_WORDS + 1)}


KIND = StepKind(
    name="evaluation_set",
    revision=2,  # logs as `logs reviewed` writes them; checks of code
    run=run,
    settings=Settings,
    takes=(Port("train", "parquet", optional=True),),
    gives=(Port("test", "parquet"), Port("card", "json")),
    source=source,
    code=("llmops.data.evaluation_sets", "llmops.data.keys", "llmops.data.columns"),
    summary="reads an evaluation set from files and looks for its rows in train",
)
