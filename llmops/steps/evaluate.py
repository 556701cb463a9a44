"""Measure every contestant's responses, with intervals, and pair each with the baseline.

Reads responses batch by batch and keeps numbers only. Knows no model and judges nothing.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops import sandbox
from llmops.data import columns
from llmops.errors import BackendError, ConfigError
from llmops.evaluation import code, responses
from llmops.evaluation import metrics as metric_table
from llmops.evaluation.claims import as_json, learned
from llmops.evaluation.decision import CHAMPION
from llmops.evaluation.slices import Row, slices
from llmops.evaluation.summary import Settings as Figures
from llmops.evaluation.summary import summarise
from llmops.evaluation.table import contestants
from llmops.plan.kinds import Adapters, Outcome, Port, Source, StepKind, Work, leaf
from llmops.sandbox import PASSED, Limits

if TYPE_CHECKING:
    import pyarrow.parquet as pq

BATCH_ROWS = 512
MILLION = 1_000_000
CODE_PASSES = "code_passes"
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
    sandbox: Limits | None = leaf("evaluation.sandbox", optional=True)


@dataclass(frozen=True)
class Price:
    """Money for a million tokens that a model reads and writes, in one currency for all."""

    input: float
    output: float


def source(settings: Settings, adapters: Adapters) -> Source:
    """Say what is not in the key: the revision of the project's own metrics, the Python that runs.

    Generated code that one Python runs, another may not.
    """
    del adapters
    own = metric_table.own_metrics(settings.own or ())
    used = {name: own[name].revision for name in settings.metrics if name in own}
    facts: dict[str, Any] = {"own_metrics": used} if used else {}
    if CODE_PASSES in settings.metrics:
        facts["python"] = ".".join(map(str, sys.version_info[:2]))
    return Source(facts)


def run(work: Work[Settings]) -> Outcome:
    """Write ``metrics``: the document of ``evaluation.summary``, with claims and slices.

    Raises:
        ConfigError: If a metric or the baseline is unknown, or a metric lacks what it needs.
        DataError: If contestants answered different rows.
        BackendError: If generated code is to run and the sandbox does not work on this machine.
    """
    import pyarrow.parquet as pq

    settings = work.settings
    own = metric_table.own_metrics(settings.own or ())
    chosen = [metric_table.find(name, own=own) for name in settings.metrics]
    figures = Figures(
        settings.baseline, settings.confidence, settings.bootstrap_samples, settings.seed
    )
    ran = _run_code(work) if CODE_PASSES in settings.metrics else {}
    with pq.ParquetFile(work.inputs["responses"]) as file:
        table = contestants(_batches(file, chosen, work, ran), chosen)
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
    if ran:
        document["code"] = _how_code_ended(ran)
    if "verdicts" in work.inputs:
        document["judge"] = _judged(work).about
    work.outputs["metrics"].write_text(
        json.dumps(document, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
    )
    return Outcome(facts=_facts(document))


def _batches(
    file: pq.ParquetFile,
    chosen: Sequence[metric_table.Metric],
    work: Work[Settings],
    ran: Mapping[Answered, str],
) -> Iterator[Mapping[str, Sequence[Any]]]:
    read = metric_table.columns_read(chosen)
    known = set(file.schema_arrow.names)
    derivations = {**DERIVATIONS, "passes": lambda *_: _passes(ran)}
    for name in read:
        if name not in known and name not in derivations:
            raise ConfigError(
                f"a metric reads the column '{name}', which responses do not have",
                hint=f"columns: {', '.join(sorted(known))}",
            )
    derive = {name: derivations[name](work, file) for name in read if name in derivations}
    needed = {"text", "reference", "prompt_tokens", "output_tokens"} if derive else set()
    wanted = ["contestant", "row_key", "group", *sorted(needed | (set(read) & known))]
    done, total = 0, file.metadata.num_rows
    for batch in file.iter_batches(BATCH_ROWS, columns=wanted):
        rows = batch.to_pydict()
        yield rows | {name: values(rows) for name, values in derive.items()}
        done += batch.num_rows
        work.progress(done, total, "responses")


Answered = tuple[str, str]  # contestant, row key
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


def _run_code(work: Work[Settings]) -> dict[Answered, str]:
    """Run the code of every answer with its row's checks, and say what came of each."""
    import pyarrow.parquet as pq

    limits, why_not = work.settings.sandbox, sandbox.why_not()
    if limits is None:
        raise ConfigError(
            f"evaluation.metrics names '{CODE_PASSES}', which runs what models write",
            hint="allow it: +evaluation.sandbox={timeout_s: 10, max_memory_mb: 512}",
        )
    if why_not:
        raise BackendError(
            f"generated code runs only in a sandbox, and {why_not}",
            hint=f"take {CODE_PASSES} out of evaluation.metrics, or evaluate on another machine",
        )
    checks = _checks(work.inputs.get("test"))
    names = ["contestant", "row_key", "text"]
    rows = pq.read_table(work.inputs["responses"], columns=names).to_pylist()
    answers = [code.Answer(row["text"], checks.get(row["row_key"])) for row in rows]
    ran = {}
    for done, (row, outcome) in enumerate(
        zip(rows, code.outcomes(answers, limits), strict=True), 1
    ):
        ran[row["contestant"], row["row_key"]] = outcome
        work.progress(done, len(rows), "answers run")
    return ran


def _checks(test: Path | None) -> Mapping[str, str]:
    """Return the checks of the test rows that have any, by row key."""
    import pyarrow.parquet as pq

    if test is None or columns.CHECKS not in pq.read_schema(test).names:
        return {}
    table = pq.read_table(test, columns=[columns.ROW_KEY, columns.CHECKS])
    keys, checks = (table[name].to_pylist() for name in table.column_names)
    return {key: check for key, check in zip(keys, checks, strict=True) if check is not None}


def _passes(ran: Mapping[Answered, str]) -> Derive:
    def values(rows: Mapping[str, Sequence[Any]]) -> Sequence[float | None]:
        pairs = zip(rows["contestant"], rows["row_key"], strict=True)
        return [float(ran[pair] == PASSED) for pair in pairs]

    return values


def _how_code_ended(ran: Mapping[Answered, str]) -> dict[str, dict[str, int]]:
    """Count the outcomes of each contestant's code, the most frequent first."""
    counts: dict[str, Counter[str]] = {}
    for (contestant, _), outcome in ran.items():
        counts.setdefault(contestant, Counter())[outcome] += 1
    return {name: dict(one.most_common()) for name, one in counts.items()}


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
    revision=3,  # studentised intervals
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
        "llmops.evaluation.code",
        "llmops.sandbox",
    ),
    summary="measure the responses, with intervals, against the baseline",
)
