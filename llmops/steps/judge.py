"""Let a model judge the answers by a rubric, within a cap on calls and money.

Every verdict is forced into a schema and kept by content, so that nothing is paid twice. Where
labelled cases are given, the judge is measured against them first. Decides nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llmops.artifacts import canonical_json
from llmops.errors import ConfigError, DataError, Refused
from llmops.evaluation import judging
from llmops.evaluation.judging import Agreement, Case, Method, Rubric, Verdict
from llmops.files import file_sha256
from llmops.plan.kinds import Adapters, Outcome, Port, Source, StepKind, Work, leaf
from llmops.ports.model import (
    Chat,
    GenerationSettings,
    Generator,
    Message,
    ModelReference,
    Response,
)

METADATA = b"llmops.judge"
MILLION = 1_000_000
CHARACTERS_A_TOKEN = 2  # few, so that the estimate of a prompt's tokens is rather too high


@dataclass(frozen=True)
class Price:
    """Money for a million tokens that the judge reads and writes."""

    input: float
    output: float


@dataclass(frozen=True)
class Settings:
    """The judge, its rubric, what it may cost, and which answers it sees."""

    method: Method = leaf("judge.method")
    rubric: Rubric = leaf("judge.rubric")
    model: Mapping[str, Any] = leaf("judge.model", without=("requests", "tuner"))
    max_new_tokens: int = leaf("judge.max_new_tokens")
    max_calls: int = leaf("judge.max_calls", in_key=False)
    baseline: str = leaf("evaluation.baseline")
    confidence: float = leaf("evaluation.confidence")
    seed: int = leaf("evaluation.seed")
    labelled: str | None = leaf("judge.labelled", optional=True)
    price: Price | None = leaf("judge.price", optional=True)
    max_cost: float | None = leaf("judge.max_cost", optional=True, in_key=False)


def source(settings: Settings, adapters: Adapters) -> Source:
    """Say which labelled cases stand in the file now.

    Raises:
        ConfigError: If it is not there.
    """
    del adapters
    if settings.labelled is None:
        return Source({})
    return Source({"labelled_sha256": file_sha256(_labelled_file(settings.labelled))})


def _labelled_file(name: str) -> Path:
    path = Path(name)
    if not path.is_file():
        raise ConfigError(f"judge.labelled: there is no file {path}", hint="its path is from here")
    return path


def run(work: Work[Settings]) -> Outcome:
    """Write ``verdicts``: a score in [0, 1] and a reason for each answer.

    Raises:
        Refused: If it would take more calls or money than the config allows; nothing is asked then.
        DataError: If labelled cases cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    settings = work.settings
    rows = list(_rows(work.inputs["responses"], settings))
    labelled = _labelled(settings)
    asked = [one.case for one in rows] + [one.case for one in labelled]
    _check_cap(settings, asked)
    generator = work.adapters.generator(
        ModelReference(provider=settings.model["kind"], base=settings.model["base"]),
        settings.model,
    )
    spent = Spent()
    verdicts = _judge(work, generator, asked, spent)
    mine, theirs = verdicts[: len(rows)], verdicts[len(rows) :]
    found = _agreement(theirs, labelled, settings)
    about = _about(settings, mine, found)
    table = pa.Table.from_pylist(
        [
            {"contestant": one.contestant, "row_key": one.row_key, **asdict(verdict)}
            for one, verdict in zip(rows, mine, strict=True)
        ]
        + [*_of_baseline(work.inputs["responses"], settings)],
        schema=_schema(about),
    )
    pq.write_table(table, work.outputs["verdicts"])
    return Outcome(rows={"verdicts": table.num_rows}, facts=about | asdict(spent))


def _schema(about: Mapping[str, Any]) -> Any:
    import pyarrow as pa

    fields = [
        ("contestant", pa.string()),
        ("row_key", pa.string()),
        ("score", pa.float64()),
        ("reason", pa.string()),
        ("consistent", pa.bool_()),
    ]
    return pa.schema(fields, metadata={METADATA: canonical_json(about).encode()})


# ------------------------------------------------------------------------ cases


@dataclass(frozen=True)
class Judged:
    """One answer of a contestant and its case."""

    contestant: str
    row_key: str
    case: Case


def _responses(path: Path) -> list[Mapping[str, Any]]:
    import pyarrow.parquet as pq

    names = ["contestant", "row_key", "prompt", "reference", "text"]
    found: list[Mapping[str, Any]] = pq.read_table(path, columns=names).to_pylist()
    return found


def _rows(path: Path, settings: Settings) -> Iterator[Judged]:
    rows = _responses(path)
    of_baseline = (row for row in rows if row["contestant"] == settings.baseline)
    baseline = {row["row_key"]: row["text"] for row in of_baseline}
    for row in rows:
        if settings.method == "pairwise" and row["contestant"] == settings.baseline:
            continue
        other = baseline.get(row["row_key"]) if settings.method == "pairwise" else None
        case = Case(row["prompt"], row["reference"], row["text"], other)
        yield Judged(row["contestant"], row["row_key"], case)


def _of_baseline(path: Path, settings: Settings) -> Iterator[Mapping[str, Any]]:
    """Yield the baseline's own rows of a pairwise judgement: it is as good as itself."""
    if settings.method == "single":
        return
    for row in _responses(path):
        if row["contestant"] == settings.baseline:
            verdict = Verdict(0.5, "the baseline itself", None)
            yield {"contestant": row["contestant"], "row_key": row["row_key"], **asdict(verdict)}


@dataclass(frozen=True)
class Labelled:
    """A case that people have judged; ``label`` in [0, 1] as in ``Verdict.score``."""

    case: Case
    label: float


def _labelled(settings: Settings) -> list[Labelled]:
    """Read JSON Lines: question, answer, score; for pairwise question, a, b, preferred."""
    if settings.labelled is None:
        return []
    path = _labelled_file(settings.labelled)
    found = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            found.append(_label(json.loads(line), settings))
        except (ValueError, KeyError, TypeError) as exc:
            raise DataError(
                f"{path}, line {number} is no labelled case: {type(exc).__name__} {exc}",
                hint='{"question": ..., "answer": ..., "score": 4}, or for pairwise'
                ' {"question": ..., "a": ..., "b": ..., "preferred": "a"}',
            ) from exc
    if not found:
        raise DataError(f"{path} has no labelled case", hint="give some, or judge.labelled=null")
    return found


def _label(row: Mapping[str, Any], settings: Settings) -> Labelled:
    reference = row.get("reference")
    if settings.method == "pairwise":
        preferred = {"a": 1.0, "tie": 0.5, "b": 0.0}[row["preferred"]]
        return Labelled(Case(row["question"], reference, row["a"], row["b"]), preferred)
    rubric, score = settings.rubric, row["score"]
    if not rubric.lowest <= score <= rubric.highest:
        raise ValueError(f"score {score} is not on the scale")
    label = (score - rubric.lowest) / (rubric.highest - rubric.lowest)
    return Labelled(Case(row["question"], reference, row["answer"]), label)


# ---------------------------------------------------------------------- asking


def _check_cap(settings: Settings, cases: Sequence[Case]) -> None:
    """Refuse before the first call what could go over the cap."""
    each = 2 if settings.method == "pairwise" else 1
    calls = len(cases) * each
    if calls > settings.max_calls:
        raise Refused(
            f"the judge would be asked {calls} times, judge.max_calls is {settings.max_calls}",
            hint="lower evaluation.max_rows, or raise judge.max_calls",
        )
    if settings.max_cost is None:
        return
    if settings.price is None:
        raise ConfigError(
            "judge.max_cost needs the judge's price", hint="set judge.price={input: .., output: ..}"
        )
    read = sum(
        len(turn.text)
        for case in cases
        for chat in judging.chats(settings.method, settings.rubric, case)
        for turn in chat
    )
    tokens = read / CHARACTERS_A_TOKEN, calls * settings.max_new_tokens
    # twice, since an answer out of format is asked for once more
    cost = 2 * (tokens[0] * settings.price.input + tokens[1] * settings.price.output) / MILLION
    if cost > settings.max_cost:
        raise Refused(
            f"judging could cost up to {cost:.2f}, judge.max_cost is {settings.max_cost:g}",
            hint="lower evaluation.max_rows, or raise judge.max_cost",
        )


@dataclass
class Spent:
    """What was asked so far, kept verdicts among it."""

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    def add(self, response: Response) -> None:
        """Count one more verdict."""
        self.calls += 1
        self.input_tokens += response.prompt_tokens
        self.output_tokens += response.output_tokens


def _judge(
    work: Work[Settings], generator: Generator, cases: Sequence[Case], spent: Spent
) -> list[Verdict]:
    settings = work.settings
    asked = [judging.chats(settings.method, settings.rubric, case) for case in cases]
    flat = [chat for chats in asked for chat in chats]
    texts = _ask(work, generator, flat, spent)
    wanted = judging.output(settings.method, settings.rubric)
    wrong = [place for place, text in enumerate(texts) if not wanted.accepts(text)]
    if wrong:
        again = [_again(flat[place], texts[place]) for place in wrong]
        for place, text in zip(wrong, _ask(work, generator, again, spent), strict=True):
            texts[place] = text
    rest = iter(texts)
    return [
        judging.read(settings.method, settings.rubric, [next(rest) for _ in chats])
        for chats in asked
    ]


def _again(chat: Chat, text: str) -> Chat:
    return (*chat, Message("assistant", text or "(nothing)"), Message("user", judging.AGAIN))


def _ask(
    work: Work[Settings], generator: Generator, chats: Sequence[Chat], spent: Spent
) -> list[str]:
    settings = work.settings
    generation = GenerationSettings(
        max_new_tokens=settings.max_new_tokens,
        seed=settings.seed,
        output_schema=judging.output(settings.method, settings.rubric).for_provider(),
    )
    texts = []
    for response in generator.generate(chats, generation, work.progress):
        spent.add(response)
        texts.append(response.text)
    return texts


# ---------------------------------------------------------------------- result


def _agreement(
    verdicts: Sequence[Verdict], labelled: Sequence[Labelled], settings: Settings
) -> Agreement | None:
    if not labelled:
        return None
    labels = [one.label for one in labelled]
    return judging.agreement([one.score for one in verdicts], labels, settings.confidence)


def _about(
    settings: Settings, verdicts: Sequence[Verdict], found: Agreement | None
) -> dict[str, Any]:
    swapped = [one.consistent for one in verdicts if one.consistent is not None]
    rubric = settings.rubric
    return {
        "rubric": {"name": rubric.name, "version": rubric.version, "sha256": rubric.digest()},
        "method": settings.method,
        "model": settings.model["base"],
        "unread": sum(one.score is None for one in verdicts),
        "consistent_share": sum(swapped) / len(swapped) if swapped else None,
        "agreement": None if found is None else asdict(found),
    }


KIND = StepKind(
    name="judge",
    revision=1,
    run=run,
    settings=Settings,
    takes=(Port("responses", "parquet"),),
    gives=(Port("verdicts", "parquet"),),
    uses=("generator",),
    source=source,
    code=("llmops.evaluation.judging", "llmops.evaluation.intervals", "llmops.prompts.output"),
    summary="let a model judge the answers by a rubric, measured against labelled cases",
)
