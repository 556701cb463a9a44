"""What a schema cannot say of a resolved config: rules over several keys. Pure functions.

Each rule names the keys it reads; it is not asked where one of them is already known to be wrong.
Knows nothing of the steps' ports: the plan checks those.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from llmops.config import elsewhere, returned_columns
from llmops.config.knowledge import (
    ENGINES_ELSEWHERE,
    METRICS,
    PROVIDERS,
    SCHEMA_CHANGES,
    SCHEMA_VERSION,
    SCORER_CATEGORIES,
    SCORERS_OF_RATINGS,
    lacks,
)
from llmops.config.problems import KeyPath, dotted
from llmops.config.schemas import Mistake
from llmops.errors import nearest
from llmops.secrecy import looks_secret

Config = Mapping[str, Any]
COMPARING = ("better_than", "not_worse_than")  # conditions of a gate's rule that name a contestant


@dataclass(frozen=True)
class Rule:
    """A check and the keys it needs; it holds where one of those is absent."""

    reads: tuple[str, ...]
    check: Callable[[Config], Iterator[Mistake]]


def mistakes(config: Config, wrong: Iterable[KeyPath] = ()) -> list[Mistake]:
    """Ask every rule whose keys are all there and none of them among ``wrong``."""
    known_wrong = list(wrong)
    return [
        mistake
        for rule in RULES
        if all(_usable(config, key, known_wrong) for key in rule.reads)
        for mistake in rule.check(config)
    ]


def version_is_read(config: Config) -> Iterator[Mistake]:
    """The config is of a schema version that this llmops reads."""
    version = config["schema_version"]
    if version == SCHEMA_VERSION:
        return
    expected = f"version {SCHEMA_VERSION} of the config's schema"
    if version > SCHEMA_VERSION:
        hint = "it was written for a newer llmops: install that one"
    else:
        hint = SCHEMA_CHANGES.get(version, "it is too old to be read: write it anew")
    yield Mistake(("schema_version",), expected, f"version {version}", hint)


def newer_version(config: Config) -> list[Mistake]:
    """Return the mistake of a config that a newer llmops wrote; an empty list if it is none."""
    version = config.get("schema_version")
    is_newer = isinstance(version, int) and version > SCHEMA_VERSION
    return list(version_is_read(config)) if is_newer else []


def not_finite(config: Config) -> Iterator[Mistake]:
    """Find numbers that are no numbers: a schema's bounds let NaN pass."""
    for path, value in _scalars(config, ()):
        if isinstance(value, float) and not math.isfinite(value):
            yield Mistake(path, "a finite number", str(value))


def secrets_are_references(config: Config) -> Iterator[Mistake]:
    """A secret is named, never written: the config goes into the store, the record and git."""
    for path, value in _scalars(config, ()):
        if isinstance(value, str) and looks_secret(path[-1], value):
            yield Mistake(
                path,
                "no secret in a config, which is stored, recorded and committed",
                "a text that looks like a secret or contains one",
                "write ${secret:NAME}; the adapter reads the environment variable NAME",
            )


def split_adds_up(config: Config) -> Iterator[Mistake]:
    """The fractions of the split share out all rows."""
    split = config["split"]
    total = math.fsum(split[side] for side in ("train", "validation", "test"))
    if not math.isclose(total, 1.0, abs_tol=1e-9):
        parts = " + ".join(f"{split[side]:g}" for side in ("train", "validation", "test"))
        yield Mistake(
            ("split",), "train, validation and test to add up to 1", f"{parts} = {total:g}"
        )


def split_suits_its_method(config: Config) -> Iterator[Mistake]:
    """A hash goes by one thing; time and strata need their column."""
    split, columns = config["split"], config["dataset"]["columns"]
    if split["method"] == "hash" and (len(split["by"]) > 1 or "near_duplicate" in split["by"]):
        yield Mistake(
            ("split", "by"),
            "at most one of question, answer, id, author: a row's hash goes by one thing",
            f"[{', '.join(split['by'])}]",
            "choose split=group to join rows by several",
        )
    if split["method"] == "time" and not columns.get("created_at"):
        yield Mistake(
            ("split", "method"),
            "a method that the rows allow: dataset.columns.created_at is null",
            "'time'",
            "name the query's column in dataset.columns.created_at",
        )
    if split["method"] == "stratified":
        yield from _stratum(split.get("stratify"), columns)


def _stratum(name: str | None, columns: Mapping[str, Any]) -> Iterator[Mistake]:
    if not name or not columns.get(name):
        yield Mistake(
            ("split", "stratify"),
            "a column that dataset.columns maps: "
            + (", ".join(c for c in ("tags", "author", "licence") if columns.get(c)) or "none is"),
            f"'{name}'" if name else "null",
            "name the query's column in dataset.columns",
        )


def tuning_has_an_end(config: Config) -> Iterator[Mistake]:
    """Tuning goes by steps or by epochs."""
    tuning = config["tuning"]
    if tuning["max_steps"] is None and tuning["epochs"] is None:
        yield Mistake(
            ("tuning", "max_steps"),
            "max_steps or epochs",
            "null for both",
            "e.g. tuning.max_steps=40",
        )


def rules_leave_room(config: Config) -> Iterator[Mistake]:
    """A least length is not above the greatest one."""
    rules = config["dataset"]["rules"]
    for side in ("question", "answer"):
        low, high = rules[f"min_{side}_characters"], rules[f"max_{side}_characters"]
        if low > high:
            path = ("dataset", "rules", f"min_{side}_characters")
            yield Mistake(path, f"at most max_{side}_characters, {high}", str(low))


def terms_are_acknowledged(config: Config) -> Iterator[Mistake]:
    """Nothing is tuned on data whose terms nobody has acknowledged."""
    if "tune" not in {step.get("use") for step in config["pipeline"]["steps"].values()}:
        return
    dataset = config["dataset"]
    terms, acknowledged = dataset["source_terms"], dataset["acknowledged_terms"]
    if terms not in acknowledged:
        named = ",".join([*acknowledged, terms])
        yield Mistake(
            ("dataset", "acknowledged_terms"),
            f"'{terms}' among them: the pipeline tunes on rows under these terms",
            f"[{', '.join(acknowledged)}]",
            f"read them, then add 'dataset.acknowledged_terms=[{named}]'",
        )


def tuned_prompts_have_no_examples(config: Config) -> Iterator[Mistake]:
    """Training rows are single turns, so a prompt with fixed examples would differ at serving."""
    uses = {step.get("use") for step in config["pipeline"]["steps"].values()}
    shown = {
        "examples": len(config["prompt"]["examples"]),
        "similar_examples": config["prompt"].get("similar_examples", 0),
    }
    for name, count in shown.items():
        if "tune" in uses and count:
            yield Mistake(
                ("prompt", name),
                "none: the pipeline tunes, and training rows carry no examples",
                f"{count} examples",
                "let the contestant untuned_with_examples show what examples do",
            )


def rules_compare_with_the_baseline(config: Config) -> Iterator[Mistake]:
    """Paired differences are measured against the baseline only."""
    baseline = config["evaluation"]["baseline"]
    for number, rule in enumerate(config["gate"]["rules"]):
        for condition in COMPARING:
            other = rule.get(condition)
            if other not in (None, baseline, "champion"):
                path = ("gate", "rules", str(number), condition)
                hint = f"set evaluation.baseline={other}"
                yield Mistake(path, f"evaluation.baseline, '{baseline}'", f"'{other}'", hint)


def thresholds_are_judged(config: Config) -> Iterator[Mistake]:
    """A threshold is for a category that the scorer reports."""
    safety = config["safety"]
    categories = SCORER_CATEGORIES.get(safety["scorer"]["kind"])
    if categories is None:
        return
    for category in safety["thresholds"]:
        if category not in categories:
            yield Mistake(
                ("safety", "thresholds", category),
                f"a category that the scorer '{safety['scorer']['kind']}' reports: "
                + ", ".join(categories),
                f"'{category}'",
                nearest(category, categories) or "choose a scorer that rates it",
                of_key=True,
            )


def ratings_come_with_answers(config: Config) -> Iterator[Mistake]:
    """A scorer that reads the ratings of answers is chosen with a model that sends some."""
    scorer, kind = config["safety"]["scorer"]["kind"], config["model"]["kind"]
    able = SCORERS_OF_RATINGS.get(scorer)
    if able is not None and kind not in able:
        yield Mistake(
            ("safety", "scorer", "kind"),
            f"a scorer that rates the answers of model.kind '{kind}'",
            f"'{scorer}', which reads ratings that only {' or '.join(able)} sends",
            "choose another safety=..., or model=gemini",
        )


def questions_have_no_ratings(config: Config) -> Iterator[Mistake]:
    """A scorer that reads the ratings of answers cannot rate questions."""
    scorer = config["safety"]["scorer"]["kind"]
    if scorer in SCORERS_OF_RATINGS and config["safety"]["input"]["score"]:
        yield Mistake(
            ("safety", "input", "score"),
            f"false: the scorer '{scorer}' reads the ratings of answers, and a question has none",
            "true",
            "choose another scorer to rate questions",
        )


def columns_are_returned(config: Config) -> Iterator[Mistake]:
    """Each role's column is one that the query returns, as far as its text says."""
    dataset = config["dataset"]
    if dataset["query"] is None:  # the rows come from files
        return
    roles = {role: name for role, name in dataset["columns"].items() if name is not None}
    found = returned_columns.missing(dataset["query"], roles.values())
    lacking, returned = found or ([], [])
    for role, name in roles.items():
        if name in lacking:
            yield Mistake(
                ("dataset", "columns", role),
                f"a column that dataset.query returns: {', '.join(returned)}",
                f"'{name}'",
                nearest(name, returned) or "null if the query has none",
            )


def something_is_measured(config: Config) -> Iterator[Mistake]:
    """A provider that gives no probabilities is measured by something else."""
    kind, metrics = config["model"]["kind"], config["evaluation"]["metrics"]
    if metrics and all(lacks(metric, kind) for metric in metrics):
        yield Mistake(
            ("evaluation", "metrics"),
            f"a metric that model.kind '{kind}' can be measured by",
            f"[{', '.join(metrics)}], which need the probability of a given text",
            "add one that needs answers alone, e.g. chrf",
        )


def gate_judges_what_there_is(config: Config) -> Iterator[Mistake]:
    """A rule on a metric that the provider lacks says what is judged in its place."""
    kind = config["model"]["kind"]
    for number, rule in enumerate(config["gate"]["rules"]):
        judged = rule.get("instead") or rule["metric"]
        if lacks(rule["metric"], kind) and lacks(judged, kind):
            yield Mistake(
                ("gate", "rules", str(number), "metric"),
                f"a metric that model.kind '{kind}' can be measured by",
                f"'{judged}', which needs the probability of a given text",
                "say in the rule what is judged in its place, e.g. `instead: chrf`",
            )


def stand_ins_need_no_amount(config: Config) -> Iterator[Mistake]:
    """An amount is in the unit of one metric, and means nothing for the one that stands in."""
    for number, rule in enumerate(config["gate"]["rules"]):
        compares = any(rule.get(condition) is not None for condition in COMPARING)
        if rule.get("instead") is not None and (not compares or rule.get("by")):
            yield Mistake(
                ("gate", "rules", str(number), "instead"),
                "only in a rule that is better_than or not_worse_than by 0: an amount would be in "
                f"the unit of {rule['metric']}",
                f"'{rule['instead']}'",
                "leave it out, or set by: 0.0",
            )


def provider_tunes(config: Config) -> Iterator[Mistake]:
    """A pipeline that tunes is given a model that can be tuned."""
    kind = config["model"]["kind"]
    provider = PROVIDERS.get(kind)
    uses = {step.get("use") for step in config["pipeline"]["steps"].values()}
    if "tune" in uses and provider is not None and not provider.tunes:
        able = [name for name, other in PROVIDERS.items() if other.tunes]
        yield Mistake(
            ("model", "kind"),
            f"a model that can be tuned, {' or '.join(able)}: the pipeline has a step that tunes",
            f"'{kind}'",
            "choose another model=..., or a pipeline=... without tuning",
        )


def models_give_answers(config: Config) -> Iterator[Mistake]:
    """A service that only judges is asked for no answer."""
    models: dict[KeyPath, Mapping[str, Any]] = {("model",): config["model"]}
    compared = (config.get("comparison") or {}).get("models") or {}
    models |= {("comparison", "models", name): model for name, model in compared.items()}
    for path, model in models.items():
        provider = PROVIDERS.get(model["kind"])
        if provider is not None and provider.only_judges:
            yield Mistake(
                (*path, "kind"),
                "a model that answers questions",
                f"'{model['kind']}', which only judges answers",
                "use it as judge.model: judge=google",
            )


def provider_can_search(config: Config) -> Iterator[Mistake]:
    """The provider's own search is asked only of a provider that has one."""
    kind = config["model"]["kind"]
    provider = PROVIDERS.get(kind)
    if config["grounding"]["kind"] == "provider" and provider and not provider.can_search:
        able = [name for name, one in PROVIDERS.items() if one.can_search]
        yield Mistake(
            ("grounding", "kind"),
            f"a source of passages that model.kind '{kind}' has",
            "'provider'",
            f"choose grounding=docs, or a model of kind {' or '.join(able)}",
        )


def regions_fit(config: Config) -> Iterator[Mistake]:
    """What is tuned in a region can be served in the one that the deployment names."""
    kind = config["model"]["kind"]
    provider = PROVIDERS.get(kind)
    tuned_in, served_in = config["model"]["tuner"]["region"], config["deploy"]["region"]
    if provider is None or provider.regions is None:
        return
    if tuned_in not in provider.regions:
        expected = f"a region where model.kind '{kind}' tunes: {', '.join(provider.regions)}"
        guess = nearest(tuned_in, provider.regions)
        yield Mistake(("model", "tuner", "region"), expected, f"'{tuned_in}'", guess)
    elif served_in not in provider.regions[tuned_in]:
        able = ", ".join(provider.regions[tuned_in])
        expected = f"a region that serves what is tuned in {tuned_in}: {able}"
        hint = "set deploy.region, or tune where you want to serve"
        yield Mistake(("deploy", "region"), expected, f"'{served_in}'", hint)


def metrics_exist(config: Config) -> Iterator[Mistake]:
    """Each metric is built in, unless the project brings its own: those are known when it runs."""
    if (config.get("project") or {}).get("metrics"):
        return
    for number, metric in enumerate(config["evaluation"]["metrics"]):
        if metric not in METRICS:
            path = ("evaluation", "metrics", str(number))
            expected = f"one of {', '.join(METRICS)}"
            yield Mistake(path, expected, f"'{metric}'", nearest(metric, METRICS))


def metrics_have_what_they_need(config: Config) -> Iterator[Mistake]:
    """An encoder for similarity, prices for cost, a judge for verdicts, a sandbox for code."""
    lacking = {
        "semantic_similarity": (config.get("encoder"), "encoder=minilm"),
        "cost": (config["evaluation"].get("prices"), "set evaluation.prices"),
        "judge": (config.get("judge"), "judge=helpfulness and a pipeline with a judge step"),
        "code_passes": (
            config["evaluation"].get("sandbox"),
            "allow running it: evaluation.sandbox={timeout_s: 10, max_memory_mb: 512}",
        ),
    }
    for number, metric in enumerate(config["evaluation"]["metrics"]):
        found, hint = lacking.get(metric, (True, ""))
        if not found:
            path = ("evaluation", "metrics", str(number))
            yield Mistake(path, "a metric that has what it needs", f"'{metric}'", hint)


def code_runs_in_a_sandbox(config: Config) -> Iterator[Mistake]:
    """Generated code runs only where bubblewrap does; tasks elsewhere look for themselves."""
    here = config["engine"]["kind"] not in ENGINES_ELSEWHERE
    if "code_passes" not in config["evaluation"]["metrics"] or not here:
        return
    from llmops import sandbox

    if why_not := sandbox.why_not():
        path = ("evaluation", "metrics", str(config["evaluation"]["metrics"].index("code_passes")))
        hint = "leave code_passes out, or run the experiment on a machine where `bwrap` works"
        yield Mistake(path, "a metric that this machine can measure", why_not, hint)


def similar_examples_have_an_encoder(config: Config) -> Iterator[Mistake]:
    """What is similar is told by an encoder."""
    if config["prompt"].get("similar_examples") and config.get("encoder") is None:
        path = ("prompt", "similar_examples")
        yield Mistake(path, "0 without an encoder", "some", "choose one: encoder=minilm")


def baseline_takes_part(config: Config) -> Iterator[Mistake]:
    """The contestant that all others are compared with answers too."""
    yield from _contestant(config, ("evaluation", "baseline"), config["evaluation"]["baseline"])


def gate_judges_a_contestant(config: Config) -> Iterator[Mistake]:
    """The gate's contestant, and those its rules compare with, answer too."""
    gate = config["gate"]
    yield from _contestant(config, ("gate", "contestant"), gate["contestant"])
    for number, rule in enumerate(gate["rules"]):
        for condition in COMPARING:
            if rule.get(condition) is not None:
                path = ("gate", "rules", str(number), condition)
                yield from _contestant(config, path, rule[condition])


def gate_rules_have_one_limit(config: Config) -> Iterator[Mistake]:
    """A rule of the gate compares with one thing."""
    limits = (*COMPARING, "at_most", "at_least", "beyond_control")
    for number, rule in enumerate(config["gate"]["rules"]):
        given = [name for name in limits if rule.get(name) is not None and rule[name] is not False]
        if len(given) != 1:
            path = ("gate", "rules", str(number))
            got = " and ".join(given) or "none of them"
            yield Mistake(path, f"exactly one of {', '.join(limits)}", got)


def gate_metrics_are_measured(config: Config) -> Iterator[Mistake]:
    """A rule of the gate is on a metric that the evaluation measures, as is what stands in for it.

    What stands in is not asked for where nothing has to.
    """
    measured = config["evaluation"]["metrics"]
    kind = (config.get("model") or {}).get("kind")
    for number, rule in enumerate(config["gate"]["rules"]):
        keys = ("metric", "instead") if lacks(rule["metric"], kind) else ("metric",)
        for key in keys:
            if rule.get(key) not in (None, *measured):
                yield Mistake(
                    ("gate", "rules", str(number), key),
                    f"one of evaluation.metrics: {', '.join(measured)}",
                    f"'{rule[key]}'",
                    f"add {rule[key]} to evaluation.metrics",
                )


def steps_take_from_steps(config: Config) -> Iterator[Mistake]:
    """Every input comes from a step that exists."""
    steps = config["pipeline"]["steps"]
    for name, step in steps.items():
        for taken, source in (step.get("takes") or {}).items():
            other = source.split(".")[0]
            if other not in steps:
                yield Mistake(
                    ("pipeline", "steps", name, "takes", taken),
                    f"an output of one of the steps {', '.join(steps)}",
                    f"'{source}'",
                    nearest(other, steps),
                )


def steps_form_no_cycle(config: Config) -> Iterator[Mistake]:
    """No step waits for itself."""
    waits = {
        name: {source.split(".")[0] for source in (step.get("takes") or {}).values()}
        for name, step in config["pipeline"]["steps"].items()
    }
    done: set[str] = set()
    while ready := {name for name, needed in waits.items() if needed & waits.keys() <= done} - done:
        done |= ready
    if stuck := [name for name in waits if name not in done]:
        yield Mistake(
            ("pipeline", "steps"), "steps that can be put in an order", _circle(waits, stuck)
        )


def the_warehouse_prepares_in_one_step(config: Config) -> Iterator[Mistake]:
    """Only the step ``prepare`` can work in the warehouse."""
    used = {step["use"] for step in config["pipeline"]["steps"].values()}
    if config["dataset"]["runs_in"] == "warehouse" and "prepare" not in used:
        yield Mistake(
            ("dataset", "runs_in"),
            "here, for the pipeline has no step `prepare`",
            "warehouse",
            "choose pipeline=dataset_in_one_pass",
        )


RULES = (
    Rule(("schema_version",), version_is_read),
    Rule((), not_finite),
    Rule((), secrets_are_references),
    Rule(("split.train", "split.validation", "split.test"), split_adds_up),
    Rule(("split.method", "split.by", "dataset.columns"), split_suits_its_method),
    Rule(("tuning.max_steps", "tuning.epochs"), tuning_has_an_end),
    Rule(("dataset.rules",), rules_leave_room),
    Rule(
        ("pipeline.steps", "dataset.source_terms", "dataset.acknowledged_terms"),
        terms_are_acknowledged,
    ),
    Rule(("dataset.query", "dataset.columns"), columns_are_returned),
    Rule(("grounding.kind", "model.kind"), provider_can_search),
    Rule(("dataset.runs_in", "pipeline.steps"), the_warehouse_prepares_in_one_step),
    Rule(("model.kind", "evaluation.metrics"), something_is_measured),
    Rule(("model.kind", "gate.rules"), gate_judges_what_there_is),
    Rule(("model.kind", "pipeline.steps"), provider_tunes),
    Rule(("model.kind",), models_give_answers),
    Rule(("model.kind", "model.tuner.region", "deploy.region"), regions_fit),
    Rule(("safety.scorer", "safety.thresholds"), thresholds_are_judged),
    Rule(("evaluation.metrics",), metrics_exist),
    Rule(("evaluation.metrics", "pipeline.steps"), metrics_have_what_they_need),
    Rule(("evaluation.metrics", "engine.kind"), code_runs_in_a_sandbox),
    Rule(("prompt.name",), similar_examples_have_an_encoder),
    Rule(("safety.scorer", "model.kind"), ratings_come_with_answers),
    Rule(("safety.scorer", "safety.input.score"), questions_have_no_ratings),
    Rule(("evaluation.baseline", "predict.contestants"), baseline_takes_part),
    Rule(("gate.contestant", "gate.rules", "predict.contestants"), gate_judges_a_contestant),
    Rule(("pipeline.steps", "prompt.examples"), tuned_prompts_have_no_examples),
    Rule(("gate.rules", "evaluation.baseline"), rules_compare_with_the_baseline),
    Rule(("gate.rules",), gate_rules_have_one_limit),
    Rule(("gate.rules",), stand_ins_need_no_amount),
    Rule(("gate.rules", "evaluation.metrics"), gate_metrics_are_measured),
    Rule(("pipeline.steps",), steps_take_from_steps),
    Rule(("pipeline.steps",), steps_form_no_cycle),
    Rule(("engine", "store"), elsewhere.tasks_reach_the_store),
    Rule(("engine", "pipeline.steps"), elsewhere.tasks_reach_the_rows),
    Rule(("engine", "pipeline.steps", "deploy.registry"), elsewhere.tasks_keep_the_registry),
    Rule(("engine",), elsewhere.vertex_has_a_place),
)


def contestants_of(config: Config) -> list[str]:
    """Return who answers: the named ones, further tuning seeds of theirs, and the comparison's."""
    named, evaluation = config["predict"]["contestants"], config.get("evaluation") or {}
    tuned = [name for name in named if name in ("tuned", "tuned_on_shuffled")]
    seeds = [f"{name}@{seed}" for name in tuned for seed in evaluation.get("seeds") or ()]
    own = (config.get("tuning") or {}).get("seed")
    control = [f"tuned_on_shuffled@{own}"] if "tuned_on_shuffled" in named else []
    comparison = config.get("comparison") or {}
    models = [*comparison.get("models", {}), *comparison.get("registered", {})]
    grid = [f"{prompt}/{model}" for model in models for prompt in comparison.get("prompts", {})]
    plain = [name for name in named if name != "tuned_on_shuffled"]
    return [*plain, *dict.fromkeys([*control, *seeds]), *grid]


def _contestant(config: Config, path: KeyPath, name: str) -> Iterator[Mistake]:
    contestants = contestants_of(config)
    if name not in contestants:
        yield Mistake(
            path,
            f"one of predict.contestants: {', '.join(contestants)}",
            f"'{name}'",
            nearest(name, contestants)
            or f"add {name} to predict.contestants, or change {dotted(path)}",
        )


def _circle(waits: Mapping[str, set[str]], stuck: list[str]) -> str:
    """Return ``a waits for b waits for a`` for one circle among the stuck steps."""
    walked = [stuck[0]]
    while True:
        following = next(name for name in stuck if name in waits[walked[-1]])
        if following in walked:
            return " waits for ".join([*walked[walked.index(following) :], following])
        walked.append(following)


def _usable(config: Config, key: str, wrong: list[KeyPath]) -> bool:
    path = tuple(key.split("."))
    if any(other[: len(path)] == path or path[: len(other)] == other for other in wrong):
        return False
    value: Any = config
    for part in path:
        if not isinstance(value, Mapping) or part not in value:
            return False
        value = value[part]
    return True


def _scalars(value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _scalars(item, (*path, str(key)))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _scalars(item, (*path, str(number)))
    else:
        yield path, value
