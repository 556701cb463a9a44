"""Measure every contestant's responses, with intervals, and pair each with the baseline.

Reads responses batch by batch and keeps numbers only. Knows no model and judges nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmops.evaluation import metrics as metric_table
from llmops.evaluation import responses
from llmops.evaluation.summary import Settings as Figures
from llmops.evaluation.summary import summarise
from llmops.evaluation.table import contestants
from llmops.plan.kinds import Outcome, Port, StepKind, Work, leaf

if TYPE_CHECKING:
    import pyarrow.parquet as pq

BATCH_ROWS = 512


@dataclass(frozen=True)
class Settings:
    """What of the config decides the figures."""

    metrics: tuple[str, ...] = leaf("evaluation.metrics")
    baseline: str = leaf("evaluation.baseline")
    confidence: float = leaf("evaluation.confidence")
    bootstrap_samples: int = leaf("evaluation.bootstrap_samples")
    seed: int = leaf("evaluation.seed")


def run(work: Work[Settings]) -> Outcome:
    """Write ``metrics``: the document of ``evaluation.summary``.

    Raises:
        ConfigError: If a metric or the baseline is unknown.
        DataError: If contestants answered different rows.
    """
    import pyarrow.parquet as pq

    settings = work.settings
    chosen = [metric_table.find(name) for name in settings.metrics]
    figures = Figures(
        settings.baseline, settings.confidence, settings.bootstrap_samples, settings.seed
    )
    with pq.ParquetFile(work.inputs["responses"]) as file:
        table = contestants(_batches(file, chosen, work), chosen)
        available = (file.schema_arrow.metadata or {}).get(responses.TEST_ROWS_AVAILABLE)
    document = summarise(table, chosen, figures)
    document["test_rows_available"] = int(available) if available else None
    work.outputs["metrics"].write_text(
        json.dumps(document, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
    )
    return Outcome(facts=_facts(document))


def _batches(
    file: pq.ParquetFile, chosen: Sequence[metric_table.Metric], work: Work[Settings]
) -> Iterator[Mapping[str, Sequence[Any]]]:
    columns = ["contestant", "row_key", "group", *metric_table.columns_read(chosen)]
    done, total = 0, file.metadata.num_rows
    for batch in file.iter_batches(BATCH_ROWS, columns=columns):
        yield batch.to_pydict()
        done += batch.num_rows
        work.progress(done, total, "responses")


def _facts(document: Mapping[str, Any]) -> dict[str, Any]:
    points = {
        contestant: {metric: figure["value"] for metric, figure in figures.items()}
        for contestant, figures in document["contestants"].items()
    }
    return {"rows": document["rows"], "groups": document["groups"], "values": points}


KIND = StepKind(
    name="evaluate",
    revision=1,
    run=run,
    settings=Settings,
    takes=(Port("responses", "parquet"),),
    gives=(Port("metrics", "json"),),
    code=(
        "llmops.evaluation.metrics",
        "llmops.evaluation.intervals",
        "llmops.evaluation.table",
        "llmops.evaluation.summary",
    ),
    summary="measure the responses, with intervals, against the baseline",
)
