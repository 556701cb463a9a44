"""Let every contestant answer the same test rows, and have every answer scored for safety.

Rows with their answers and scores are published in parts; after a crash the rows of the part in
work are put together anew, from answers that were kept as they came.
Knows no provider: what a generator can do, it says itself.
"""

from __future__ import annotations

import functools
import heapq
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

from llmops.artifacts import canonical_json
from llmops.data import columns
from llmops.errors import BackendError, ConfigError, DataError, Refused, unknown_name
from llmops.evaluation import responses
from llmops.evaluation.claims import CONTROL, SEED_MARK, TUNED
from llmops.evaluation.decision import CHAMPION
from llmops.plan.kinds import (
    Adapters,
    OpenGenerator,
    Outcome,
    Port,
    Source,
    StepKind,
    Work,
    leaf,
)
from llmops.ports.model import Chat, Generator, ModelReference, TokenScore
from llmops.ports.progress import Progress
from llmops.prompts.generating import generation_settings
from llmops.prompts.prompt import Example, Prompt
from llmops.steps.deploy import tuned_reference

CONTESTANTS = ("untuned", "untuned_with_examples", TUNED, CONTROL, CHAMPION)
MODELS_FOLDERS = {TUNED: "replicates", CONTROL: "control"}  # contestant -> input with models
BATCHES_PER_PART = 2  # a part's rows are asked together and published at once
SIMILAR_AMONG = 20_000  # train rows by key order that similar ones are looked for among
GENERATION_SHARE = 0.8  # of a row's progress; the rest is scoring its reference answer
TEST_COLUMNS = [columns.ROW_KEY, columns.QUESTION, columns.ANSWER, columns.GROUP]


@dataclass(frozen=True)
class Comparison:
    """Prompts x models: every prompt is put to every model.

    ``models`` are ``model`` groups by name; ``registered`` are tuned models of the registry, as
    ``NAME@ALIAS`` or ``NAME:VERSION``, each answering on the base among ``models`` that it has.
    """

    prompts: Mapping[str, Prompt]
    models: Mapping[str, dict[str, Any]]
    registered: Mapping[str, str] = field(default_factory=dict)


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
    prompt: Prompt = leaf("prompt", without=("version", "changelog"))
    model: Mapping[str, Any] = leaf("model", without=("requests", "tuner.waiting"))
    scorer: Mapping[str, Any] = leaf("safety.scorer")
    comparison: Comparison | None = leaf("comparison", optional=True)
    encoder: Mapping[str, Any] | None = leaf("encoder", optional=True)
    model_name: str | None = leaf("deploy.model_name", optional=True, in_key=False)
    promote_to: str | None = leaf("deploy.promote_to", optional=True, in_key=False)
    grounding: Mapping[str, Any] | None = leaf("grounding", optional=True)
    chain: Mapping[str, Any] | None = leaf("chain", optional=True)


@dataclass(frozen=True)
class Contestant:
    """A prompt put to a model, and the examples shown before each question.

    ``config`` is the ``model`` group that opens it, null for the experiment's own; ``weights`` is
    where a tuned model lies that is no object of the store by itself.
    """

    name: str
    model: ModelReference
    prompt: Prompt
    examples: tuple[Example, ...] = ()
    config: Mapping[str, Any] | None = None
    weights: Path | None = None


@dataclass(frozen=True)
class Part:
    """Consecutive test rows that are asked together; ``before`` counts the rows ahead of them."""

    number: int
    before: int
    rows: tuple[Mapping[str, Any], ...]


@dataclass
class OneModel:
    """Opens generators, and keeps the last one only: two models need not fit in memory."""

    open: OpenGenerator
    model: tuple[Any, ...] | None = None
    generator: Generator | None = None

    def get(self, contestant: Contestant) -> Generator:
        """Return the generator of a contestant, letting go of another model first."""
        wanted = (contestant.model, contestant.config, contestant.weights)
        if self.generator is None or self.model != wanted:
            self.generator = None
            self.generator = self.open(*wanted)
            self.model = wanted
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
    similar = SimilarRows(work)
    paths = []
    for place, contestant in enumerate(contestants):
        for part in _parts(work, test.rows):
            slug = re.sub(r"[^\w@.-]", "-", contestant.name)
            path = work.scratch / f"{place}-{slug}-{part.number:06}.parquet"
            keys = [row[columns.ROW_KEY] for row in part.rows]
            if not responses.is_part(path, contestant.name, keys):
                progress = Meter(
                    work.progress,
                    place * test.rows + part.before,
                    len(contestants) * test.rows,
                    len(part.rows),
                    contestant.name,
                )
                asked = Asked(contestant, models.get(contestant), similar)
                rows = _answers(work, asked, part, progress)
                responses.publish_part(rows, path)
                work.keep(path)
            paths.append(path)
    written = responses.join(paths, work.outputs["responses"], _metadata(work, test, contestants))
    return Outcome(rows={"responses": written.rows}, facts=_facts(written, contestants))


# ---------------------------------------------------------------- contestants


def source(settings: Settings, adapters: Adapters) -> Source:
    """Say which registered models answer now, and from which tables passages are retrieved.

    Raises:
        ConfigError: If a registered model is unknown, or the query of the passages is refused.
    """
    found: dict[str, ModelReference] = {}
    if settings.comparison is not None:
        found |= _registered(settings.comparison, adapters)
    if CHAMPION in settings.contestants and (champion := _champion(settings, adapters)):
        found[CHAMPION] = champion
    models = {name: asdict(model) for name, model in found.items()}
    passages = _passages(settings, adapters)
    registered = {"registered": models} if models else {}
    return replace(passages, facts={**registered, **passages.facts})


def _champion(settings: Settings, adapters: Adapters) -> ModelReference | None:
    """Return the model that a passed gate would replace; null if there is none yet."""
    if settings.model_name is None or settings.promote_to is None:
        raise ConfigError(
            "predict.contestants names 'champion', but the config names no registered model",
            hint="choose deploy=files, or leave 'champion' out",
        )
    for version in adapters.registry().list():
        if version.name == settings.model_name and settings.promote_to in version.aliases:
            return version.model
    return None


def _registered(comparison: Comparison, adapters: Adapters) -> Mapping[str, ModelReference]:
    found = {}
    for name, wanted in comparison.registered.items():
        model, _, version = wanted.replace(":", "@").partition("@")
        found[name] = adapters.registry().get(model, version or "champion").model
    return found


def _contestants(work: Work[Settings]) -> tuple[Contestant, ...]:
    names = work.settings.contestants
    for name in names:
        if name not in CONTESTANTS:
            raise unknown_name("contestant", name, CONTESTANTS, where="predict.contestants")
    grid = tuple(_grid(work))
    if (not names and not grid) or len(set(names)) < len(names):
        raise ConfigError(
            "predict.contestants is empty or names one twice",
            hint=f"valid: {', '.join(CONTESTANTS)}",
        )
    return (*(one for name in names for one in _named(work, name)), *grid)


def _named(work: Work[Settings], name: str) -> Iterator[Contestant]:
    """Yield a contestant, and for a tuned one those of the other tuning seeds."""
    settings = work.settings
    if name in ("untuned", "untuned_with_examples"):
        model = ModelReference(provider=settings.model["kind"], base=settings.model["base"])
        examples = _examples(work) if name == "untuned_with_examples" else ()
        yield Contestant(name, model, settings.prompt, examples)
        return
    if name == CHAMPION:
        champion = _champion(settings, work.adapters)
        if champion is not None:
            _check_tuned(settings, champion)
            yield Contestant(name, champion, settings.prompt)
        return
    if name == TUNED:
        yield Contestant(name, _tuned(work), settings.prompt)
    elif MODELS_FOLDERS[name] not in work.inputs:
        raise ConfigError(
            f"predict.contestants names '{name}', but the step takes no {MODELS_FOLDERS[name]}",
            hint="choose pipeline=tuning_control, or leave it out",
        )
    yield from _from_folder(work, name)


def _from_folder(work: Work[Settings], name: str) -> Iterator[Contestant]:
    """Yield the models in the folder that a ``tune_again`` step left, one a seed."""
    taken = MODELS_FOLDERS[name]
    if taken not in work.inputs:
        return
    for folder in sorted(work.inputs[taken].glob("seed-*"), key=lambda path: int(path.name[5:])):
        model = tuned_reference(folder, f"{work.digests[taken]}/{folder.name}")
        _check_tuned(work.settings, model)
        seed = f"{SEED_MARK}{folder.name[5:]}"
        yield Contestant(f"{name}{seed}", model, work.settings.prompt, weights=folder)


def _grid(work: Work[Settings]) -> Iterator[Contestant]:
    """Yield every prompt of the comparison put to every model, model by model."""
    comparison = work.settings.comparison
    if comparison is None:
        return
    models: dict[str, tuple[ModelReference, Mapping[str, Any]]] = {
        name: (ModelReference(provider=model["kind"], base=model["base"]), model)
        for name, model in comparison.models.items()
    }
    for name, reference in _registered(comparison, work.adapters).items():
        models[name] = (reference, _base_of(comparison, name, reference))
    for model, (reference, config) in models.items():
        for name, prompt in comparison.prompts.items():
            yield Contestant(f"{name}/{model}", reference, prompt, config=config)


def _base_of(comparison: Comparison, name: str, reference: ModelReference) -> Mapping[str, Any]:
    for model in comparison.models.values():
        if (model["kind"], model["base"]) == (reference.provider, reference.base):
            return model
    raise ConfigError(
        f"comparison.registered.{name} rests on '{reference.base}', which is not among"
        " comparison.models",
        hint="add the model group that it was tuned with",
    )


def _tuned(work: Work[Settings]) -> ModelReference:
    if "model" not in work.inputs:
        raise ConfigError(
            "predict.contestants names 'tuned', but the step takes no model",
            hint="wire it in the pipeline, takes: {model: deploy.model}, or leave 'tuned' out",
        )
    model = ModelReference(**json.loads(work.inputs["model"].read_text("utf-8")))
    _check_tuned(work.settings, model)
    return model


def _check_tuned(settings: Settings, model: ModelReference) -> None:
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


@dataclass(frozen=True)
class Asked:
    """Who is asked, by which generator, and where similar train rows come from."""

    contestant: Contestant
    generator: Generator
    similar: SimilarRows

    def chats(self, rows: Sequence[Mapping[str, Any]]) -> list[Chat]:
        """Return what the contestant is sent for each row."""
        one, questions = self.contestant, [row[columns.QUESTION] for row in rows]
        shown = self.similar.examples(questions, one.prompt.similar_examples)
        return [
            one.prompt.chat(question, (*one.examples, *nearest))
            for question, nearest in zip(questions, shown, strict=True)
        ]


class SimilarRows:
    """Finds the train rows whose questions are most like a question; reads them at first use."""

    def __init__(self, work: Work[Settings]) -> None:
        self.work = work

    def examples(self, questions: Sequence[str], count: int) -> list[tuple[Example, ...]]:
        """Return ``count`` examples a question, the most similar last, next to the question.

        Raises:
            ConfigError: If no encoder is chosen.
            DataError: If train has too few rows.
        """
        if not count:
            return [()] * len(questions)
        train, vectors = self._train
        if len(train) < count:
            raise DataError(
                f"train has {len(train)} rows, prompt.similar_examples asks for {count}",
                hint=f"set prompt.similar_examples={len(train)} or give more rows",
            )
        asked = self.work.adapters.encoder().encode(questions, _quiet)
        # rounded, so that a last bit does not decide between rows that are equally near
        near = (-(asked @ vectors.T).round(5)).argsort(axis=1, kind="stable")[:, :count]
        return [tuple(train[place] for place in reversed(row)) for row in near.tolist()]

    @functools.cached_property
    def _train(self) -> tuple[Sequence[Example], Any]:
        names = [columns.QUESTION, columns.ANSWER]
        rows = list(islice(_rows(self.work.inputs["train"], names), SIMILAR_AMONG))
        found = [Example(row[columns.QUESTION], row[columns.ANSWER]) for row in rows]
        questions = [example.question for example in found]
        return found, self.work.adapters.encoder().encode(questions, _quiet)


def _quiet(done: float, total: float | None, note: str = "") -> None:
    """Tell nobody: the step's progress counts answers."""


def _answers(work: Work[Settings], asked: Asked, part: Part, meter: Meter) -> list[dict[str, Any]]:
    """Ask a part's rows, score the answers for safety and the references for likelihood."""
    contestant, generator = asked.contestant, asked.generator
    chats, references = asked.chats(part.rows), [row[columns.ANSWER] for row in part.rows]
    share = GENERATION_SHARE if generator.can_score else 1.0
    settings = generation_settings(vars(work.settings), contestant.prompt)
    found = list(generator.generate(chats, settings, meter.between(0, share)))
    if all(response.finish_reason == "error" for response in found):
        raise BackendError(
            f"every one of {len(found)} requests to {contestant.name} failed: {found[0].error}",
            hint="the same command goes on from the answers already there",
            retryable=True,
        )
    scores = work.adapters.scorer().score([response.text for response in found])
    likelihoods: Sequence[TokenScore | None] = [None] * len(found)
    if generator.can_score:
        pairs = zip(chats, references, strict=True)
        likelihoods = list(generator.score(pairs, meter.between(share, 1)))
    return [
        {
            "row_key": row[columns.ROW_KEY],
            "contestant": contestant.name,
            "group": row[columns.GROUP],
            "prompt": chat[-1].text,
            "reference": row[columns.ANSWER],
            "valid": contestant.prompt.output.accepts(response.text),
            **responses.fields(response, rated, likelihood),
            **({} if work.settings.chain is None else responses.trace(response)),
        }
        for row, chat, response, rated, likelihood in zip(
            part.rows, chats, found, scores, likelihoods, strict=True
        )
    ]


# ------------------------------------------------------------------- passages


def _passages(settings: Settings, adapters: Adapters) -> Source:
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
    prompts = {contestant.name: contestant.prompt.digest() for contestant in contestants}
    return {
        columns.PROMPT_SHA256: work.settings.prompt.digest().encode(),
        responses.PROMPTS: canonical_json(prompts).encode(),
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
    revision=2,  # seconds of each answer, and whether it is of the prompt's format
    run=run,
    settings=Settings,
    takes=(
        Port("test", "parquet"),
        Port("train", "parquet"),
        Port("model", "json", optional=True),
        Port("replicates", "folder", optional=True),
        Port("control", "folder", optional=True),
    ),
    gives=(Port("responses", "parquet"),),
    uses=("generator", "scorer", "encoder"),
    source=source,
    code=(
        "llmops.prompts.prompt",
        "llmops.prompts.template",
        "llmops.evaluation.responses",
        "llmops.adapters.model.composed",
    ),
    summary="let every contestant answer the test rows, and score the answers",
)
