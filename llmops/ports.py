"""What the engine may ask of the outside world. Adapters in ``adapters/`` satisfy these by shape.

One Protocol a seam. Rows travel as Arrow batches, texts as plain strings; no adapter's own type
crosses a port.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from llmops.artifacts import Artifact, ArtifactKind

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray


class Progress(Protocol):
    """Told by long work how far it is; silent work need not call it."""

    def __call__(self, done: float, total: float | None, note: str = "") -> None:
        """Report ``done`` of ``total`` units (rows, steps, bytes); ``total`` is null if unknown."""
        ...


class TuningProgress(Progress, Protocol):
    """Told by a tuner how far it is and, where it measures that as it goes, the loss."""

    def __call__(
        self, done: float, total: float | None, note: str = "", *, loss: float | None = None
    ) -> None:
        """Report as ``Progress``; ``loss`` is the training loss of optimiser step ``done``."""
        ...


class LineageTarget(Protocol):
    """A service that keeps OpenLineage run events."""

    def send(self, event: Mapping[str, Any]) -> None:
        """Hand one event over.

        Raises:
            BackendError: If it cannot be reached or refuses.
        """
        ...


# ------------------------------------------------------------------ warehouse


@dataclass(frozen=True)
class Column:
    """A column by BigQuery's type name, e.g. ``STRING``, ``INT64``, ``TIMESTAMP``."""

    name: str
    type: str


@dataclass(frozen=True)
class Table:
    """A table of the warehouse; ``name`` is ``project.dataset.table``."""

    name: str
    columns: tuple[Column, ...]
    rows: int | None
    bytes: int | None
    version: str  # content digest (DuckDB) or last-modified time (BigQuery)
    source: str  # where the rows really come from, for people


@dataclass(frozen=True)
class QueryCheck:
    """What is known of a query before it runs (BigQuery: a dry run)."""

    columns: tuple[Column, ...]
    tables: Mapping[str, str]  # table name -> version; part of the ingest step's key
    bytes: int | None  # estimate of the bytes scanned
    notes: tuple[str, ...] = ()  # what the user should know, e.g. how a bare LIMIT is ordered
    unknown: str = ""  # why nothing else of this is known, e.g. that the sample is not filled yet


@dataclass(frozen=True)
class QueryStatistics:
    """What a query did; ``source`` names the real origin, e.g. ``duckdb://sample``.

    ``bytes`` were scanned, ``billed_bytes`` are on the bill, 0 if an earlier result was found
    again. ``snapshot`` is the moment at which the tables were read, where the config pins one.
    """

    source: str
    rows: int
    bytes: int | None = None
    job: str | None = None
    tables: Mapping[str, str] = field(default_factory=dict)
    billed_bytes: int | None = None
    snapshot: str | None = None


Parameter = bool | int | float | str | Sequence[bool | int | float | str]  # of a query: ``@name``


@dataclass(frozen=True)
class Origin:
    """On whose behalf a query runs: it labels the job, and names it so that it is paid once."""

    experiment: str
    run_id: str
    key: str  # the step key


class QueryResult(Protocol):
    """A running query: read ``batches`` to the end, then ask ``statistics``."""

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the result once, in bounded memory.

        Raises:
            BackendError: If the warehouse fails in mid-stream.
        """
        ...

    def statistics(self) -> QueryStatistics:
        """Return what the query did; valid after the last batch."""
        ...


class Warehouse(Protocol):
    """A SQL store that examples are read from. SQL is BigQuery's dialect everywhere."""

    def tables(self) -> Sequence[Table]:
        """List the tables, sorted by name."""
        ...

    def preview(self, table: str, rows: int) -> Iterator[pa.RecordBatch]:
        """Yield some rows of a table, whichever come first, at no cost.

        Raises:
            ConfigError: If there is no such table.
            BackendError: If the warehouse fails.
        """
        ...

    def check(
        self,
        sql: str,
        *,
        parameters: Mapping[str, Parameter] | None = None,
        max_rows: int | None = None,
    ) -> QueryCheck:
        """Say what ``sql`` would read and give, without running it.

        Raises:
            ConfigError: If it is not one SELECT, does not parse, uses a construct that this
                warehouse would silently read differently, names an unknown table or column, or
                a parameter that is not among ``parameters``.
            BackendError: If the warehouse fails.
        """
        ...

    def query(
        self,
        sql: str,
        *,
        parameters: Mapping[str, Parameter] | None = None,
        max_bytes: int | None = None,
        max_rows: int | None = None,
        origin: Origin | None = None,
    ) -> QueryResult:
        """Start one read-only SELECT; ``max_rows`` keeps that many rows by content hash order.

        Asked again with the same ``origin``, a query that was already paid for is not run again.

        Raises:
            ConfigError: As ``check``.
            Refused: If the query would scan more than ``max_bytes``, or the warehouse allows.
            BackendError: If the warehouse fails.
        """
        ...

    def export(
        self,
        sql: str,
        to: str,
        *,
        parameters: Mapping[str, Parameter] | None = None,
        max_bytes: int | None = None,
        origin: Origin | None = None,
    ) -> str:
        """Write the rows of one SELECT as JSON Lines; none of them passes through the caller.

        Args:
            sql: As for ``query``.
            to: The files' address without its end: ``gs://bucket/folder/train`` for BigQuery, a
                path of this machine for a warehouse on it.
            parameters: As for ``query``.
            max_bytes: As for ``query``.
            origin: As for ``query``.

        Returns:
            The address of the file or files, with a ``*`` where there are several.

        Raises:
            ConfigError: As ``check``, or if the warehouse cannot write to ``to``.
            Refused: As ``query``.
            BackendError: If the warehouse fails, or there is no room.
        """
        ...


# ---------------------------------------------------------------------- store


@dataclass(frozen=True)
class IndexEntry:
    """What a finished step left under its key."""

    key: str
    step: str
    kind: str
    revision: int
    settings: Mapping[str, Any]  # leaf path -> value
    inputs: Mapping[str, str]  # input name -> sha256
    source: Mapping[str, Any]  # what the key knows of the outside world, e.g. table versions
    outputs: Mapping[str, Artifact]
    facts: Mapping[str, Any]  # what the step reported: counts, figures, names
    run_id: str
    seconds: float


@dataclass(frozen=True)
class StoredObject:
    """An object as the store keeps it; ``modified`` is POSIX time, in seconds."""

    sha256: str
    bytes: int
    modified: float


class Store(Protocol):
    """Content-addressed objects plus the index ``step key -> artifacts``."""

    def put(self, path: Path, kind: ArtifactKind, *, rows: int | None = None) -> Artifact:
        """Publish a finished file or folder; the same content is stored once.

        Raises:
            BackendError: If the disk or bucket refuses.
        """
        ...

    def put_text(self, text: str) -> Artifact:
        """Publish a small JSON or YAML text as an object of kind ``json``."""
        ...

    def find(self, sha256: str) -> Artifact:
        """Return the reference of the object with this digest.

        Raises:
            BackendError: If the store has no such object.
        """
        ...

    def reference_uri(self, artifact: Artifact) -> str:
        """Return the address of the artifact's reference file, for an engine to import."""
        ...

    def local_path(self, artifact: Artifact) -> Path:
        """Return a verified local path of the object, fetching it if need be. Never write there.

        Raises:
            DamagedObject: If it is missing or damaged; a damaged one is set aside as ``*.bad``.
        """
        ...

    def entry(self, key: str) -> IndexEntry | None:
        """Return the index entry whose objects all exist, or None."""
        ...

    def record(self, entry: IndexEntry) -> None:
        """Write the index entry; call it last, after every output is published."""
        ...

    def lock(self, key: str) -> Any:
        """Return a context manager: one process at a time works on ``key``."""
        ...

    def scratch(self, key: str) -> Path:
        """Return a local folder that survives a crash of the step with this key.

        What ``keep`` was given is in it, also on another machine.
        """
        ...

    def keep(self, key: str, path: Path) -> None:
        """Let a file that lies in the scratch folder outlive this machine, if the store does.

        Raises:
            BackendError: If the store cannot be written.
        """
        ...

    def clear_scratch(self, key: str) -> None:
        """Remove the scratch folder of a step that is done."""
        ...

    def temporary(self) -> Path:
        """Return a fresh local folder for work that will be published."""
        ...

    def clear_temporary(self) -> None:
        """Remove what killed processes left of ``temporary`` folders."""
        ...

    def write_report(self, run_id: str, step: str, report: Mapping[str, Any]) -> None:
        """Keep what a worker says of its step in this run: status, error, key, timings."""
        ...

    def read_report(self, run_id: str, step: str) -> Mapping[str, Any] | None:
        """Return what was kept by ``write_report``, or None."""
        ...

    def objects(self) -> Iterator[StoredObject]:
        """Yield every object, the files of folders and their manifests too, in no order."""
        ...

    def entries(self) -> Iterator[IndexEntry]:
        """Yield every index entry that can be read, whether or not its objects still exist."""
        ...

    def reported_runs(self) -> Sequence[str]:
        """Return the ids of the runs that left reports, sorted: of every workspace that uses it."""
        ...

    def reports(self, run_id: str) -> Mapping[str, Mapping[str, Any]]:
        """Return the readable reports of a run by the name of their step; empty if there are none.

        The parent's own notes, e.g. ``_request``, are among them.
        """
        ...

    def parts(self, artifact: Artifact) -> frozenset[str]:
        """Return the digests of the objects that an artifact is made of, its own among them.

        A folder whose manifest is gone or damaged is only itself.
        """
        ...

    def intact(self, sha256: str) -> bool:
        """Say whether the object's bytes are what its name says; reads all of them.

        Raises:
            BackendError: If they cannot be read.
        """
        ...

    def unreadable_entries(self) -> Sequence[str]:
        """Return the keys of the index entries that cannot be read, sorted."""
        ...

    def set_aside(self, sha256: str) -> None:
        """Keep a damaged object as ``*.bad``, where nothing takes it for the object any more."""
        ...

    def remove_object(self, sha256: str) -> None:
        """Remove an object with its reference and its unpacked folder; nothing if it is not there.

        Never call it for what an index entry or a run that is kept still names.
        """
        ...

    def remove_entry(self, key: str) -> None:
        """Forget a finished step, so that it runs again; its objects stay."""
        ...

    def remove_reports(self, run_id: str) -> None:
        """Remove what the workers of a run reported."""
        ...


# ----------------------------------------------------------------- the models


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


# ------------------------------------------------------------------- registry


@dataclass(frozen=True)
class ModelVersion:
    """A registered model; ``digest`` makes registering the same model twice one version."""

    name: str
    version: int
    model: ModelReference
    digest: str
    aliases: tuple[str, ...]
    labels: Mapping[str, str]
    registered_by: str  # run id


HistoryEvent = Literal["move", "rollback", "drop", "delete"]
ANY = -1  # ``set_alias`` moves the alias whatever it points at


@dataclass(frozen=True)
class AliasMove:
    """One thing that happened to a model: an alias moved or was dropped, or a version was deleted.

    ``before`` is the version that the alias left, null if it is new; ``version`` is where it went,
    null if it was dropped. A deletion has no alias; its ``before`` is what was deleted. ``forced``
    says that no passed gate stood behind it.
    """

    alias: str | None
    before: int | None
    version: int | None
    reason: str
    at: str  # UTC, ISO 8601
    event: HistoryEvent = "move"
    forced: bool = False


class Registry(Protocol):
    """Named, versioned models with movable aliases. Nothing in a history is ever taken back."""

    def register(
        self, name: str, model: ModelReference, *, labels: Mapping[str, str], run_id: str
    ) -> ModelVersion:
        """Register a model, or return the version that already holds it.

        The number of a deleted version is never given again.
        """
        ...

    def set_alias(
        self,
        name: str,
        alias: str,
        version: int,
        *,
        reason: str,
        expected: int | None = ANY,
        forced: bool = False,
    ) -> ModelVersion:
        """Point ``alias`` at ``version``; atomic under two writers; kept in the history.

        Args:
            name: The model.
            alias: Any plain name that is no number.
            version: An existing version.
            reason: Why, for the history.
            expected: The version that the alias must point at when it is moved, None for an alias
                that must be new; ``ANY`` moves it whatever it points at.
            forced: Noted in the history.

        Raises:
            ConfigError: If the model or version is unknown, or the alias is no plain name.
            Refused: If the alias does not point at ``expected``; nothing was moved.
        """
        ...

    def rollback(self, name: str, alias: str, *, reason: str) -> ModelVersion:
        """Point ``alias`` at the version that it held before its last move; kept in the history.

        A second rollback goes one further back. Deleted versions are passed over.

        Raises:
            ConfigError: If the model or alias is unknown, or the alias held nothing before.
        """
        ...

    def drop_alias(self, name: str, alias: str, *, reason: str) -> None:
        """Remove an alias; kept in the history.

        Raises:
            ConfigError: If the model or alias is unknown.
        """
        ...

    def delete(self, name: str, version: int, *, reason: str) -> None:
        """Delete a version that no alias points at; kept in the history.

        Raises:
            ConfigError: If the model or version is unknown.
            Refused: If an alias points at it.
        """
        ...

    def get(self, name: str, alias_or_version: str) -> ModelVersion:
        """Return one version.

        Raises:
            ConfigError: If the model, version or alias is unknown, with the nearest name.
        """
        ...

    def history(self, name: str) -> Sequence[AliasMove]:
        """Return what happened to a model's aliases and versions, oldest first.

        Raises:
            ConfigError: If the model is unknown.
        """
        ...

    def list(self) -> Sequence[ModelVersion]:
        """Return every version that was not deleted, by name, then newest first."""
        ...


# ------------------------------------------------------------------- exporter


@dataclass(frozen=True)
class Exported:
    """A model written out for other programs; ``files`` are relative to the folder."""

    folder: Path
    files: tuple[str, ...]
    bytes: int


class Exporter(Protocol):
    """Writes a model's weights so that programs other than llmops load them."""

    def export(self, model: ModelReference, adapter: Path | None, target: Path) -> Exported:
        """Write the tuned model, the adapter merged into its base, into the new folder ``target``.

        Raises:
            ConfigError: If ``target`` exists and is not empty.
            BackendError: If the base is not here, or the disk refuses; ``target`` is not left
                half-written.
        """
        ...
