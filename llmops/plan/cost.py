"""What a plan would use and cost: rows, bytes, tokens, calls, money; limits; ends of models.

Pure: prices, limits, lifecycles and the day are passed in. Nothing is guessed: a figure is exact,
an upper bound, what it was last time, or unknown with the reason; so is money.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from typing import Any, Literal

from llmops.artifacts import digest
from llmops.config.rules import contestants_of
from llmops.plan.build import DONE, Before, Plan, PlannedStep
from llmops.plan.kinds import KindTable, StepKind
from llmops.plan.power import standard_errors_needed

Basis = Literal["exact", "at most", "last time", "unknown"]
TEBIBYTE = 1 << 40
MILLION = 1_000_000
LAST_LIMIT = re.compile(r"\bLIMIT\s+(\d+)\s*;?\s*$", re.IGNORECASE)


@dataclass(frozen=True)
class Figure:
    """A quantity and how sure it is; ``value`` is null if unknown, ``why`` then says why."""

    value: float | None
    basis: Basis
    why: str = ""

    @property
    def bounds(self) -> bool:
        """Whether the true figure is certainly not above ``value``."""
        return self.basis in ("exact", "at most")


@dataclass(frozen=True)
class Money:
    """What is certain of an amount of money: ``value`` at most, null if a price or quantity lacks.

    ``unknown`` says what lacks, one sentence each.
    """

    value: float | None
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True)
class Use:
    """What one step uses, and what that costs; a quantity that it has none of is null."""

    rows: Figure | None = None
    bytes: Figure | None = None
    tokens: Figure | None = None  # of tuning: tokens of an epoch x epochs
    calls: Figure | None = None
    input_tokens: Figure | None = None
    output_tokens: Figure | None = None
    money: Money = Money(0.0)
    how: str = ""  # how tokens or calls come about, for people


QUANTITIES = ("rows", "bytes", "tokens", "calls", "input_tokens", "output_tokens")


@dataclass(frozen=True)
class Knowledge:
    """Dated tables (``conf/knowledge``) and the day on which the plan is made."""

    prices: Mapping[str, Any]
    limits: Mapping[str, Any]
    models: Mapping[str, Any]
    today: date


@dataclass(frozen=True)
class Caution:
    """Something a reviewer must know before money is spent: ``kind`` is ``limit`` or ``model``."""

    kind: Literal["limit", "model"]
    text: str
    source: str
    blocks: bool = False  # a retired model, an exceeded limit: the run would fail


@dataclass(frozen=True)
class Estimate:
    """The uses of the steps that will run, their sum, and what stands against running them."""

    currency: str
    steps: Mapping[str, Use]
    total: Use
    warnings: tuple[Caution, ...] = ()
    identities: Mapping[str, str] = field(default_factory=dict)  # step -> what makes it the same
    budget: float | None = None  # env.budget: money that this run may cost
    dated: str = ""  # the day of the price table

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON; quantities that a step has none of are left out."""
        return {
            "currency": self.currency,
            "prices_dated": self.dated,
            "steps": {name: use_json(use) for name, use in self.steps.items()},
            "total": use_json(self.total),
            "budget": self.budget,
            "warnings": [asdict(warning) for warning in self.warnings],
        }


@dataclass(frozen=True)
class Outside:
    """What planning found out: bytes that each ingesting step will read, rows of earlier runs."""

    bytes: Mapping[str, int | None] = field(default_factory=dict)
    before: Mapping[str, Before] = field(default_factory=dict)


def estimate(
    plan: Plan,
    config: Mapping[str, Any],
    kinds: KindTable,
    knowledge: Knowledge,
    outside: Outside,
) -> Estimate:
    """Estimate what the plan's steps that will run use and cost."""
    quantities = _Quantities(plan, config, outside)
    prices = _Prices(knowledge.prices, config)
    used = {}
    for step in plan.to_run:
        use = quantities.of(step, kinds[step.kind].uses)
        used[step.name] = prices.priced(use, kinds[step.kind])
    return Estimate(
        currency=knowledge.prices["currency"],
        steps=used,
        total=prices.with_engine(total(used.values()), bool(used)),
        warnings=(
            *_exceeded(plan, config, knowledge, quantities),
            *_lifecycle(plan, config, kinds, knowledge),
        ),
        identities=_identities(plan),
        budget=(config.get("env") or {}).get("budget"),
        dated=knowledge.prices.get("dated", ""),
    )


def of_sweep(estimates: Sequence[Estimate]) -> Estimate:
    """Add the members of a sweep up; a step that several members share is counted once."""
    steps: dict[str, Use] = {}
    engines: list[Money] = []
    for one in estimates:
        for name, use in one.steps.items():
            steps.setdefault(one.identities[name], use)
        engines.append(_rest(one.total.money, total(one.steps.values()).money))
    whole = total(steps.values())
    money = _sum([whole.money, *engines])
    warnings = dict.fromkeys(warning for one in estimates for warning in one.warnings)
    return Estimate(
        estimates[0].currency if estimates else "",
        {},
        _with_money(whole, money),
        tuple(warnings),
        dated=estimates[0].dated if estimates else "",
    )


def actual(
    steps: Sequence[Mapping[str, Any]],
    config: Mapping[str, Any],
    kinds: KindTable,
    prices: Mapping[str, Any],
) -> dict[str, Use]:
    """Return what the steps that a run record calls done did use, by the same prices."""
    table = _Prices(prices, config)
    return {
        step["name"]: table.priced(_used(step), kinds[step["kind"]])
        for step in steps
        if step["status"] == "done"
    }


def spent(
    used: Mapping[str, Use],
    config: Mapping[str, Any],
    prices: Mapping[str, Any],
    *,
    engine_started: bool,
) -> Use:
    """Return what a run used in all: its steps', as of ``actual``, and the engine's for a run."""
    return _Prices(prices, config).with_engine(total(used.values()), engine_started)


def _used(step: Mapping[str, Any]) -> Use:
    facts = step["facts"]
    if step["kind"] == "ingest":
        return Use(rows=_known(step["outputs"]["rows"]["rows"]), bytes=_known(facts.get("bytes")))
    if step["kind"] == "tune_again":
        return Use(tokens=_known(facts.get("tokens")))
    if step["kind"] == "tune":
        return Use(rows=_known(facts.get("examples_used")), tokens=_known(facts.get("tokens")))
    if step["kind"] == "predict":
        rows = _known(step["outputs"]["responses"]["rows"])
        return Use(
            rows=rows,
            calls=rows,
            input_tokens=_known(facts.get("input_tokens")),
            output_tokens=_known(facts.get("output_tokens")),
        )
    if step["kind"] == "judge":
        return Use(
            calls=_known(facts.get("calls")),
            input_tokens=_known(facts.get("input_tokens")),
            output_tokens=_known(facts.get("output_tokens")),
        )
    main = {"validate": "rows", "transform": "examples"}.get(step["kind"])
    return Use(rows=_known(step["outputs"][main]["rows"]) if main else None)


def _known(value: float | None) -> Figure:
    if value is None:
        return Figure(None, "unknown", "the step did not say")
    return Figure(value, "exact")


def total(uses: Iterable[Use]) -> Use:
    """Add uses up; rows are not added, as each step reads those of the one before it."""
    found = list(uses)

    def added(pick: Callable[[Use], Figure | None]) -> Figure | None:
        return _add([figure for use in found if (figure := pick(use)) is not None])

    return Use(
        bytes=added(lambda use: use.bytes),
        tokens=added(lambda use: use.tokens),
        calls=added(lambda use: use.calls),
        input_tokens=added(lambda use: use.input_tokens),
        output_tokens=added(lambda use: use.output_tokens),
        money=_sum([use.money for use in found]),
    )


def use_json(use: Use) -> dict[str, Any]:
    """Return a use as plain JSON."""
    quantities = {
        name: {"value": figure.value, "basis": figure.basis} | _why(figure)
        for name in QUANTITIES
        if (figure := getattr(use, name)) is not None
    }
    money = {"value": use.money.value, "unknown": list(use.money.unknown)}
    return quantities | {"money": money} | ({"how": use.how} if use.how else {})


def over_budget(found: Money, budget: float, currency: str) -> str:
    """Say why this is not certainly within the budget; an empty text if it is."""
    if found.value is None:
        reasons = "; ".join(found.unknown)
        return f"a budget of {budget:g} {currency} cannot be guaranteed: {reasons}"
    if found.value > budget:
        return f"it would cost up to {found.value:,.2f} {currency}, the budget is {budget:g}"
    return ""


# ----------------------------------------------------------------- quantities


class _Quantities:
    """How many rows, tokens and calls each step of a plan has, at most."""

    def __init__(self, plan: Plan, config: Mapping[str, Any], outside: Outside) -> None:
        self.steps = {step.name: step for step in plan.steps}
        self.config = config
        self.outside = outside

    def of(self, step: PlannedStep, uses: Sequence[str]) -> Use:
        """Return a step's use, without money."""
        if step.kind == "ingest":
            return Use(rows=self.rows(step.name, "rows"), bytes=self._bytes(step))
        if step.kind == "tune":
            return self._tuning(step)
        if step.kind == "tune_again":
            return self._tuning_again(step)
        if step.kind == "judge":
            return self._judging(step)
        if step.kind == "evaluate":
            return self._evaluating(step)
        if step.kind == "predict":
            return self._predicting(step)
        if step.kind in ("validate", "transform", "split"):
            return Use(rows=self._given(step))
        unknown = Figure(None, "unknown", f"llmops does not know what a {step.kind} step uses")
        return Use(
            bytes=unknown if "warehouse" in uses else None,
            tokens=unknown if "tuner" in uses else None,
            calls=unknown if "generator" in uses else None,
        )

    def rows(self, step: str, output: str) -> Figure:
        """Return how many rows an output will have."""
        planned = self.steps[step]
        if planned.entry is not None:
            given = planned.entry.outputs[output].rows
            if given is not None:
                return Figure(given, "exact")
        bound = self._bound(planned)
        if bound.value is not None:
            return bound
        before = self.outside.before.get(step)
        if before and before.rows.get(output) is not None:
            return Figure(before.rows[output], "last time")
        return bound

    def _given(self, step: PlannedStep) -> Figure:
        output = {"validate": "rows", "transform": "examples"}.get(step.kind)
        return self.rows(step.name, output) if output else self._bound(step)

    def _bound(self, step: PlannedStep) -> Figure:
        """Return an upper bound of the rows of any output of a step of the data part."""
        if step.kind == "ingest":
            return _rows_of_query(self.config["dataset"])
        taken = {"validate": "rows", "transform": "rows", "split": "examples"}.get(step.kind)
        source = step.takes.get(taken or "")
        if source is None:
            return Figure(None, "unknown", f"nothing is known of the rows of {step.name}")
        return _at_most(self.rows(*source.split(".")))

    def _bytes(self, step: PlannedStep) -> Figure:
        found = self.outside.bytes.get(step.name)
        if found is None:
            return Figure(None, "unknown", "the warehouse gives no estimate before it is asked")
        return Figure(found, "at most")

    def _tuning(self, step: PlannedStep) -> Use:
        tuning, model = self.config["tuning"], self.config["model"]
        rows = self._taken(step, "train")
        if tuning["max_examples"] is not None:
            rows = _capped(rows, tuning["max_examples"])
        tuner = model.get("tuner", {})
        longest, batch = tuner.get("max_tokens"), tuner.get("batch_rows")
        if longest is None:
            why = f"the tokens of an example are not known for {model['kind']} before tuning"
            return Use(rows=rows, tokens=Figure(None, "unknown", why))
        if tuning["max_steps"] is not None and batch is not None:
            examples: Figure = Figure(tuning["max_steps"] * batch, "at most")
            how = f"{tuning['max_steps']:,} steps x {batch} rows x {longest} tokens"
        else:
            examples = _times(rows, tuning["epochs"])
            how = f"{longest} tokens x {tuning['epochs']} epochs a row"
        return Use(rows=rows, tokens=_at_most(_times(examples, longest)), how=how)

    def _tuning_again(self, step: PlannedStep) -> Use:
        """Return the use of one tuning, once for each seed; a control has the tuned model's too."""
        seeds = set(self.config["evaluation"].get("seeds") or ())
        own = {self.config["tuning"]["seed"]}
        count = len(seeds | own if step.settings.get("with.answers") == "shuffled" else seeds - own)
        once = self._tuning(step)
        assert once.tokens is not None
        seeds_said = f"{count} seed{'s' if count != 1 else ''}"
        how = f"{seeds_said} x {once.how}" if once.how else seeds_said
        return Use(rows=once.rows, tokens=_times(once.tokens, count), how=how)

    def _predicting(self, step: PlannedStep) -> Use:
        predict, evaluation = self.config["predict"], self.config["evaluation"]
        rows = self._taken(step, "test")
        if evaluation["max_rows"] is not None:
            rows = _capped(rows, evaluation["max_rows"])
        contestants = len(contestants_of(self.config))
        calls = _times(rows, contestants)
        shown = "?" if rows.value is None else f"{rows.value:,.0f}"
        return Use(
            rows=calls,
            calls=calls,
            input_tokens=Figure(
                None, "unknown", "tokens of prompts are counted when they are sent"
            ),
            output_tokens=_at_most(_times(calls, predict["max_new_tokens"])),
            how=f"{contestants} contestants x {shown} test rows",
        )

    def _evaluating(self, step: PlannedStep) -> Use:
        """Return the test rows, and the smallest differences that so many can show."""
        rows = self._taken(step, "test")
        if self.config["evaluation"]["max_rows"] is not None:
            rows = _capped(rows, self.config["evaluation"]["max_rows"])
        if not rows.value:
            return Use(rows=rows)
        errors = standard_errors_needed(self.config["evaluation"]["confidence"])
        deviations = errors / math.sqrt(rows.value)
        points = 100 * errors * math.sqrt(0.5 / rows.value)  # half of the rows change sides
        how = (
            f"shows differences from {deviations:.2f} deviations, of rates from {points:.0f} points"
        )
        return Use(rows=rows, how=how)

    def _judging(self, step: PlannedStep) -> Use:
        """Return the calls that judging may take at most: its cap."""
        judge = self.config["judge"]
        calls = Figure(judge["max_calls"], "at most")
        why = "tokens of prompts are counted when they are sent"
        return Use(
            calls=calls,
            input_tokens=Figure(None, "unknown", why),
            output_tokens=_times(calls, judge["max_new_tokens"]),
            how="judge.max_calls",
        )

    def _taken(self, step: PlannedStep, name: str) -> Figure:
        source = step.takes.get(name)
        if source is None:
            return Figure(None, "unknown", f"{step.name} takes no {name}")
        return self.rows(*source.split("."))


def _rows_of_query(dataset: Mapping[str, Any]) -> Figure:
    bounds = [dataset["max_rows"]] if dataset["max_rows"] is not None else []
    limit = LAST_LIMIT.search(dataset["query"].strip())
    if limit:
        bounds.append(int(limit[1]))
    if not bounds:
        return Figure(None, "unknown", "the query has no LIMIT, and dataset.max_rows is null")
    return Figure(min(bounds), "at most")


def _at_most(figure: Figure) -> Figure:
    return Figure(figure.value, "at most") if figure.basis == "exact" else figure


def _capped(figure: Figure, cap: float) -> Figure:
    if figure.basis == "exact" and figure.value is not None:
        return Figure(min(figure.value, cap), "exact")
    bound = cap if figure.value is None or not figure.bounds else min(figure.value, cap)
    return Figure(bound, "at most")


def _times(figure: Figure, factor: float) -> Figure:
    return figure if figure.value is None else Figure(figure.value * factor, figure.basis)


def _add(figures: Sequence[Figure]) -> Figure | None:
    if not figures:
        return None
    lacking = next((figure for figure in figures if figure.value is None), None)
    if lacking is not None:
        return lacking
    order = ("exact", "at most", "last time")
    worst = max((figure.basis for figure in figures), key=order.index)
    return Figure(math.fsum(figure.value or 0 for figure in figures), worst)


def _why(figure: Figure) -> dict[str, str]:
    return {"why": figure.why} if figure.why else {}


# ---------------------------------------------------------------------- money


def model_shares(config: Mapping[str, Any]) -> dict[tuple[str, str | None], float]:
    """Return each answering model, as kind and base, with its share of the contestants."""
    comparison = config.get("comparison") or {}
    everybody = contestants_of(config) if "predict" in config else []
    own = config["model"]["kind"], config["model"].get("base")
    counted: Counter[tuple[str, str | None]] = Counter()
    for name in everybody:
        model = comparison.get("models", {}).get(name.partition("/")[2])
        counted[own if model is None else (model["kind"], model.get("base"))] += 1
    if not counted:
        return {own: 1.0}
    return {model: count / len(everybody) for model, count in counted.items()}


class _Prices:
    """Looks prices up and multiplies; a price of nothing costs nothing, however much is used."""

    def __init__(self, table: Mapping[str, Any], config: Mapping[str, Any]) -> None:
        self.entries: Sequence[Mapping[str, Any]] = table["prices"]
        self.config = config

    def priced(self, use: Use, kind: StepKind) -> Use:
        """Return the use with what it costs."""
        uses = kind.uses
        charges: list[Money] = []
        if "warehouse" in uses:
            charges.append(self._charge("warehouse", "tebibyte", use.bytes, TEBIBYTE))
        if "tuner" in uses:
            charges.append(self._charge("tuner", "million_tokens", use.tokens, MILLION))
        if "generator" in uses:
            charges += self._answering(use, kind.name)
        if "scorer" in uses:
            charges.append(self._charge("scorer", "call", use.calls, 1))
        if "registry" in uses:
            charges.append(self._charge("registry", "model", Figure(1, "exact"), 1))
        return _with_money(use, _sum(charges))

    def with_engine(self, use: Use, starts: bool) -> Use:
        """Add what the engine takes for a run that starts it."""
        if not starts:
            return use
        return _with_money(
            use, _sum([use.money, self._charge("engine", "run", Figure(1, "exact"), 1)])
        )

    def _answering(self, use: Use, kind: str) -> list[Money]:
        """Return what answers or verdicts cost, each model's share of them at its own price."""
        shares = model_shares(self.config)
        if kind == "judge":
            judge = self.config["judge"]["model"]
            shares = {(judge["kind"], judge.get("base")): 1.0}
        parts = (
            ("million_input_tokens", use.input_tokens),
            ("million_output_tokens", use.output_tokens),
        )
        return [
            self._charge("generator", unit, figure and _times(figure, share), MILLION, chosen=model)
            for model, share in shares.items()
            for unit, figure in parts
        ]

    def _charge(
        self,
        port: str,
        unit: str,
        figure: Figure | None,
        size: int,
        chosen: tuple[str, str | None] | None = None,
    ) -> Money:
        kind, base = chosen or self._chosen(port)
        price = self.price(port, kind, base, unit)
        name = f"{port} {kind}" + (f" {base}" if base and port != "engine" else "")
        if price is None:
            return Money(None, (f"the price of a {unit.replace('_', ' ')} of {name} is unknown",))
        if price == 0:
            return Money(0.0)
        if figure is None or figure.value is None:
            why = figure.why if figure else f"what {name} is asked for is not known"
            return Money(None, (f"{name}: {why}",))
        if not figure.bounds:
            return Money(None, (f"{name}: only last time's figure is known",))
        return Money(figure.value / size * price)

    def _chosen(self, port: str) -> tuple[str, str | None]:
        config = self.config
        if port in ("tuner", "generator"):
            return config["model"]["kind"], config["model"].get("base")
        section = {
            "warehouse": config.get("warehouse"),
            "engine": config.get("engine"),
            "scorer": (config.get("safety") or {}).get("scorer"),
            "registry": (config.get("deploy") or {}).get("registry"),
        }[port]
        return (section or {}).get("kind", "none"), None

    def price(self, port: str, kind: str, base: str | None, unit: str) -> float | None:
        """Return the price for this very model, else for any of the kind; null if unknown."""
        fitting = [
            entry
            for entry in self.entries
            if (entry["port"], entry["kind"], entry["unit"]) == (port, kind, unit)
            and entry.get("base") in (None, base)
        ]
        fitting.sort(key=lambda entry: entry.get("base") is None)
        return fitting[0]["price"] if fitting else None


@dataclass(frozen=True)
class AnswerPrice:
    """What a token costs, in and out; null if nobody knows the price."""

    input: float | None
    output: float | None
    currency: str

    def of(self, prompt_tokens: int, output_tokens: int) -> float | None:
        """Return what an answer cost, or null if a price is unknown."""
        if self.input is None or self.output is None:
            return None
        return prompt_tokens * self.input + output_tokens * self.output


def answer_price(table: Mapping[str, Any], kind: str, base: str) -> AnswerPrice:
    """Look up what the tokens of one model's answers cost, in ``conf/knowledge/prices.yaml``."""
    prices = _Prices(table, {})
    units = ("million_input_tokens", "million_output_tokens")
    found = [prices.price("generator", kind, base, unit) for unit in units]
    each = [None if price is None else price / MILLION for price in found]
    return AnswerPrice(each[0], each[1], table["currency"])


def _sum(parts: Sequence[Money]) -> Money:
    unknown = tuple(dict.fromkeys(text for part in parts for text in part.unknown))
    if any(part.value is None for part in parts):
        return Money(None, unknown)
    return Money(math.fsum(part.value or 0 for part in parts))


def _rest(whole: Money, part: Money) -> Money:
    """Return what ``whole`` holds beside ``part``: the engine's share."""
    if whole.value is None or part.value is None:
        extra = tuple(text for text in whole.unknown if text not in part.unknown)
        return Money(None if extra else 0.0, extra)
    return Money(whole.value - part.value)


def _with_money(use: Use, money: Money) -> Use:
    return replace(use, money=money)


# ------------------------------------------------------------------- warnings


def _exceeded(
    plan: Plan, config: Mapping[str, Any], knowledge: Knowledge, quantities: _Quantities
) -> Iterator[Caution]:
    model = config.get("model")
    tune = next((step for step in plan.steps if step.kind == "tune"), None)
    if model is None or tune is None:
        return
    for limit in knowledge.limits["limits"]:
        if limit["kind"] != model["kind"] or (
            limit["bases"] and model.get("base") not in limit["bases"]
        ):
            continue
        source = f"{limit['source']} ({limit['dated']})"
        if "leaf" in limit and (text := _leaf_over(config, limit)):
            yield Caution("limit", text, source, blocks=True)
        if "quantity" in limit:
            yield from _quantity_over(tune, limit, quantities, source)


def _leaf_over(config: Mapping[str, Any], limit: Mapping[str, Any]) -> str:
    value: Any = config
    for part in limit["leaf"].split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    if value is None:
        return ""
    if "one_of" in limit and value not in limit["one_of"]:
        accepted = ", ".join(map(str, limit["one_of"]))
        return f"{limit['leaf']} is {value}, the provider accepts {accepted}"
    if "at_most" in limit and value > limit["at_most"]:
        return f"{limit['leaf']} is {value}, the provider accepts at most {limit['at_most']:,}"
    return ""


def _quantity_over(
    step: PlannedStep, limit: Mapping[str, Any], quantities: _Quantities, source: str
) -> Iterator[Caution]:
    name = limit["quantity"].removesuffix("_rows")
    if name not in step.takes:
        return
    rows = quantities.rows(*step.takes[name].split("."))
    share = 1.0 if rows.basis == "exact" else quantities.config["split"][name]
    if rows.value is not None and rows.value * share > limit["at_most"]:
        amount = "" if rows.basis == "exact" else "up to about "
        text = (
            f"the {name} side has {amount}{rows.value * share:,.0f} rows, "
            f"the provider accepts {limit['at_most']:,}"
        )
        yield Caution("limit", text, source, blocks=rows.basis == "exact")


def _lifecycle(
    plan: Plan, config: Mapping[str, Any], kinds: KindTable, knowledge: Knowledge
) -> Iterator[Caution]:
    model = config.get("model")
    asked = any({"tuner", "generator"} & set(kinds[step.kind].uses) for step in plan.steps)
    if model is not None and asked:
        yield from lifecycle(model["kind"], model.get("base"), knowledge)


def lifecycle(kind: str, base: str | None, knowledge: Knowledge) -> Iterator[Caution]:
    """Say if a base model is gone, is going soon, or is in no table."""
    entries = [entry for entry in knowledge.models["models"] if entry["kind"] == kind]
    entry = next((e for e in entries if e["base"] == base), None) or next(
        (e for e in entries if e["base"] is None), None
    )
    if entry is None:
        dated = knowledge.models["dated"]
        text = (
            f"nothing is known of when {kind} '{base}' retires: it is not in the table of {dated}"
        )
        yield Caution("model", text, "conf/knowledge/models.yaml")
        return
    source = f"{entry['source']} ({entry['dated']})"
    advice = f"; move to {entry['replacement']}" if entry["replacement"] else ""
    for what, word in (("shuts_down", "shut down"), ("retires", "retired")):
        if entry[what] is None:
            continue
        days = (date.fromisoformat(entry[what]) - knowledge.today).days
        if days <= 0:
            later = entry["shuts_down"] if what == "retires" else None
            end = f" and shuts down on {later}" if later else ""
            text = f"{base} {word} on {entry[what]}{end}{advice}"
            yield Caution("model", text, source, blocks=what == "shuts_down")
            return
    coming = [
        (entry[what], word)
        for what, word in (("retires", "retires"), ("shuts_down", "shuts down"))
        if entry[what] is not None
        and (date.fromisoformat(entry[what]) - knowledge.today).days
        <= knowledge.models["warn_days"]
    ]
    if coming:
        on, word = coming[0]
        days = (date.fromisoformat(on) - knowledge.today).days
        yield Caution("model", f"{base} {word} on {on}, in {days} days{advice}", source)


# ----------------------------------------------------------------- identities


def _identities(plan: Plan) -> dict[str, str]:
    """Return for each step what makes it the same step in two members of a sweep."""
    found: dict[str, str] = {}
    for step in plan.steps:
        if step.key is not None and step.status in (*DONE, "run"):
            found[step.name] = step.key
            continue
        takes = {}
        for name, source in step.takes.items():
            above, _, output = source.partition(".")
            takes[name] = f"{found[above]}.{output}"
        found[step.name] = digest([step.kind, step.revision, step.settings, takes, step.source])
    return found
