"""Answer the rows of a file or of a warehouse query, every one under the policy and in the log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llmops.answering import batch
from llmops.answering.asking import answers
from llmops.answering.batch import Done, Job
from llmops.answering.exchange import Answer, grounding_json
from llmops.answering.model import OpenModel
from llmops.answering.share import drawn
from llmops.api.answering import CHAMPION, open_log, open_model, record_of, serve_config, shares
from llmops.ports.model import Message
from llmops.ports.progress import Progress
from llmops.traffic.log import TrafficLog


def predict_file(
    source: Path,
    target: Path,
    *,
    model: str = CHAMPION,
    overrides: Sequence[str] = (),
    column: str = "question",
    replace: bool = False,
    progress: Progress,
) -> Done:
    """Answer every row of a JSONL, CSV or Parquet file; the same call goes on after a crash.

    Args:
        source: The rows.
        target: Where rows and answers go; its suffix is its format.
        model: See ``open_model``; ``split`` shares the questions out over ``serve.models``, each
            to the same model every time.
        overrides: As on the command line.
        column: Of the questions.
        replace: Write over a target that exists.
        progress: Told of rows answered.

    Raises:
        ConfigError: If a file, column or model is wrong, or the parts belong to another job.
        BackendError: If the model fails for a whole part, or the disk refuses.
    """
    batch.check_target(target, replace=replace)
    split = _open_split(model, overrides)
    log = open_log(serve_config(overrides))
    job = Job(source, target, column, split.batch_rows, split.asks, replace)
    try:
        return batch.answer_file(job, lambda asked: _answered(split, log, asked), progress)
    finally:
        log.close()


def predict_query(
    sql: str,
    target: Path,
    *,
    model: str = CHAMPION,
    overrides: Sequence[str] = (),
    column: str = "question",
    replace: bool = False,
    progress: Progress,
) -> Done:
    """Answer every row of one SELECT over the warehouse; see ``predict_file``.

    The rows are kept beside the target until it is written: going on does not query again.
    """
    from llmops.adapters.catalog import adapter, in_cloud
    from llmops.api.answering import others
    from llmops.config.compose import group
    from llmops.config.project import workspace

    batch.check_target(target, replace=replace)
    wanted = others(overrides)
    chosen = group("warehouse", wanted)
    environment = group("env", wanted) if in_cloud("warehouse", chosen) else None
    warehouse = adapter("warehouse", chosen, workspace(), environment=environment)
    source = batch.write_rows(warehouse.query(sql).batches(), target)
    return predict_file(
        source,
        target,
        model=model,
        overrides=overrides,
        column=column,
        replace=replace,
        progress=progress,
    )


@dataclass(frozen=True)
class _Split:
    """The models that answer, all open, and their weights."""

    models: tuple[OpenModel, ...]
    weights: tuple[float, ...]

    @property
    def batch_rows(self) -> int:
        """How many rows are asked at a time."""
        return max(model.settings.batch_rows for model in self.models)

    @property
    def asks(self) -> Mapping[str, Any]:
        """What decides the answers."""
        if len(self.models) == 1:
            return _asks(self.models[0])
        return {"split": [dict(_asks(model)) for model in self.models], "weights": self.weights}

    def places(self, asked: Sequence[str]) -> Mapping[int, list[int]]:
        """Return which questions each model is to answer, both by their places."""
        found: dict[int, list[int]] = {}
        for place, question in enumerate(asked):
            found.setdefault(drawn(self.weights, question), []).append(place)
        return found


def _open_split(model: str, overrides: Sequence[str]) -> _Split:
    found = {name: weight for name, weight in shares(model, overrides).items() if weight}
    models = tuple(open_model(name, overrides) for name in found)
    return _Split(models, tuple(found.values()))


def _answered(split: _Split, log: TrafficLog, asked: Sequence[str]) -> list[dict[str, Any]]:
    rows: dict[int, dict[str, Any]] = {}
    for number, places in split.places(asked).items():
        answered = _by_one(split.models[number], log, [asked[place] for place in places])
        rows |= dict(zip(places, answered, strict=True))
    return [rows[place] for place in range(len(asked))]


def _by_one(model: OpenModel, log: TrafficLog, asked: Sequence[str]) -> list[dict[str, Any]]:
    found = list(answers(model, [(Message("user", question),) for question in asked]))
    records = [
        record_of(log.new_id(), model, one, route="predict", client="command line", session=None)
        for one in found
    ]
    log.answers(records)
    return [_fields(one, kept.id, model) for one, kept in zip(found, records, strict=True)]


def _fields(answer: Answer, identity: str, model: OpenModel) -> dict[str, Any]:
    return {
        "response": answer.text,
        "response_id": identity,
        "response_model": model.label,
        "response_blocked": answer.blocked,
        "response_blocked_by": list(answer.blocked_by),
        "response_finish_reason": answer.finish_reason,
        "response_safety": dict(answer.scores),
        "response_citations": [asdict(citation) for citation in answer.citations],
        "response_grounding": grounding_json(answer.grounding),
        "response_trace": [dict(step) for step in answer.trace],
        "response_prompt_tokens": answer.prompt_tokens,
        "response_output_tokens": answer.output_tokens,
        "response_latency_s": round(answer.latency_s, 6),
        "response_cost": answer.cost,
        "response_error": answer.error,
    }


def _asks(model: OpenModel) -> Mapping[str, Any]:
    return {
        "model": model.digest,
        "prompt": model.prompt_sha256,
        "settings": asdict(model.settings),
        "policy": asdict(model.policy),
        **model.around,
    }
