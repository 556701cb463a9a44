"""Judge the safety scores that the responses carry, contestant by contestant.

Scores were given when the answers were; so a changed threshold costs only this step. Knows no
scorer: who scored, and which categories, stands in the responses' metadata.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmops.errors import DataError
from llmops.evaluation import responses
from llmops.plan.kinds import Outcome, Port, StepKind, Work, leaf
from llmops.ports.model import Citation, Response
from llmops.safety.judging import Rated, judge
from llmops.safety.policy import InputRules, Judgement, Limits, OutputRules, PersonalData, Policy

if TYPE_CHECKING:
    import pyarrow.parquet as pq

BATCH_ROWS = 4096
COLUMNS = [
    *("row_key", "contestant", "group", "prompt", "text"),
    *("finish_reason", "blocked", "safety", "citations"),
]


@dataclass(frozen=True)
class Settings:
    """The policy, as the config has it."""

    thresholds: Mapping[str, float] = leaf("safety.thresholds")
    max_violation_rate: float = leaf("safety.max_violation_rate")
    max_blocked_rate: float = leaf("safety.max_blocked_rate")
    confidence: float = leaf("safety.confidence")
    on_violation: Judgement = leaf("safety.on_violation")
    on_scorer_failure: Judgement = leaf("safety.on_scorer_failure")
    input: InputRules = leaf("safety.input")
    output: OutputRules = leaf("safety.output")
    personal_data: PersonalData = leaf("safety.personal_data")

    def policy(self) -> Policy:
        """Return the policy; nobody is shown its message here."""
        return Policy(
            thresholds=self.thresholds,
            on_violation=self.on_violation,
            on_scorer_failure=self.on_scorer_failure,
            message="",
            input=self.input,
            output=self.output,
            personal_data=self.personal_data,
        )


def run(work: Work[Settings]) -> Outcome:
    """Write ``report``; a contestant out of bounds is reported, not raised: the gate decides.

    Raises:
        ConfigError: If a threshold names a category that the scorer does not report.
        DataError: If the responses do not say who scored them.
    """
    import pyarrow.parquet as pq

    settings = work.settings
    limits = Limits(settings.max_violation_rate, settings.max_blocked_rate, settings.confidence)
    with pq.ParquetFile(work.inputs["responses"]) as file:
        report = judge(_responses(file), settings.policy(), limits, _scorer(file))
    work.outputs["report"].write_text(
        json.dumps(report, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
    )
    return Outcome(facts={"passed": report["passed"], "reasons": report["reasons"]})


def _scorer(file: pq.ParquetFile) -> Mapping[str, Any]:
    text = (file.schema_arrow.metadata or {}).get(responses.SCORER)
    if text is None:
        raise DataError("the responses do not say who scored them", hint="run with --force predict")
    described: Mapping[str, Any] = json.loads(text)
    return described


def _responses(file: pq.ParquetFile) -> Iterator[Rated]:
    for batch in file.iter_batches(BATCH_ROWS, columns=COLUMNS):
        for row in batch.to_pylist():
            yield Rated(
                row["row_key"],
                row["contestant"],
                row["group"],
                row["prompt"],
                _response(row),
                _scores(row["safety"]),
            )


def _response(row: Mapping[str, Any]) -> Response:
    """Return the answer as the policy reads it; its ratings are among the row's scores."""
    return Response(
        text=row["text"] or "",
        finish_reason=row["finish_reason"],
        prompt_tokens=0,
        output_tokens=0,
        blocked=bool(row["blocked"]),
        citations=tuple(Citation(**one) for one in row["citations"] or ()),
    )


def _scores(rated: list[Mapping[str, Any]] | None) -> Mapping[str, float | None] | None:
    return None if rated is None else {one["category"]: one["score"] for one in rated}


KIND = StepKind(
    name="safety",
    revision=2,
    run=run,
    settings=Settings,
    takes=(Port("responses", "parquet"),),
    gives=(Port("report", "json"),),
    code=("llmops.safety.judging", "llmops.evaluation.intervals"),
    summary="judge safety scores and blocked answers against their limits",
)
