"""Models that a provider keeps: what there is, and taking one into the registry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llmops.errors import ConfigError, unknown_name
from llmops.ports.model import TunedModel
from llmops.ports.registry import ModelVersion

IMPORTED = "import"  # stands in the registry where a run's id stands otherwise


def tuned_models(overrides: Sequence[str] = ()) -> Sequence[TunedModel]:
    """Return the tuned models that the provider of the ``model`` group keeps.

    Raises:
        ConfigError: If the provider keeps none, or the overrides do not compose.
        BackendError: If the service fails.
    """
    from llmops.adapters.catalog import ADAPTERS, adapter
    from llmops.config.compose import group

    model = group("model", overrides)
    if model["kind"] not in ADAPTERS["shelf"]:
        able = " or ".join(f"model={name}" for name in ("gemini", "text_bison"))
        raise ConfigError(
            f"models of kind '{model['kind']}' are not kept by a provider",
            hint=f"choose {able}, or look into the registry: python -m llmops models list",
        )
    found: Sequence[TunedModel] = adapter(
        "shelf", model, environment=group("env", overrides)
    ).tuned()
    return found


@dataclass(frozen=True)
class Import:
    """A tuned model as it is now registered, and what it is called at its provider."""

    version: ModelVersion
    title: str


def import_model(
    name: str, wanted: str, *, alias: str | None, reason: str, overrides: Sequence[str] = ()
) -> Import:
    """Register a model that was tuned elsewhere as ``name``, and point ``alias`` at it if given.

    Args:
        name: The registered model's name.
        wanted: The tuned model's resource name, its endpoint, or its title if only one has it.
        alias: An alias to point at it; None for none.
        reason: Why, for the alias's history.
        overrides: Choices of ``model``, ``deploy`` and ``env``.

    Raises:
        ConfigError: If there is no such model, or several have the title.
    """
    from llmops.api.answering import open_registry

    chosen = choose(tuned_models(overrides), wanted)
    registry = open_registry(overrides)
    labels = {"base": chosen.model.base, "title": chosen.title}
    version = registry.register(name, chosen.model, labels=labels, run_id=IMPORTED)
    if alias is not None:
        version = registry.set_alias(name, alias, version.version, reason=reason, forced=True)
    return Import(version, chosen.title)


def choose(found: Sequence[TunedModel], wanted: str) -> TunedModel:
    """Return the model of that resource name, endpoint or title; never one of several.

    Raises:
        ConfigError: If there is none, with the nearest; or several.
    """
    fitting = [one for one in found if wanted in (one.model.tuned, one.model.endpoint)]
    fitting = fitting or [one for one in found if one.title == wanted]
    if not fitting:
        known = [name for one in found for name in (one.title, str(one.model.tuned))]
        raise unknown_name("tuned model", wanted, known, where="the provider")
    if len(fitting) > 1:
        names = ", ".join(str(one.model.tuned) for one in fitting)
        raise ConfigError(
            f"{len(fitting)} tuned models are called '{wanted}'",
            hint=f"name one by its resource name: {names}",
        )
    return fitting[0]
