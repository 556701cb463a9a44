"""transform: good rows become examples, rendered by the prompt object that serving uses.

Knows no tuner's format and no split; the prompt's digest travels in the Parquet metadata.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llmops.data.columns import PROMPT_NAME, PROMPT_SHA256, QUESTION, RENDERED, SYSTEM
from llmops.plan.kinds import Outcome, Port, StepKind, Work, leaf
from llmops.prompts.prompt import Prompt

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Settings:
    """What transform reads of the config."""

    prompt: Prompt = leaf("prompt")
    memory_limit: str = leaf("dataset.memory_limit", in_key=False)


def run(work: Work[Settings]) -> Outcome:
    """Render every row, in order.

    Raises:
        ConfigError: If the template is wrong, or the memory limit too small to work with.
    """
    from llmops.data.memory import share_out
    from llmops.data.parquet import RowWriter, count_rows

    prompt, source = work.settings.prompt, work.inputs["rows"]
    prompt.check()
    schema, total = _schema(source, prompt), count_rows(source)
    batch_bytes = share_out(work.settings.memory_limit).batch_bytes
    with RowWriter(work.outputs["examples"], schema) as writer:
        for table in _rendered(source, schema, prompt, batch_bytes):
            writer.write(table)
            work.progress(writer.rows, total, "rendering prompts")
    return Outcome(
        rows={"examples": writer.rows},
        facts={"prompt": {"name": prompt.name, "sha256": prompt.digest()}},
    )


def _schema(source: Path, prompt: Prompt) -> pa.Schema:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = pq.read_schema(source).remove_metadata()
    added = rows.append(pa.field(RENDERED, pa.string())).append(pa.field(SYSTEM, pa.string()))
    return added.with_metadata({PROMPT_NAME: prompt.name, PROMPT_SHA256: prompt.digest()})


def _rendered(
    source: Path, schema: pa.Schema, prompt: Prompt, batch_bytes: int
) -> Iterator[pa.Table]:
    import pyarrow as pa

    from llmops.data.parquet import read_batches

    for batch in read_batches(source, batch_bytes=batch_bytes):
        texts = [prompt.render(question) for question in batch.column(QUESTION).to_pylist()]
        system = pa.array([prompt.system] * batch.num_rows, pa.string())
        columns = [*batch.columns, pa.array(texts, pa.string()), system]
        yield pa.Table.from_arrays(columns, schema=schema)


KIND = StepKind(
    name="transform",
    revision=2,  # a role tag within another is escaped too
    run=run,
    settings=Settings,
    takes=(Port("rows", "parquet"),),
    gives=(Port("examples", "parquet"),),
    code=(
        "llmops.data.columns",
        "llmops.data.parquet",
        "llmops.prompts.prompt",
        "llmops.prompts.template",
    ),
    summary="renders each row with the prompt",
)
