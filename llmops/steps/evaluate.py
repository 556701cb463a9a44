"""Measure every contestant's responses, with intervals, and pair each with the baseline.

Reads responses batch by batch and keeps numbers only. Knows no model and judges nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmops.errors import ConfigError
from llmops.evaluation import metrics as metric_table
from llmops.evaluation import responses
from llmops.evaluation.claims import as_json, learned
from llmops.evaluation.decision import CHAMPION
from llmops.evaluation.slices import Row, slices
from llmops.evaluation.summary import Settings as Figures
from llmops.evaluation.summary import summarise
from llmops.evaluation.table import contestants
from llmops.plan.kinds import Adapters, Outcome, Port, Source, StepKind, Work, leaf

if TYPE_CHECKING:
    import pyarrow.parquet as pq

BATCH_ROWS = 512
MILLION = 1_000_000
JUDGE = b"llmops.judge"  # JSON in the verdicts' metadata: rubric, agreement, cost


@dataclass(frozen=True)
class Settings:
    """What of the config decides the figures."""

    metrics: tuple[str, ...] = leaf("evaluation.metrics")
    baseline: str = leaf("evaluation.baseline")
    confidence: float = leaf("evaluation.confidence")
    bootstrap_samples: int = leaf("evaluation.bootstrap_samples")
    seed: int = leaf("evaluation.seed")
    slices: tuple[str, ...] | None = leaf("evaluation.slices", optional=True)
    prices: Mapping[str, Price] | None = leaf("evaluation.prices", optional=True)
    encoder: Mapping[str, Any] | None = leaf("encoder", optional=True)
    own: tuple[str, ...] | None = leaf("project.metrics", optional=True)
    contestants: tuple[str, ...] | None = leaf("predict.contestants", optional=True)


@dataclass(frozen=True)
class Price:
    """Money for a million tokens that a model reads and writes, in one currency for all."""

    input: float
    output: float


def source(settings: Settings, adapters: Adapters) -> Source:
    """Say of which revision the project's own metrics are: their code is not in the key."""
    del adapters
    own = metric_table.own_metrics(settings.own or ())
    used = {name: own[name].revision for name in settings.metrics if name in own}
    return Source({"own_metrics": used} if used else {})


def run(work: Work[Settings]) -> Outcome:
    """Write ``metrics``: the document of ``evaluation.summary``, with claims and slices.

    Raises:
        ConfigError: If a metric or the baseline is unknown, or a metric lacks what it needs.
        DataError: If contestants answered different rows.
    """
    import pyarrow.parquet as pq

    settings = work.settings
    own = metric_table.own_metrics(settings.own or ())
    chosen = [metric_table.find(name, own=own) for name in settings.metrics]
    figures = Figures(
        settings.baseline, settings.confidence, settings.bootstrap_samples, settings.seed
    )
    with pq.ParquetFile(work.inputs["responses"]) as file:
        table = contestants(_batches(file, chosen, work), chosen)
        available = (file.schema_arrow.metadata or {}).get(responses.TEST_ROWS_AVAILABLE)
    document = summarise(table, chosen, figures)
    document["test_rows_available"] = int(available) if available else None
    asked = [one for one in settings.contestants or () if one == CHAMPION]
    if asked and CHAMPION not in document["contestants"]:
        document["no_champion"] = True
    document["claims"] = as_json(learned(table, chosen, figures))
    document["slices"] = (
        slices(table, _test_rows(work), settings.slices, chosen, figures) if settings.slices else []
    )
    if "verdicts" in work.inputs:
        document["judge"] = _judged(work).about
    work.outputs["metrics"].write_text(
        json.dumps(document, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
    )
    return Outcome(facts=_facts(document))


def _batches(
    file: pq.ParquetFile, chosen: Sequence[metric_table.Metric], work: Work[Settings]
) -> Iterator[Mapping[str, Sequence[Any]]]:
    read = metric_table.columns_read(chosen)
    known = set(file.schema_arrow.names)
    for name in read:
        if name not in known and name not in DERIVATIONS:
            raise ConfigError(
                f"a metric reads the column '{name}', which responses do not have",
                hint=f"columns: {', '.join(sorted(known))}",
            )
    derive = {name: DERIVATIONS[name](work, file) for name in read if name in DERIVATIONS}
    needed = {"text", "reference", "prompt_tokens", "output_tokens"} if derive else set()
    columns = ["contestant", "row_key", "group", *sorted(needed | (set(read) & known))]
    done, total = 0, file.metadata.num_rows
    for batch in file.iter_batches(BATCH_ROWS, columns=columns):
        rows = batch.to_pydict()
        yield rows | {name: values(rows) for name, values in derive.items()}
        done += batch.num_rows
        work.progress(done, total, "responses")


Derive = Callable[[Mapping[str, Sequence[Any]]], Sequence[float | None]]


def _similarity(work: Work[Settings], file: pq.ParquetFile) -> Derive:
    """Return the cosine of each answer and its reference."""
    del file
    encoder = work.adapters.encoder()

    def values(rows: Mapping[str, Sequence[Any]]) -> Sequence[float | None]:
        answered = encoder.encode(rows["text"], _quiet)
        wanted = encoder.encode(rows["reference"], _quiet)
        return [float(one) for one in (answered * wanted).sum(axis=1)]

    return values


def _cost(work: Work[Settings], file: pq.ParquetFile) -> Derive:
    """Return the money of each answer, by its model's price; null where none is known."""
    models = json.loads((file.schema_arrow.metadata or {}).get(responses.MODELS, b"{}"))
    prices = work.settings.prices or {}
    known = {name: prices.get(model["base"]) for name, model in models.items()}

    def values(rows: Mapping[str, Sequence[Any]]) -> Sequence[float | None]:
        tokens = zip(rows["contestant"], rows["prompt_tokens"], rows["output_tokens"], strict=True)
        return [_money(known.get(name), read, written) for name, read, written in tokens]

    return values


def _money(price: Price | None, read: int, written: int) -> float | None:
    return None if price is None else (read * price.input + written * price.output) / MILLION


def _verdicts(work: Work[Settings], file: pq.ParquetFile) -> Derive:
    """Return the judge's score of each answer; null where it gave none."""
    del file
    if "verdicts" not in work.inputs:
        raise ConfigError(
            "evaluation.metrics names 'judge', but the step takes no verdicts",
            hint="wire a judge step, takes: {verdicts: judge.verdicts}, or leave it out",
        )
    scores = _judged(work).scores

    def values(rows: Mapping[str, Sequence[Any]]) -> Sequence[float | None]:
        pairs = zip(rows["contestant"], rows["row_key"], strict=True)
        return [scores.get(pair) for pair in pairs]

    return values


DERIVATIONS: Mapping[str, Callable[[Work[Settings], pq.ParquetFile], Derive]] = {
    "similarity": _similarity,
    "cost": _cost,
    "judged": _verdicts,
}


@dataclass(frozen=True)
class Judged:
    """What a judge step left: scores in [0, 1] by contestant and row, and how far to trust it."""

    scores: Mapping[tuple[str, str], float | None]
    about: Mapping[str, Any]


def _judged(work: Work[Settings]) -> Judged:
    import pyarrow.parquet as pq

    table = pq.read_table(work.inputs["verdicts"])
    about = json.loads((table.schema.metadata or {}).get(JUDGE, b"{}"))
    rows = table.select(["contestant", "row_key", "score"]).to_pylist()
    return Judged({(row["contestant"], row["row_key"]): row["score"] for row in rows}, about)


def _test_rows(work: Work[Settings]) -> list[Row]:
    import pyarrow.parquet as pq

    if "test" not in work.inputs:
        raise ConfigError(
            "evaluation.slices asks for parts of the test rows, but the step takes no test",
            hint="wire it in the pipeline, takes: {test: split.test}",
        )
    with pq.ParquetFile(work.inputs["test"]) as file:
        wanted = ["row_key", "input_text", "tags", "created_at"]
        names = [name for name in wanted if name in file.schema_arrow.names]
        rows = file.read(columns=names).to_pylist()
    return [
        Row(row["row_key"], row["input_text"] or "", row.get("tags"), row.get("created_at"))
        for row in rows
    ]


def _quiet(done: float, total: float | None, note: str = "") -> None:
    """Tell nobody: the step's progress counts responses."""


def _facts(document: Mapping[str, Any]) -> dict[str, Any]:
    points = {
        contestant: {metric: figure["value"] for metric, figure in figures.items()}
        for contestant, figures in document["contestants"].items()
    }
    shown = {
        metric: {
            one: fields["detectable"] for one, fields in rows.items() if "detectable" in fields
        }
        for metric, rows in document["paired"].items()
    }
    return {
        "rows": document["rows"],
        "groups": document["groups"],
        "values": points,
        "detectable": {metric: found for metric, found in shown.items() if found},
    }


KIND = StepKind(
    name="evaluate",
    revision=2,  # tests, claims, slices
    run=run,
    settings=Settings,
    takes=(
        Port("responses", "parquet"),
        Port("test", "parquet", optional=True),
        Port("verdicts", "parquet", optional=True),
    ),
    gives=(Port("metrics", "json"),),
    uses=("encoder",),
    source=source,
    code=(
        "llmops.evaluation.metrics",
        "llmops.evaluation.intervals",
        "llmops.evaluation.table",
        "llmops.evaluation.summary",
        "llmops.evaluation.claims",
        "llmops.evaluation.slices",
    ),
    summary="measure the responses, with intervals, against the baseline",
)
