"""Composes an experiment with Hydra. Only this module and ``sweep`` know Hydra and OmegaConf.

What leaves it is plain: dicts, lists, texts, numbers, booleans, None. It knows no schema and no
meaning of any key.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_search_path import ConfigSearchPath, SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from llmops.config import documents, expansion, project
from llmops.config.documents import Document
from llmops.config.problems import KeyPath
from llmops.errors import ConfigError, ConfigProblems, LlmopsError, unknown_name

HYDRA_VERSION_BASE = "1.3"
COMPOSITION_ERRORS = (
    HydraException,
    OmegaConfBaseException,
    LlmopsError,
    ValueError,
    RecursionError,
)
SQL_NAME = re.compile(r"[a-z0-9_]+")
_one_at_a_time = threading.RLock()  # Hydra keeps its state in process-wide singletons


@dataclass(frozen=True)
class Merged:
    """A config as Hydra merged it: its path without suffix, and the package it went to."""

    config_path: str
    package: KeyPath


@dataclass(frozen=True)
class Composed:
    """An experiment after composition. ``config`` is the resolved config, without Hydra's node.

    ``merged`` names its files in the order of merging.
    """

    config: dict[str, Any]
    overrides: tuple[str, ...]
    documents: Mapping[Path, Document] = field(repr=False, compare=False, default_factory=dict)
    merged: tuple[Merged, ...] = field(repr=False, compare=False, default=())


@dataclass(frozen=True)
class Failure:
    """A leaf without a value: ``kind`` is ``missing`` (``???``), ``interpolation`` or ``large``."""

    path: KeyPath
    kind: str
    raw: str
    why: str
    hint: str = ""


@dataclass(frozen=True)
class Draft:
    """A composition in which some leaves may lack a value; those are left out of ``config``."""

    config: dict[str, Any]
    failures: tuple[Failure, ...]
    documents: Mapping[Path, Document]
    merged: tuple[Merged, ...]


class CompositionFailed(ConfigError):
    """The files do not compose; carries those that were read, and the choice that is missing."""

    def __init__(self, cause: Exception, documents: tuple[Document, ...]) -> None:
        super().__init__(str(cause))
        self.documents = documents
        missing = getattr(cause, "missing_cfg_file", None)
        self.group, _, self.choice = str(missing or "").rpartition("/")


@dataclass(frozen=True)
class Layer:
    """A config file in the order of merging, and the key path that its content lands under.

    ``hidden`` are the files of the same name that it shadows, nearest first.
    """

    document: Document
    package: KeyPath
    hidden: tuple[Document, ...] = ()


@dataclass(frozen=True)
class Override:
    """A parsed override. ``key`` is dotted, or a group's name; ``sweep``: it has several values."""

    text: str
    key: str
    value: Any
    sweep: bool
    adds: bool
    deletes: bool


def compose(overrides: Sequence[str]) -> Composed:
    """Compose an experiment from overrides such as ``+experiment=so_python tuning.max_steps=20``.

    Raises:
        ConfigProblems: If a file or override cannot be used, or a value is missing.
    """
    wanted = canonical(overrides)
    failure: Exception | None = None
    with _one_at_a_time, _Reading() as reading:
        try:
            _check_overrides(wanted)
            config = _resolved(_load(wanted))
        except COMPOSITION_ERRORS as exc:
            failure = exc
    if failure or reading.problems:
        raise _explained(wanted, failure)
    return Composed(config, wanted, reading.documents, reading.merged)


def group(name: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Compose one config group by itself, e.g. ``warehouse``, without an experiment.

    A leaf that takes its value from outside the group, where it is missing, is left out.

    Raises:
        ConfigProblems: If an override cannot be used, or the group itself lacks a value.
    """
    wanted = canonical(overrides)
    failure: Exception | None = None
    made = Draft({}, (), {}, ())
    try:
        _check_overrides(wanted)
        made = draft(wanted)
    except COMPOSITION_ERRORS as exc:
        failure = exc
    missing = any(f.path[0] == name and f.kind == "missing" for f in made.failures)
    unusable = any(document.problems for document in made.documents.values())
    if failure or missing or unusable:
        raise _explained(wanted, failure, within=name)
    if name not in made.config:
        raise unknown_name("config group", name, project.groups(), where="config")
    chosen: dict[str, Any] = made.config[name]
    return chosen


def draft(overrides: Sequence[str]) -> Draft:
    """Compose as far as possible: leaves without a value are told of, not raised.

    Raises:
        CompositionFailed: If the files do not compose at all.
    """
    with _one_at_a_time, _Reading() as reading:
        failures: list[Failure] = []
        try:
            loaded = _load(canonical(overrides))
            config = _lenient(loaded, (), failures, _too_large(loaded))
        except COMPOSITION_ERRORS as exc:
            raise CompositionFailed(exc, tuple(reading.documents.values())) from exc
        return Draft(config, tuple(failures), reading.documents, reading.merged)


def layers(composed: Composed | Draft) -> tuple[Layer, ...]:
    """Return the config files of a composition in the order in which they were merged."""
    with _Reading(composed.documents):
        return tuple(
            Layer(found[0], one.package, found[1:])
            for one in composed.merged
            if (found := _documents(one.config_path))
        )


def canonical(overrides: Sequence[str]) -> tuple[str, ...]:
    """Return the overrides as Hydra wants them: ``experiment=x`` stands for ``+experiment=x``."""
    return tuple("+" + text if text.startswith("experiment=") else text for text in overrides)


def parse_override(text: str) -> Override:
    """Parse one override.

    Raises:
        HydraException: If it does not follow Hydra's grammar.
    """
    parsed = OverridesParser.create().parse_overrides([text])[0]
    return Override(
        text=text,
        key=str(parsed.key_or_group),
        value=None if parsed.is_sweep_override() else parsed.value(),
        sweep=parsed.is_sweep_override(),
        adds=parsed.is_add() or parsed.is_force_add(),
        deletes=parsed.is_delete(),
    )


def refused_override(text: str) -> documents.RefusedInterpolation | None:
    """Say why an override is refused before it reaches Hydra, or return None."""
    if "_target_" in text:
        return documents.RefusedInterpolation(
            "no _target_: config never names code to run",
            "_target_",
            "choose an adapter by its `kind`",
        )
    if text.lstrip("+~").startswith("hydra.searchpath"):
        return documents.RefusedInterpolation(
            "no search path of its own",
            "hydra.searchpath",
            "put files into conf/ of the project, or set LLMOPS_CONF",
        )
    return documents.refused_interpolation(text)


# ------------------------------------------------------------ one composition


class _Reading:
    """The documents that one composition reads; each file is read and parsed once."""

    def __init__(self, known: Mapping[Path, Document] | None = None) -> None:
        self.documents: dict[Path, Document] = dict(known or {})
        self.merged: tuple[Merged, ...] = ()

    @property
    def problems(self) -> bool:
        return any(document.problems for document in self.documents.values())

    def read(self, path: Path, label: str) -> Document:
        if path not in self.documents:
            self.documents[path] = documents.read(path, label)
        return self.documents[path]

    def __enter__(self) -> _Reading:
        self._token = _reading.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        _reading.reset(self._token)


_reading: ContextVar[_Reading | None] = ContextVar("llmops_config_reading", default=None)


@contextmanager
def loader_session() -> Iterator[Any]:
    """Lend Hydra's config loader, set up for the config folders."""
    register_plugins()
    packaged = str(project.packaged_conf())
    outer = GlobalHydra.instance().hydra  # set within a sweep that Hydra runs
    GlobalHydra.instance().hydra = None
    try:
        with hydra.initialize_config_dir(packaged, "llmops", version_base=HYDRA_VERSION_BASE):
            yield GlobalHydra.instance().config_loader()
    finally:
        GlobalHydra.instance().hydra = outer


def _load(overrides: Sequence[str]) -> DictConfig:
    with loader_session() as loader:
        _remember_order(loader)
        return hydra.compose("config", overrides=list(overrides))


def _remember_order(loader: Any) -> None:
    """Keep the list that Hydra merges; asking it for the list anew takes as long as composing."""
    merge = loader._compose_config_from_defaults_list

    def merge_and_remember(*, defaults: Sequence[Any], repo: Any) -> DictConfig:
        reading = _reading.get()
        if reading is not None:
            reading.merged = tuple(
                Merged(one.config_path, _package(one.package))
                for one in defaults
                if one.config_path
            )
        merged: DictConfig = merge(defaults=defaults, repo=repo)
        return merged

    loader._compose_config_from_defaults_list = merge_and_remember


def _too_large(config: DictConfig) -> set[KeyPath]:
    plain = OmegaConf.to_container(config, resolve=False)
    assert isinstance(plain, dict)
    return expansion.too_large(plain, _sql_characters)  # type: ignore[arg-type]


def _sql_characters(name: str) -> int:
    path = project.find_file(f"sql/{name}.sql")
    return path.stat().st_size if path else 0


def _resolved(config: DictConfig) -> dict[str, Any]:
    if _too_large(config):
        raise ConfigError(f"its values exceed the limits: {expansion.LIMITS}")
    plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert isinstance(plain, dict)
    return plain  # type: ignore[return-value]


def _lenient(node: Any, path: KeyPath, failures: list[Failure], too_large: set[KeyPath]) -> Any:
    """Convert a node leaf by leaf, leaving out those without a value, or with too large a one."""
    if isinstance(node, ListConfig):
        keys: Sequence[Any] = range(len(node))
    else:
        keys = list(node.keys())
    items: dict[Any, Any] = {}
    for key in keys:
        value = _leaf(node, key, (*path, str(key)), failures, too_large)
        if value is not _ABSENT:
            items[key] = value
    return list(items.values()) if isinstance(node, ListConfig) else items


_ABSENT = object()


def _leaf(
    parent: Any, key: Any, path: KeyPath, failures: list[Failure], too_large: set[KeyPath]
) -> Any:
    if path in too_large:
        raw = str(OmegaConf.to_container(parent, resolve=False)[key])  # type: ignore[index]
        failures.append(Failure(path, "large", raw, f"expected {expansion.LIMITS}"))
        return _ABSENT
    if OmegaConf.is_missing(parent, key) and not OmegaConf.is_interpolation(parent, key):
        failures.append(Failure(path, "missing", "???", ""))
        return _ABSENT
    try:
        value = parent[key]
        if isinstance(value, DictConfig | ListConfig):
            if OmegaConf.is_interpolation(parent, key):
                return OmegaConf.to_container(value, resolve=True, throw_on_missing=True)
            return _lenient(value, path, failures, too_large)
    except OmegaConfBaseException as exc:
        raw = str(OmegaConf.to_container(parent, resolve=False)[key])  # type: ignore[index]
        failures.append(_failure(path, raw, exc))
        return _ABSENT
    return value


def _failure(path: KeyPath, raw: str, exc: BaseException) -> Failure:
    cause: BaseException | None = exc if "llmops.sql" in raw else None
    while cause is not None:  # OmegaConf keeps the resolver's own error as the context only
        if isinstance(cause, LlmopsError):
            return Failure(path, "interpolation", raw, cause.problem, cause.hint)
        cause = cause.__cause__ or cause.__context__
    return Failure(path, "interpolation", raw, str(exc).splitlines()[0])


def _check_overrides(overrides: Sequence[str]) -> None:
    for text in overrides:
        refused = refused_override(text)
        if refused:
            raise ConfigError(f"{text}: expected {refused.expected}", hint=refused.hint)


def _explained(
    overrides: Sequence[str], cause: Exception | None = None, *, within: str | None = None
) -> ConfigError:
    """Find every problem of a composition that failed; slow, so only on failure."""
    from llmops.config import diagnose

    problems = diagnose.problems(overrides, within=within)
    if problems:
        return ConfigProblems([str(problem) for problem in problems])
    return ConfigError(f"the config does not compose: {cause}")


def _package(package: str | None) -> KeyPath:
    return tuple(part for part in (package or "").split(".") if part and part != "_global_")


def _documents(config_path: str) -> tuple[Document, ...]:
    """Return the file that is composed, then those of the same name that it shadows."""
    reading = _reading.get()
    assert reading is not None
    return tuple(
        reading.read(path, f"{folder.label}/{config_path}.yaml")
        for folder in project.conf_folders()
        if (path := folder.path / f"{config_path}.yaml").is_file()
    )


# ------------------------------------------------------------- Hydra's plugins


class ConfSource(ConfigSource):
    """Reads config files through ``documents``: safe, with libyaml's parser, each once."""

    @staticmethod
    def scheme() -> str:
        """Return the scheme of this source's addresses."""
        return "llmops"

    def load_config(self, config_path: str) -> ConfigResult:
        """Read one file. What is wrong with it is kept for ``compose`` to tell."""
        if not self.is_config(config_path):
            raise ConfigLoadError(f"there is no {config_path}")
        document = self._read(config_path)
        return ConfigResult(
            config=OmegaConf.create(document.value),
            path=self.full_path(),
            provider=self.provider,
            header={"package": document.package},
        )

    def _read(self, config_path: str) -> Document:
        path = self._file(config_path)
        label = next(
            (folder.label for folder in project.conf_folders() if str(folder.path) == self.path),
            self.path,
        )
        reading = _reading.get() or _Reading()
        return reading.read(path, f"{label}/{path.relative_to(self.path).as_posix()}")

    def _file(self, config_path: str) -> Path:
        return Path(self.path, config_path.removesuffix(".yaml") + ".yaml")

    def available(self) -> bool:
        """Say whether the folder exists."""
        return Path(self.path).is_dir()

    def is_group(self, config_path: str) -> bool:
        """Say whether a folder of this name exists."""
        return Path(self.path, config_path).is_dir()

    def is_config(self, config_path: str) -> bool:
        """Say whether a file of this name exists."""
        return self._file(config_path).is_file()

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """Return the names of groups and files in a folder, sorted."""
        found: list[str] = []
        for path in Path(self.path, config_path).iterdir():
            self._list_add_result(
                found, f"{config_path}/{path.name}".lstrip("/"), path.name, results_filter
            )
        return sorted(set(found))


class ConfSearchPath(SearchPathPlugin):
    """Puts the project's config before the packaged one, so that it shadows it.

    Hydra's own means (``--config-dir``, ``hydra.searchpath``) can add files but never shadow one.
    """

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Change the search path of llmops' own compositions; leave other applications' alone."""
        packaged = str(project.packaged_conf())
        for element in search_path.get_path():
            if element.provider == "main" and element.path == packaged:
                element.path = f"llmops://{packaged}"
                self._prepend_project(search_path)
                return

    def _prepend_project(self, search_path: ConfigSearchPath) -> None:
        own, *packaged = project.conf_folders()
        if packaged:
            search_path.prepend(
                "llmops-project", f"llmops://{own.path}", SearchPathQuery(provider="main")
            )


def register_plugins() -> None:
    """Make the two plugins and the resolvers known to this process; doing it again is harmless."""
    plugins = Plugins.instance()
    plugins.register(ConfSource)
    plugins.register(ConfSearchPath)
    OmegaConf.register_new_resolver("llmops.sql", read_sql, replace=True)
    OmegaConf.register_new_resolver("secret", _secret_reference, replace=True)


def read_sql(name: str) -> str:
    """Return the text of ``conf/sql/NAME.sql``.

    Raises:
        ConfigError: If the name is no plain name or there is no such file.
    """
    if not SQL_NAME.fullmatch(name):
        raise ConfigError(
            f"'{name}' cannot be the name of a query", hint="use letters, digits and _ only"
        )
    path = project.find_file(f"sql/{name}.sql")
    if path and path.stat().st_size > documents.MAX_FILE_BYTES:
        raise ConfigError(f"the query '{name}' is larger than 256 KB", hint="write a shorter one")
    if path is None:
        known = project.names("sql", ".sql")
        raise unknown_name("query", name, known, where=f"conf/sql/{name}.sql")
    return path.read_text("utf-8").rstrip() + "\n"


def _secret_reference(name: str) -> str:
    """Keep a secret a reference: the adapter that needs it reads the value."""
    return f"${{secret:{name}}}"
