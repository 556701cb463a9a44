"""Let every contestant answer the same test rows, and have every answer scored for safety.

Answers are published in parts as they come: after a crash only the part in work is asked again.
Knows no provider: what a generator can do, it says itself.
"""

from __future__ import annotations

import heapq
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

from llmops.artifacts import canonical_json
from llmops.data import columns
from llmops.errors import BackendError, ConfigError, DataError, Refused, unknown_name
from llmops.evaluation import responses
from llmops.plan.kinds import Adapters, Outcome, Port, Source, StepKind, Work, leaf
from llmops.ports import GenerationSettings, Generator, ModelReference, Progress, TokenScore
from llmops.prompts.prompt import Example, Prompt

CONTESTANTS = ("untuned", "untuned_with_examples", "tuned")
BATCHES_PER_PART = 2  # a part is what a crash costs at most
GENERATION_SHARE = 0.8  # of a row's progress; the rest is scoring its reference answer
TEST_COLUMNS = [columns.ROW_KEY, columns.QUESTION, columns.ANSWER, columns.GROUP]


@dataclass(frozen=True)
class Settings:
    """Who answers, how, and which rows."""

    contestants: tuple[str, ...] = leaf("predict.contestants")
    examples: int = leaf("predict.examples")
    max_new_tokens: int = leaf("predict.max_new_tokens")
    temperature: float = leaf("predict.temperature")
    top_p: float = leaf("predict.top_p")
    batch_rows: int = leaf("predict.batch_rows")
    seed: int = leaf("predict.seed")
    other_prompt: bool = leaf("predict.other_prompt")
    max_rows: int | None = leaf("evaluation.max_rows")
    prompt: Prompt = leaf("prompt")
    model: Mapping[str, Any] = leaf("model", without=("requests", "tuner.waiting"))
    scorer: Mapping[str, Any] = leaf("safety.scorer")
    grounding: Mapping[str, Any] | None = leaf("grounding", optional=True)
    chain: Mapping[str, Any] | None = leaf("chain", optional=True)
    encoder: Mapping[str, Any] | None = leaf("encoder", optional=True)


@dataclass(frozen=True)
class Contestant:
    """A model and the examples that it is shown before each question."""

    name: str
    model: ModelReference
    examples: tuple[Example, ...]


@dataclass(frozen=True)
class Part:
    """Consecutive test rows that are asked together; ``before`` counts the rows ahead of them."""

    number: int
    before: int
    rows: tuple[Mapping[str, Any], ...]


@dataclass
class OneModel:
    """Opens generators, and keeps the last one only: two models need not fit in memory."""

    open: Callable[[ModelReference], Generator]
    model: ModelReference | None = None
    generator: Generator | None = None

    def get(self, model: ModelReference) -> Generator:
        """Return the generator of ``model``, letting go of another one first."""
        if self.generator is None or self.model != model:
            self.generator = None
            self.generator = self.open(model)
            self.model = model
        return self.generator


def run(work: Work[Settings]) -> Outcome:
    """Write ``responses``: one row per contestant and test row, in that order.

    Raises:
        ConfigError: If a contestant is unknown or lacks what it needs.
        Refused: If the model was tuned with another prompt.
        DataError: If there are no test rows or too few for the examples.
        BackendError: If the model fails, or every request of a part does.
    """
    contestants = _contestants(work)
    test = _test(work)
    models = OneModel(work.adapters.generator)
    paths = []
    for place, contestant in enumerate(contestants):
        for part in _parts(work, test.rows):
            path = work.scratch / f"{place}-{contestant.name}-{part.number:06}.parquet"
            keys = [row[columns.ROW_KEY] for row in part.rows]
            if not responses.is_part(path, contestant.name, keys):
                progress = Meter(
                    work.progress,
                    place * test.rows + part.before,
                    len(contestants) * test.rows,
                    len(part.rows),
                    contestant.name,
                )
                generator = models.get(contestant.model)
                rows = _answers(work, contestant, part, generator, progress)
                responses.publish_part(rows, path)
            paths.append(path)
    written = responses.join(paths, work.outputs["responses"], _metadata(work, test, contestants))
    return Outcome(rows={"responses": written.rows}, facts=_facts(written, contestants))


# ---------------------------------------------------------------- contestants


def _contestants(work: Work[Settings]) -> tuple[Contestant, ...]:
    names = work.settings.contestants
    for name in names:
        if name not in CONTESTANTS:
            raise unknown_name("contestant", name, CONTESTANTS, where="predict.contestants")
    if not names or len(set(names)) < len(names):
        raise ConfigError(
            "predict.contestants is empty or names one twice",
            hint=f"valid: {', '.join(CONTESTANTS)}",
        )
    return tuple(_contestant(work, name) for name in names)


def _contestant(work: Work[Settings], name: str) -> Contestant:
    if name == "tuned":
        return Contestant(name, _tuned(work), ())
    model = work.settings.model
    untuned = ModelReference(provider=model["kind"], base=model["base"])
    examples = _examples(work) if name == "untuned_with_examples" else ()
    return Contestant(name, untuned, examples)


def _tuned(work: Work[Settings]) -> ModelReference:
    settings = work.settings
    if "model" not in work.inputs:
        raise ConfigError(
            "predict.contestants names 'tuned', but the step takes no model",
            hint="wire it in the pipeline, takes: {model: deploy.model}, or leave 'tuned' out",
        )
    model = ModelReference(**json.loads(work.inputs["model"].read_text("utf-8")))
    if model.base != settings.model["base"]:
        raise ConfigError(
            f"the tuned model rests on '{model.base}', model.base is '{settings.model['base']}'",
            hint="choose the model group that it was tuned with",
        )
    if model.prompt_sha256 != settings.prompt.digest() and not settings.other_prompt:
        raise Refused(
            f"the model was tuned with another prompt than '{settings.prompt.name}'",
            hint="tune with this prompt, or allow it: predict.other_prompt=true",
        )
    return model


def _examples(work: Work[Settings]) -> tuple[Example, ...]:
    """Draw the examples from train: the rows whose keys, hashed with the seed, come first.

    So a new row changes the draw only if it is drawn itself.
    """
    wanted = work.settings.examples
    if wanted < 1:
        raise ConfigError(
            f"predict.examples is {wanted}, and the contestant untuned_with_examples shows some",
            hint="set predict.examples=3, or leave the contestant out",
        )
    drawn = draw_examples(work.inputs["train"], wanted, work.settings.seed)
    if len(drawn) < wanted:
        raise DataError(
            f"train has {len(drawn)} rows to draw from, predict.examples asks for {wanted}",
            hint=f"set predict.examples={len(drawn)} or give more rows",
        )
    return drawn


def draw_examples(train: Path, wanted: int, seed: int) -> tuple[Example, ...]:
    """Return up to ``wanted`` examples in the order of their hashes; the rows are streamed."""
    rows = _rows(train, [columns.ROW_KEY, columns.QUESTION, columns.ANSWER])

    def order(row: Mapping[str, Any]) -> bytes:
        return sha256(f"{seed}:{row[columns.ROW_KEY]}".encode()).digest()

    drawn = heapq.nsmallest(wanted, rows, key=order)
    return tuple(Example(row[columns.QUESTION], row[columns.ANSWER]) for row in drawn)


# ------------------------------------------------------------------ test rows


@dataclass(frozen=True)
class TestSide:
    """The test side: how many rows are asked, how many there are, and what its file says."""

    rows: int
    available: int
    metadata: Mapping[bytes, bytes]


def _test(work: Work[Settings]) -> TestSide:
    import pyarrow.parquet as pq

    with pq.ParquetFile(work.inputs["test"]) as file:
        available = file.metadata.num_rows
        metadata = file.schema_arrow.metadata or {}
    limit = work.settings.max_rows
    rows = available if limit is None else min(limit, available)
    if rows < 1:
        raise DataError(
            f"there is no test row to predict: the test side has {available}",
            hint="raise split.test or evaluation.max_rows",
        )
    return TestSide(rows, available, metadata)


def _rows(path: Path, names: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    from llmops.data.parquet import read_batches

    for batch in read_batches(path, names):
        yield from batch.to_pylist()


def _parts(work: Work[Settings], rows: int) -> Iterator[Part]:
    """Cut the first ``rows`` test rows into parts of whole batches, the last not the smallest.

    So no part is left with a few rows only, and "every request failed" says something.
    """
    size = work.settings.batch_rows
    batches = math.ceil(rows / size)
    count = math.ceil(batches / BATCHES_PER_PART)
    source = _rows(work.inputs["test"], TEST_COLUMNS)
    for number in range(count):
        start = number * batches // count * size
        end = min(rows, (number + 1) * batches // count * size)
        yield Part(number, start, tuple(islice(source, end - start)))


# -------------------------------------------------------------------- answers


@dataclass(frozen=True)
class Meter:
    """Turns a part's own progress into rows of the whole step; ``before`` rows are done."""

    report: Progress
    before: int
    total: int
    rows: int
    note: str

    def between(self, start: float, end: float) -> Progress:
        """Return a progress for work that leads from share ``start`` of the part to ``end``."""

        def told(done: float, total: float | None, note: str = "") -> None:
            share = start + (end - start) * done / (total or self.rows)
            self.report(self.before + share * self.rows, self.total, self.note)

        return told


def _answers(
    work: Work[Settings], contestant: Contestant, part: Part, generator: Generator, meter: Meter
) -> list[dict[str, Any]]:
    """Ask a part's rows, score the answers for safety and the references for likelihood."""
    settings = work.settings
    chats = [settings.prompt.chat(row[columns.QUESTION], contestant.examples) for row in part.rows]
    share = GENERATION_SHARE if generator.can_score else 1.0
    found = list(generator.generate(chats, _generation(settings), meter.between(0, share)))
    if all(response.finish_reason == "error" for response in found):
        raise BackendError(
            f"every one of {len(found)} requests to {contestant.name} failed: {found[0].error}",
            hint="the same command goes on from the answers already there",
            retryable=True,
        )
    scores = work.adapters.scorer().score([response.text for response in found])
    likelihoods: Sequence[TokenScore | None] = [None] * len(found)
    if generator.can_score:
        pairs = zip(chats, (row[columns.ANSWER] for row in part.rows), strict=True)
        likelihoods = list(generator.score(pairs, meter.between(share, 1)))
    return [
        {
            "row_key": row[columns.ROW_KEY],
            "contestant": contestant.name,
            "group": row[columns.GROUP],
            "prompt": chat[-1].text,
            "reference": row[columns.ANSWER],
            **responses.fields(response, rated, likelihood),
        }
        for row, chat, response, rated, likelihood in zip(
            part.rows, chats, found, scores, likelihoods, strict=True
        )
    ]


def _generation(settings: Settings) -> GenerationSettings:
    return GenerationSettings(
        max_new_tokens=settings.max_new_tokens,
        temperature=settings.temperature,
        top_p=settings.top_p,
        seed=settings.seed,
        batch_rows=settings.batch_rows,
    )


# ------------------------------------------------------------------- passages


def source(settings: Settings, adapters: Adapters) -> Source:
    """Return the versions of the tables that passages are retrieved from, where any are.

    Raises:
        ConfigError: If the query of the passages is refused.
    """
    grounding = settings.grounding
    if grounding is None or grounding["kind"] != "warehouse":
        return Source({})
    check = adapters.warehouse().check(grounding["query"])
    if check.unknown:
        return Source({}, (check.unknown,), known=False)
    return Source({"passages": dict(sorted(check.tables.items()))}, check.notes)


# --------------------------------------------------------------------- result


def _metadata(
    work: Work[Settings], test: TestSide, contestants: Sequence[Contestant]
) -> Mapping[bytes, bytes]:
    scorer = work.adapters.scorer()
    described = {
        "kind": work.settings.scorer["kind"],
        "description": scorer.description,
        "is_safety_evaluation": scorer.is_safety_evaluation,
        "categories": list(scorer.categories),
    }
    models = {contestant.name: asdict(contestant.model) for contestant in contestants}
    return {
        columns.PROMPT_SHA256: work.settings.prompt.digest().encode(),
        columns.DATASET_VERSION: test.metadata.get(columns.DATASET_VERSION, b""),
        responses.MODELS: canonical_json(models).encode(),
        responses.SCORER: canonical_json(described).encode(),
        responses.TEST_ROWS_AVAILABLE: str(test.available).encode(),
    }


def _facts(written: responses.Written, contestants: Sequence[Contestant]) -> Mapping[str, Any]:
    return {
        "contestants": [contestant.name for contestant in contestants],
        "rows_each": written.rows // len(contestants),
        "failed": written.failed,
        "blocked": written.blocked,
        "input_tokens": written.input_tokens,
        "output_tokens": written.output_tokens,
    }


KIND = StepKind(
    name="predict",
    revision=1,
    run=run,
    settings=Settings,
    takes=(Port("test", "parquet"), Port("train", "parquet"), Port("model", "json", optional=True)),
    gives=(Port("responses", "parquet"),),
    uses=("generator", "scorer"),
    source=source,
    code=(
        "llmops.prompts.prompt",
        "llmops.prompts.template",
        "llmops.evaluation.responses",
        "llmops.adapters.model.composed",
    ),
    summary="let every contestant answer the test rows, and score the answers",
)
