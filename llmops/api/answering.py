"""Open a registered model as it was tuned, and ask it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from llmops.adapters import catalog
from llmops.adapters.catalog import in_cloud, open_adapters, open_store, registry_of
from llmops.answering.asking import answers
from llmops.answering.exchange import Answer
from llmops.answering.model import OpenModel
from llmops.answering.share import drawn
from llmops.config.project import workspace
from llmops.config.reference_tables import read_tables
from llmops.config.remembered import checked
from llmops.errors import BackendError, ConfigError, Refused, unknown_name
from llmops.plan.cost import answer_price
from llmops.ports.model import Message, ModelReference
from llmops.ports.registry import ModelVersion, Registry
from llmops.prompts.generating import generation_settings
from llmops.prompts.prompt import Prompt, check_prompt, prompt_of_content
from llmops.safety.policy import check_thresholds, read_policy
from llmops.traffic.log import LogSettings, TrafficLog
from llmops.traffic.records import AnswerRecord
from llmops.traffic.sessions import Sessions, Turn

if TYPE_CHECKING:
    from llmops.ports.store import Store

UNTUNED = "untuned"
SPLIT = "split"  # stands for the models of `serve.models`, by weight
CHAMPION = "champion"
AROUND = ("grounding", "chain")  # groups that stand around the model
LOCAL = "local"  # the provider that answers many chats in hardly more time than one


# ------------------------------------------------------------------ the serve group


def serve_config(overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Compose and check the ``serve`` group: ``serve=FILE`` chooses it, ``serve.key=`` sets keys.

    Raises:
        ConfigProblems: With every mistake at once.
    """
    from llmops.config import schemas
    from llmops.config.compose import group
    from llmops.config.problems import Problem, dotted, raise_all

    own = [text for text in overrides if text.startswith(("serve.", "serve="))]
    chosen = [f"+{text}" for text in own if text.startswith("serve=")] or ["+serve=local"]
    config = group("serve", [*chosen, *(text for text in own if text.startswith("serve."))])
    raise_all(
        Problem("serve", dotted(("serve", *one.path)), one.expected, one.got, one.hint)
        for one in schemas.mistakes(config, name="serve")
    )
    return config


def others(overrides: Sequence[str]) -> list[str]:
    """Return the overrides that are not about the ``serve`` group."""
    return [text for text in overrides if not text.startswith(("serve.", "serve="))]


def open_log(config: Mapping[str, Any]) -> TrafficLog:
    """Open the log of a ``serve`` config, and remove what it need not keep.

    Raises:
        BackendError: If the disk refuses.
    """
    from datetime import UTC, datetime

    import msgspec

    log = TrafficLog(msgspec.convert(config["log"], LogSettings), workspace())
    log.expire(datetime.now(UTC))
    return log


def open_sessions(config: Mapping[str, Any]) -> Sessions:
    """Return the sessions of a ``serve`` config, without those that are too old."""
    from datetime import UTC, datetime

    wanted = config["sessions"]
    kept = Sessions(workspace() / wanted["path"], wanted["max_tokens"], wanted["retention_days"])
    kept.expire(datetime.now(UTC))
    return kept


# ---------------------------------------------------------------- finding a model


def find_model(name: str, overrides: Sequence[str] = ()) -> ModelVersion:
    """Find a registered model by ``NAME``, ``NAME@ALIAS``, ``NAME:VERSION`` or ``ALIAS`` alone.

    A bare name means its newest version. A bare alias must be held by one model only, unless an
    experiment is named, whose own model is meant then.

    Raises:
        ConfigError: If nothing or more than one model bears the name.
    """
    return find_in(open_registry(overrides), name, _own_model(overrides))


def find_in(registry: Registry, name: str, own: str | None = None) -> ModelVersion:
    """Find a model in an open registry; ``own`` is whose alias a bare one is. See `find_model`."""
    for mark in "@:":
        model, found, version = name.partition(mark)
        if found:
            return registry.get(model, version)
    versions = registry.list()
    if name in {version.name for version in versions}:
        return next(version for version in versions if version.name == name)
    bearing = [one for one in versions if name in one.aliases and own in (None, one.name)]
    if len(bearing) == 1:
        return bearing[0]
    if bearing:
        named = ", ".join(f"{one.name}@{name}" for one in bearing)
        raise ConfigError(f"more than one model is '{name}'", hint=f"say which: {named}")
    if not versions:
        raise ConfigError(
            f"there is no model '{name}': the registry is empty",
            hint="python -m llmops run +experiment=so_python registers one",
        )
    known = {f"{one.name}@{alias}" for one in versions for alias in one.aliases}
    raise unknown_name("model or alias", name, known, where="the registry")


def open_registry(overrides: Sequence[str] = ()) -> Registry:
    """Open the registry that the overrides choose."""
    from llmops.config.compose import group

    wanted = others(overrides)
    config = {"deploy": group("deploy", wanted)}
    if config["deploy"]["registry"]["kind"] == "store":
        config["store"] = group("store", wanted)
    if in_cloud("registry", registry_of(config)):
        config["env"] = group("env", wanted)
    return catalog.open_registry(config, workspace())


def _experiment(overrides: Sequence[str]) -> str | None:
    for text in overrides:
        key, _, value = text.lstrip("+").partition("=")
        if key == "experiment":
            return value
    return None


def _own_model(overrides: Sequence[str]) -> str | None:
    if _experiment(overrides) is None:
        return None
    return str(checked(others(overrides)).config["deploy"]["model_name"])


def shares(model: str, overrides: Sequence[str] = ()) -> dict[str, float]:
    """Return who answers and at what weight: the model itself, or those of ``serve.models``.

    Raises:
        ConfigError: If the split has no weight above 0.
    """
    if model != SPLIT:
        return {model: 1.0}
    found: dict[str, float] = {}
    for share in serve_config(overrides)["models"]:
        found[share["model"]] = found.get(share["model"], 0.0) + share["weight"]
    if not any(found.values()):
        raise ConfigError("serve.models: every weight is 0", hint="give one a weight above 0")
    return found


def whose_turn(model: str, key: str, overrides: Sequence[str] = ()) -> str:
    """Return which model answers ``key``: of a split always the same one for the same key."""
    found = shares(model, overrides)
    return list(found)[drawn(list(found.values()), key)]


# --------------------------------------------------------------------- opening it


def open_model(model: str = CHAMPION, overrides: Sequence[str] = ()) -> OpenModel:
    """Open a model with the prompt that it was tuned with and the policy of its experiment.

    Args:
        model: See ``find_model``; ``untuned`` is the base model of the experiment that the
            overrides name.
        overrides: As on the command line. The experiment is the model's own unless one is named.
            ``prompt=`` asks for another prompt, which needs ``predict.other_prompt=true``.

    Raises:
        ConfigError: If there is no such model, or the config does not fit it.
        Refused: If another prompt than the tuned one is asked for and not allowed.
        BackendError: If the model cannot be loaded.
    """
    wanted = others(overrides)
    if model == UNTUNED:
        config = _config_of_untuned(wanted)
        prompt = _required_prompt(config)
        reference = ModelReference(provider=config["model"]["kind"], base=config["model"]["base"])
        return _opened(config, reference, prompt, None, None)
    version = find_model(model, wanted)
    return open_version(version, wanted, alias=_alias(model, version))


def open_version(
    version: ModelVersion, overrides: Sequence[str], *, alias: str | None = None
) -> OpenModel:
    """Open one registered version; see ``open_model``."""
    config = _config_of(version, overrides)
    reference = version.model
    if (reference.provider, reference.base) != (config["model"]["kind"], config["model"]["base"]):
        raise ConfigError(
            f"{version.name}:{version.version} rests on '{reference.base}' of"
            f" {reference.provider}, model.base is '{config['model']['base']}'",
            hint="choose the model group that it was tuned with",
        )
    store = open_store(config, workspace())
    prompt = _prompt_of(version, config, overrides, store)
    return _opened(config, reference, prompt, version, alias)


def _alias(model: str, version: ModelVersion) -> str | None:
    said = model.partition("@")[2] or model
    return said if said in version.aliases else None


def _config_of_untuned(overrides: Sequence[str]) -> Mapping[str, Any]:
    if _experiment(overrides) is None:
        raise ConfigError(
            "the untuned base belongs to an experiment",
            hint="name it:  --model untuned +experiment=so_python",
        )
    return checked(overrides).config


def _config_of(version: ModelVersion, overrides: Sequence[str]) -> Mapping[str, Any]:
    from llmops.config.project import names

    if _experiment(overrides) is not None:
        return checked(overrides).config
    experiment = version.labels.get("experiment", version.name)
    if experiment not in names("experiment"):
        raise ConfigError(
            f"{version.name}:{version.version} came of the experiment '{experiment}', which is"
            " not in conf/experiment",
            hint="name one whose safety and generation settings shall hold:  +experiment=NAME",
        )
    return checked([f"+experiment={experiment}", *overrides]).config


def _required_prompt(config: Mapping[str, Any]) -> Prompt:
    prompt = check_prompt(config)
    if prompt is None:
        raise ConfigError("the experiment has no prompt", hint="choose one:  prompt=so_python")
    return prompt


def _prompt_of(
    version: ModelVersion, config: Mapping[str, Any], overrides: Sequence[str], store: Store
) -> Prompt:
    """Return the prompt that it was tuned with, or another that was asked for and is allowed."""
    tuned_with = version.model.prompt_sha256
    configured = _required_prompt(config)
    if tuned_with is None or configured.digest() == tuned_with:
        return configured
    if any(text.lstrip("+").startswith(("prompt=", "prompt.")) for text in overrides):
        if config["predict"]["other_prompt"]:
            return configured
        raise Refused(
            f"{version.name}:{version.version} was tuned with another prompt than"
            f" '{configured.name}'",
            hint="leave prompt out to use the tuned one, or allow it: predict.other_prompt=true",
        )
    try:
        kept = store.local_path(store.find(tuned_with)).read_text("utf-8")
    except BackendError as exc:
        raise ConfigError(
            f"the prompt that {version.name}:{version.version} was tuned with"
            f" ({tuned_with[:12]}) is neither in the config nor in the store",
            hint=f"restore it in conf/prompt, or register the model again:  python -m llmops run"
            f" +experiment={version.labels.get('experiment', version.name)}",
        ) from exc
    return prompt_of_content(kept, version.labels.get("prompt", "tuned"))


def _opened(
    config: Mapping[str, Any],
    reference: ModelReference,
    prompt: Prompt,
    version: ModelVersion | None,
    alias: str | None,
) -> OpenModel:
    from llmops.artifacts import digest

    if prompt.similar_examples:
        raise ConfigError(
            f"prompt '{prompt.name}' shows training rows that are like the question, and only a run"
            " has them at hand",
            hint="choose a prompt with prompt.similar_examples=0",
        )
    where = workspace()
    own = {**config, "prompt": asdict(prompt)}  # what stands around the model renders by it too
    adapters = open_adapters(own, open_store(config, where), where, keep_answers=False)
    scorer = adapters.scorer()
    policy = read_policy(config["safety"])
    check_thresholds(policy.thresholds, scorer.categories)
    kind = config["model"]["kind"]
    return OpenModel(
        name=config["model"]["base"] if version is None else version.name,
        version=None if version is None else version.version,
        alias=alias,
        digest=digest(vars(reference)) if version is None else version.digest,
        reference=reference,
        prompt=prompt,
        prompt_sha256=prompt.digest(),
        generator=adapters.generator(reference),
        scorer=scorer,
        scorer_kind=config["safety"]["scorer"]["kind"],
        policy=policy,
        settings=generation_settings(config["predict"], prompt),
        price=answer_price(read_tables().prices, kind, reference.base),
        batches=kind == LOCAL,
        around={name: config[name] for name in AROUND if config.get(name) is not None},
    )


# ---------------------------------------------------------------------- asking it


@dataclass(frozen=True)
class Recorded:
    """An answer and the id under which the log has it."""

    id: str
    answer: Answer


def predict(
    question: str,
    *,
    model: str = CHAMPION,
    overrides: Sequence[str] = (),
) -> Recorded:
    """Ask a model one question, under its policy, and record the answer.

    ``split`` is the one of ``serve.models`` whose turn the question is; see ``whose_turn``.

    Raises:
        ConfigError: If there is no such model, or the config does not fit it.
        Refused: If another prompt than the tuned one is asked for and not allowed.
        BackendError: If the model cannot be loaded, or the log cannot be written.
    """
    opened = open_model(whose_turn(model, question, overrides), overrides)
    log = open_log(serve_config(overrides))
    try:
        answer = next(answers(opened, [(Message("user", question),)]))
        return Recorded(record(log, opened, answer, route="predict", client="command line"), answer)
    finally:
        log.close()


def conversation(turns: Sequence[Turn], question: str) -> list[Message]:
    """Return what was said in a session, and then the question."""
    said = [
        Message(role, text)
        for turn in turns
        for role, text in (("user", turn.question), ("assistant", turn.answer))
    ]
    return [*said, Message("user", question)]


def record(
    log: TrafficLog,
    model: OpenModel,
    answer: Answer,
    *,
    route: str,
    client: str,
    session: str | None = None,
) -> str:
    """Record one answer and return its id."""
    made = record_of(log.new_id(), model, answer, route=route, client=client, session=session)
    log.answers([made])
    return made.id


def record_of(
    identity: str,
    model: OpenModel,
    answer: Answer,
    *,
    route: str,
    client: str,
    session: str | None,
) -> AnswerRecord:
    """Return what the log keeps of an answer."""
    return AnswerRecord(
        id=identity,
        route=route,
        client=client,
        session=session,
        model=model.name,
        version=model.version,
        model_digest=model.digest,
        prompt_sha256=model.prompt_sha256,
        question=answer.question,
        answer=answer.text,
        finish_reason=answer.finish_reason,
        blocked=answer.blocked,
        action=answer.action,
        blocked_by=answer.blocked_by,
        scores=answer.scores,
        latency_s=round(answer.latency_s, 6),
        prompt_tokens=answer.prompt_tokens,
        output_tokens=answer.output_tokens,
        cost=answer.cost,
        currency=model.price.currency,
        error=answer.error,
    )
