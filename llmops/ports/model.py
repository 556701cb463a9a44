"""Models: tuning, generating, scoring, and texts as vectors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from llmops.ports.progress import Progress, TuningProgress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Message:
    """One turn of a chat; ``role`` is ``system``, ``user`` or ``assistant``."""

    role: str
    text: str


Chat = tuple[Message, ...]


@dataclass(frozen=True)
class ModelReference:
    """What a tuner returns and a generator takes. ``adapter`` is null for the untuned base.

    ``adapter`` is the sha256 of the adapter's folder object for a local model; ``endpoint`` is
    what a managed provider answers on.
    """

    provider: str
    base: str
    base_sha256: str | None = None
    tuned: str | None = None
    adapter: str | None = None
    endpoint: str | None = None
    prompt_sha256: str | None = None
    dataset_version: str | None = None


@dataclass(frozen=True)
class CurvePoint:
    """One point of a training curve; losses are nats per answer token, null if not measured."""

    step: int
    tokens: int
    train_loss: float | None
    validation_loss: float | None


@dataclass(frozen=True)
class TuningRequest:
    """Everything a tuner may know.

    ``train`` and ``validation`` are Parquet with the columns of the split step; the system text
    and user text are already rendered.
    """

    train: Path
    validation: Path | None
    system: str | None
    max_steps: int | None
    epochs: int | None
    max_examples: int | None
    seed: int
    output: Path  # a folder for the adapter (local) or what the provider returned (managed)
    scratch: Path  # checkpoints; survives a crash
    key: str  # the step key: labels a remote job so that it is never paid twice


@dataclass(frozen=True)
class Tuned:
    """What tuning gave."""

    tuned: str  # the tuned model's name
    endpoint: str | None
    curve: tuple[CurvePoint, ...]
    facts: Mapping[str, Any]  # steps, tokens, examples, truncated, device, precision, ...


class Tuner(Protocol):
    """Fits a base model to examples."""

    def tune(self, request: TuningRequest, progress: TuningProgress) -> Tuned:
        """Tune, going on from ``request.scratch`` if an earlier attempt left a checkpoint there.

        Raises:
            DataError: If no example can be used, or a provider limit is exceeded.
            Pending: If a remote job is still at work when the tuner's patience is over; the same
                request later goes on waiting for that very job.
            BackendError: If the model or the service fails.
        """
        ...


class RemoteTuner(Tuner, Protocol):
    """A tuner whose jobs run with a provider, and which may raise Pending."""

    def has_ended(self, job: str) -> bool:
        """Say whether the job that ``Pending`` named has ended, well or not. Costs nothing.

        Raises:
            BackendError: If the provider does not answer.
        """
        ...


@dataclass(frozen=True)
class TunedModel:
    """A tuned model that a provider keeps, whoever tuned it.

    ``title`` is its name for people and need not be the only one of that name.
    """

    title: str
    model: ModelReference
    made_at: str = ""  # ISO 8601; empty if the provider does not say


class Shelf(Protocol):
    """Lists what a provider keeps."""

    def tuned(self) -> Sequence[TunedModel]:
        """Return the tuned models, newest first where the provider tells their age.

        Raises:
            BackendError: If the service fails.
        """
        ...


@dataclass(frozen=True)
class GenerationSettings:
    """How to generate; ``temperature`` 0 is greedy.

    ``output_schema`` is a JSON Schema that a provider may be told to keep to; ``filters`` are the
    provider's own safety settings, category -> level, in the provider's words. ``search`` lets a
    provider that can search the web do so and cite what it finds.
    """

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    batch_rows: int = 16
    output_schema: Mapping[str, Any] | None = None
    filters: Mapping[str, str] = field(default_factory=dict)
    search: bool = False


@dataclass(frozen=True)
class Citation:
    """A passage that the provider says it repeats."""

    start: int
    end: int
    uri: str | None = None
    title: str | None = None
    licence: str | None = None


@dataclass(frozen=True)
class Passage:
    """A passage that was retrieved for a question. ``text`` may be cut."""

    id: str
    text: str
    title: str | None = None
    uri: str | None = None


@dataclass(frozen=True)
class Grounding:
    """What an answer rests on: passages, numbered from 1 in their order, and how it cites them.

    ``unknown`` are numbers that it cites although no such passage was retrieved. ``citations`` say
    where; the response has them too, among those that repeat a source.
    """

    passages: tuple[Passage, ...]
    cited: tuple[int, ...]
    unknown: tuple[int, ...]
    citations: tuple[Citation, ...] = ()


@dataclass(frozen=True)
class Response:
    """One answer, in the field's shape, whatever the provider.

    ``finish_reason`` is ``stop``, ``length``, ``safety``, ``recitation`` or ``error``. ``safety``
    is null where the provider rates nothing; a scorer may fill it in later. A category's
    probability stands under its name, its severity, where a provider tells one, under
    ``<name>_severity``; both in [0, 1]. ``block_reason`` is the provider's word for why it
    blocked; ``raw`` is what the provider answered, as plain JSON, where there is more to see.
    ``blocked_by`` tells a block of a chain's own step from the provider's. ``grounding`` is null
    where nothing was retrieved. ``trace`` has a plain object for each step of a chain.
    """

    text: str
    finish_reason: str
    prompt_tokens: int
    output_tokens: int
    blocked: bool = False
    safety: Mapping[str, float] | None = None
    citations: tuple[Citation, ...] = ()
    error: str | None = None
    block_reason: str | None = None
    latency_s: float | None = None
    raw: Mapping[str, Any] | None = None
    blocked_by: Literal["provider", "thresholds", "rules"] = "provider"
    grounding: Grounding | None = None
    trace: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class TokenScore:
    """The negative log-likelihood (nats, summed) of a reference answer and its token count.

    Counts answer and end-of-text tokens only, given the prompt.
    """

    nll: float
    tokens: int


class Generator(Protocol):
    """Answers chats with one model. ``can_score`` says whether ``score`` exists."""

    can_score: bool

    def generate(
        self, chats: Sequence[Chat], settings: GenerationSettings, progress: Progress
    ) -> Iterator[Response]:
        """Yield one response a chat, in order; a chat that fails yields ``finish_reason`` error.

        Raises:
            BackendError: If the model or the service fails as a whole.
        """
        ...

    def stream(self, chat: Chat, settings: GenerationSettings) -> Iterator[str | Response]:
        """Yield the answer's text in pieces as they come, and at last the whole `Response`.

        The pieces, joined, are the response's text, unless the provider withdraws what it said:
        then ``blocked`` is true and the text empty. Closing the iterator early stops the work.

        Raises:
            BackendError: If the model or the service fails as a whole.
        """
        ...

    def score(self, pairs: Iterable[tuple[Chat, str]], progress: Progress) -> Iterator[TokenScore]:
        """Yield the likelihood of each reference answer, in order."""
        ...


class Scorer(Protocol):
    """Rates texts for safety. ``categories`` are all it knows; its figures lie in [0, 1]."""

    categories: tuple[str, ...]
    is_safety_evaluation: bool  # False: the report must say what it is not
    description: str

    def score(self, texts: Sequence[str]) -> Sequence[Mapping[str, float] | None]:
        """Return a score per category for each text, or None where a text could not be scored."""
        ...


class Encoder(Protocol):
    """Turns texts into vectors: texts that mean nearly the same lie near each other."""

    description: str
    dimensions: int

    def encode(self, texts: Sequence[str], progress: Progress) -> NDArray[np.float32]:
        """Return one row a text, (texts, dimensions), each of length 1; an empty text counts too.

        So the cosine of two texts is the product of their rows. The same text gives the same row
        whatever stands beside it, to about 1e-6.
        """
        ...
