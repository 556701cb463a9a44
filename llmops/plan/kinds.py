"""What a step is: its settings, inputs, outputs, the ports it uses and the function that works.

A step kind declares which leaves of the resolved config it reads by the fields of a frozen
dataclass; nothing else of the config reaches it, and exactly those leaves enter its key.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from llmops.artifacts import ArtifactKind

if TYPE_CHECKING:
    from llmops.ports.model import Encoder, Generator, ModelReference, Scorer, Tuner
    from llmops.ports.progress import TuningProgress
    from llmops.ports.registry import Registry
    from llmops.ports.warehouse import Warehouse

S = TypeVar("S")


def leaf(
    path: str, *, in_key: bool = True, without: tuple[str, ...] = (), optional: bool = False
) -> Any:
    """Declare a settings field that is read from ``path`` of the resolved config.

    ``path`` is dotted and may name a whole subtree. One that starts with ``with.`` is read from
    the step's own block in the pipeline file. One that cannot change the result, such as a memory
    limit, is left out of the step's key by ``in_key=False``; ``without`` names such parts of a
    subtree, dotted below ``path``, which need not be there. An ``optional`` one that the config
    lacks is null and leaves the key as if the kind did not read it.
    """
    metadata = {"leaf": path, "in_key": in_key, "without": without, "optional": optional}
    return field(default=None, metadata=metadata) if optional else field(metadata=metadata)


@dataclass(frozen=True)
class Port:
    """An input or output of a step, by name and kind of artifact."""

    name: str
    kind: ArtifactKind
    any_kind: bool = False  # an input that takes an artifact of any kind
    optional: bool = (
        False  # an optional input that the pipeline leaves out is absent from ``inputs``
    )


class OpenGenerator(Protocol):
    """Opens the generator of a model."""

    def __call__(
        self,
        reference: ModelReference,
        model: Mapping[str, Any] | None = None,
        weights: Path | None = None,
    ) -> Generator:
        """Open ``reference`` by the config's ``model`` group, or by another one of its shape.

        ``weights`` is the folder of a tuned model that is no object of the store by itself.
        """
        ...


@dataclass(frozen=True)
class Adapters:
    """The open seams. A step may use only those that its kind names in ``uses``."""

    warehouse: Callable[[], Warehouse]
    tuner: Callable[[], Tuner]
    generator: OpenGenerator
    scorer: Callable[[], Scorer]
    registry: Callable[[], Registry]
    encoder: Callable[[], Encoder]
    # Told of a step's scratch folder and of its ``keep`` before the step works: what models have
    # answered an earlier worker on it, on another machine, is not asked again.
    take_over: Callable[[Path, Callable[[Path], None]], None] = lambda scratch, keep: None


@dataclass(frozen=True)
class Work(Generic[S]):
    """What a step is given. ``inputs`` are verified paths, never to be written to."""

    step: str
    key: str
    run_id: str
    settings: S
    inputs: Mapping[str, Path]
    digests: Mapping[str, str]  # input name -> sha256 of that artifact
    outputs: Mapping[str, Path]  # output name -> where to write it
    adapters: Adapters
    progress: TuningProgress
    scratch: Path  # survives a crash of this very step; for checkpoints
    experiment: str = ""  # its name, for the labels of remote jobs
    # Lets a file of ``scratch`` outlive this machine, where the store does.
    keep: Callable[[Path], None] = lambda path: None


@dataclass(frozen=True)
class Outcome:
    """What a step says of its work: rows per output, and facts for the record (plain JSON)."""

    rows: Mapping[str, int] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """What a step knows of the outside world before it runs.

    ``facts`` (plain JSON) enter the step's key; ``notes`` are sentences for the plan's reader;
    ``bytes`` is an estimate of what the step will read. ``known`` is false where the outside
    world cannot be asked now: the step then has no key before it runs.
    """

    facts: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    bytes: int | None = None
    known: bool = True


@dataclass(frozen=True)
class OwnImage:
    """A container of a step's own: the worker cannot do its work, only an engine can start it.

    ``component`` is the text of its KFP component file; ``results`` are its output parameters,
    name -> KFP's type.
    """

    image: str
    component: str
    results: Mapping[str, str]


@dataclass(frozen=True)
class StepKind:
    """A kind of step. Raise ``revision`` when its result changes for the same inputs.

    ``code`` names further modules whose code decides the result; a test watches them together
    with the module of ``run``. ``source``, if given, says what the key must know of the outside
    world (plain JSON); it is asked before planning and again by the worker. ``verify``, if given,
    is called on a cache hit with the recorded facts and says whether the hit still holds, e.g.
    whether a registered model still exists. ``check``, if given, is called with the settings and
    the step's name when a config is checked, and raises ConfigError.
    """

    name: str
    revision: int
    run: Callable[[Work[Any]], Outcome]
    settings: type
    takes: tuple[Port, ...] = ()
    gives: tuple[Port, ...] = ()
    uses: tuple[str, ...] = ()
    code: tuple[str, ...] = ()
    summary: str = ""
    source: Callable[[Any, Adapters], Source] | None = None
    verify: Callable[[Any, Adapters, Mapping[str, Any]], bool] | None = None
    check: Callable[[Any, str], None] | None = None
    own_image: OwnImage | None = None

    @property
    def reads(self) -> tuple[str, ...]:
        """The dotted config paths that this kind reads, sorted."""
        return tuple(sorted(f.metadata["leaf"] for f in dataclasses.fields(self.settings)))

    @property
    def optional_reads(self) -> frozenset[str]:
        """The paths that are read where the config has them."""
        fields = dataclasses.fields(self.settings)
        return frozenset(f.metadata["leaf"] for f in fields if f.metadata.get("optional"))

    @property
    def without_effect(self) -> frozenset[str]:
        """The paths that are read and cannot change the result, and so are not in the key."""
        return frozenset(
            path for f in dataclasses.fields(self.settings) for path in _without_effect(f.metadata)
        )


def _without_effect(declared: Mapping[str, Any]) -> list[str]:
    path = declared["leaf"]
    if not declared.get("in_key", True):
        return [path]
    return [f"{path}.{part}" for part in declared.get("without", ())]


KindTable = Mapping[str, StepKind]
