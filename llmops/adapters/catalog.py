"""Name -> adapter, for every port: the only list of adapters, and the only table to edit.

A config chooses an adapter by its ``kind``. Modules are imported when one is opened, so that a
run pays only for what it uses.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from llmops.config.knowledge import PROVIDERS
from llmops.errors import ConfigError, MissingExtra, unknown_name
from llmops.plan.kinds import Adapters

if TYPE_CHECKING:
    from llmops.adapters.model.answers import Kept
    from llmops.ports.model import Encoder, Generator, ModelReference
    from llmops.ports.registry import Registry
    from llmops.ports.store import Store


class Entry(NamedTuple):
    """The function that opens an adapter, and the extra that brings its packages.

    One in the ``cloud`` is opened with the keyword ``environment``, the config's ``env`` section.
    """

    module: str
    function: str
    extra: str | None = None
    cloud: bool = False


ADAPTERS: Mapping[str, Mapping[str, Entry]] = {
    "warehouse": {
        "duckdb": Entry("llmops.adapters.warehouse.duckdb", "open_warehouse"),
        "bigquery": Entry(
            "llmops.adapters.warehouse.bigquery", "open_warehouse", "gcp", cloud=True
        ),
    },
    "store": {
        "folder": Entry("llmops.adapters.store.folder", "open_store"),
        "gcs": Entry("llmops.adapters.store.gcs", "open_store", "gcp", cloud=True),
        "fsspec": Entry("llmops.adapters.store.fsspec", "open_store"),
    },
    "tuner": {
        "local": Entry("llmops.adapters.model.local_tuner", "open_tuner", "local"),
        "gemini": Entry("llmops.adapters.model.gemini_tuner", "open_tuner", "gcp", cloud=True),
    },
    "generator": {
        "local": Entry("llmops.adapters.model.local_generator", "open_generator", "local"),
        "gemini": Entry(
            "llmops.adapters.model.gemini_generator", "open_generator", "gcp", cloud=True
        ),
        "openai": Entry("llmops.adapters.model.openai", "open_generator", "serve"),
        "palm": Entry("llmops.adapters.model.palm", "open_generator", "gcp", cloud=True),
        "google_evaluation": Entry(
            "llmops.adapters.model.google_evaluation", "open_generator", "gcp", cloud=True
        ),
    },
    "shelf": {
        "gemini": Entry("llmops.adapters.model.gemini_shelf", "open_shelf", "gcp", cloud=True),
        "palm": Entry("llmops.adapters.model.palm", "open_shelf", "gcp", cloud=True),
    },
    "scorer": {
        "profanity": Entry("llmops.adapters.scorer.profanity", "open_scorer"),
        "gemini": Entry("llmops.adapters.scorer.gemini", "open_scorer"),
        "llama_guard": Entry("llmops.adapters.scorer.guard", "open_llama_guard"),
        "shieldgemma": Entry("llmops.adapters.scorer.guard", "open_shieldgemma"),
    },
    "exporter": {"local": Entry("llmops.adapters.model.export", "open_exporter", "local")},
    "registry": {
        "store": Entry("llmops.adapters.registry.store", "open_registry", "gcp"),
        "files": Entry("llmops.adapters.registry.files", "open_registry"),
        "vertex": Entry("llmops.adapters.registry.vertex", "open_registry", "gcp", cloud=True),
    },
    "lineage": {
        "http": Entry("llmops.adapters.lineage.http", "open_target"),
        "google": Entry("llmops.adapters.lineage.google", "open_target", "gcp", cloud=True),
    },
    "encoder": {
        kind: Entry("llmops.adapters.encoder.transformers_encoder", "open_encoder", "local")
        for kind in ("wheel", "huggingface")
    },
}


def adapter(
    port: str,
    config: Mapping[str, Any],
    *arguments: Any,
    environment: Mapping[str, Any] | None = None,
    **options: Any,
) -> Any:
    """Open the adapter of ``port`` that ``config['kind']`` names.

    Raises:
        ConfigError: If no adapter has that name, or one in the cloud is given no environment.
        MissingExtra: If its package is not installed.
    """
    kind = config["kind"]
    if kind not in ADAPTERS[port]:
        raise unknown_name(f"{port} adapter", kind, ADAPTERS[port], where=f"{port}.kind")
    entry = ADAPTERS[port][kind]
    if in_cloud(port, config):
        if environment is None:
            raise ConfigError(
                f"{port} '{kind}' is in the cloud and needs the group env",
                hint="choose one: env=prod, a file of conf/env/",
            )
        options["environment"] = environment
    try:
        return getattr(import_module(entry.module), entry.function)(config, *arguments, **options)
    except ModuleNotFoundError as exc:
        if exc.name and exc.name.partition(".")[0] == "llmops":
            raise  # a bug of ours, not a missing package
        raise MissingExtra(
            f"{port} '{kind}' needs the package '{exc.name}'",
            hint=f"pip install 'llmops[{entry.extra}]'"
            if entry.extra
            else f"pip install {exc.name}",
        ) from exc


def in_cloud(port: str, config: Mapping[str, Any]) -> bool:
    """Say whether the adapter that ``config['kind']`` names needs the config's ``env`` section.

    One that rests on a ``store`` does if that one does.
    """
    if "store" in config:
        return in_cloud("store", config["store"])
    entry = ADAPTERS[port].get(config["kind"])
    return entry is not None and entry.cloud


def model_cache() -> Path:
    """Return the folder of base models: ``LLMOPS_CACHE``, or ``~/.cache/llmops``."""
    return Path(os.environ.get("LLMOPS_CACHE") or Path.home() / ".cache" / "llmops")


def open_store(config: Mapping[str, Any], workspace: Path) -> Store:
    """Open the store of a resolved config."""
    store: Store = adapter("store", config["store"], workspace, environment=config.get("env"))
    return store


def registry_of(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return ``deploy.registry`` with its ``store``, if it rests on one."""
    chosen: Mapping[str, Any] = config["deploy"]["registry"]
    return {**chosen, "store": config["store"]} if chosen["kind"] == "store" else chosen


def open_registry(config: Mapping[str, Any], workspace: Path) -> Registry:
    """Open the registry of a resolved config."""
    registry: Registry = adapter(
        "registry", registry_of(config), workspace, environment=config.get("env")
    )
    return registry


def open_encoder(config: Mapping[str, Any], cache: Path) -> Encoder:
    """Open the encoder of a resolved config.

    Raises:
        ConfigError: If the config chooses none.
        BackendError: If it is not in the cache.
    """
    if config.get("encoder") is None:
        raise ConfigError("no encoder is chosen", hint="choose one: encoder=minilm")
    encoder: Encoder = adapter("encoder", config["encoder"], cache)
    return encoder


def open_adapters(
    config: Mapping[str, Any],
    store: Store,
    workspace: Path,
    *,
    read_only: bool = False,
    fresh: bool = False,
    keep_answers: bool = True,
) -> Adapters:
    """Return the seams that steps may use, each opened at its first use and then kept.

    With ``read_only`` the warehouse writes nothing into the workspace, as planning wants it. With
    ``fresh`` models are asked again for what they have answered before. Without ``keep_answers``
    they are opened at once and asked each time, and nothing that they say is kept.
    """
    cache = model_cache()
    open_one = functools.partial(adapter, environment=config.get("env"))

    warehouse = functools.cache(
        lambda: open_one("warehouse", config["warehouse"], workspace, read_only=read_only)
    )
    encoder = functools.cache(lambda: open_encoder(config, cache))
    scorer = functools.cache(lambda: open_one("scorer", config["safety"]["scorer"]))

    elsewhere = config["store"]["kind"] != "folder"

    @functools.cache
    def answers() -> Kept:
        from llmops.adapters.model.answers import FILE, Journal, Kept

        return Kept(workspace / ".llmops" / FILE, fresh, Journal() if elsewhere else None)

    def take_over(scratch: Path, outlive: Callable[[Path], None]) -> None:
        if elsewhere:
            answers().take_over(scratch, outlive)

    def untuned(model: Mapping[str, Any]) -> Any:
        from llmops.ports.model import ModelReference

        reference = ModelReference(provider=model["kind"], base=model["base"])
        return open_one("generator", model, reference, None, cache)

    def kept(
        model: Mapping[str, Any], reference: ModelReference, opened: Callable[[], Generator]
    ) -> Generator:
        from llmops.adapters.model.answers import KeptGenerator, identity

        can_score = model["kind"] in PROVIDERS and PROVIDERS[model["kind"]].can_score
        return KeptGenerator(answers(), identity(model, reference), can_score, opened)

    def generator(
        reference: ModelReference,
        model: Mapping[str, Any] | None = None,
        weights: Path | None = None,
    ) -> Generator:
        chosen = config["model"] if model is None else model

        def opened() -> Generator:
            place = weights
            if place is None and reference.adapter:
                place = store.local_path(store.find(reference.adapter))
            found: Generator = open_one("generator", chosen, reference, place, cache)
            return found

        plain = kept(chosen, reference, opened) if keep_answers else opened()
        if model is not None or (config.get("grounding") is None and config.get("chain") is None):
            return plain
        from llmops.adapters.model.composed import Seams, composed

        return composed(plain, config, Seams(warehouse, encoder, scorer, untuned, workspace))

    return Adapters(
        warehouse=warehouse,
        tuner=functools.cache(lambda: open_one("tuner", config["model"], cache)),
        generator=generator,
        scorer=scorer,
        registry=functools.cache(lambda: open_registry(config, workspace)),
        encoder=encoder,
        take_over=take_over,
    )
