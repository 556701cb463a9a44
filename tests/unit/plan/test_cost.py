from __future__ import annotations

import copy
from dataclasses import replace
from datetime import date

import pytest

from llmops.artifacts import Artifact
from llmops.config.reference_tables import read_tables
from llmops.config.validate import validate
from llmops.plan import cost
from llmops.plan.build import Before, Facts, Selection, build
from llmops.plan.cost import Figure, Knowledge, Money, Outside, Use, estimate, lifecycle, of_sweep
from llmops.ports.store import IndexEntry
from llmops.steps import step_kinds

KINDS = step_kinds()
DAY = date(2026, 11, 23)
PRICES = {
    ("engine", "local", "run"): 1.0,
    ("warehouse", "duckdb", "tebibyte"): 5.0,
    ("tuner", "local", "million_tokens"): 2.0,
    ("generator", "local", "million_input_tokens"): 0.0,
    ("generator", "local", "million_output_tokens"): 10.0,
    ("scorer", "profanity", "call"): 0.0,
    ("registry", "files", "model"): 0.0,
}


@pytest.fixture(scope="module")
def tables():
    return read_tables()


@pytest.fixture(scope="module")
def config():
    return validate(["+experiment=so_python"]).config


def knowledge(tables, changes=None, **other):
    prices = {**PRICES, **(changes or {})}
    entries = [{"port": p, "kind": k, "unit": u, "price": x} for (p, k, u), x in prices.items()]
    known = Knowledge({"currency": "USD", "prices": entries}, tables.limits, tables.models, DAY)
    return replace(known, **other)


def planned(config, facts=None):
    facts = facts or Facts(lambda key: None)
    return build(config, KINDS, facts, config_digest="d", selection=Selection())


def estimated(config, known, outside=None, facts=None):
    plan = planned(config, facts)
    return estimate(plan, config, KINDS, known, outside or Outside({"ingest": 1 << 40}))


def test_money_is_quantity_times_price_summed_over_the_steps(config, tables):
    found = estimated(config, knowledge(tables))
    tuning, answers = 40 * 8 * 192 / 1e6 * 2.0, 3 * 48 * 96 / 1e6 * 10.0
    assert found.steps["tune"].tokens == Figure(40 * 8 * 192, "at most")
    assert found.steps["predict"].calls == Figure(144, "at most")
    assert found.total.money.value == pytest.approx(1.0 + 5.0 + tuning + answers)


def test_an_unknown_price_makes_the_total_unknown_and_is_named(config, tables):
    known = knowledge(tables, {("tuner", "local", "million_tokens"): None})
    money = estimated(config, known).total.money
    base = config["model"]["base"]
    assert money.value is None
    assert money.unknown == (f"the price of a million tokens of tuner local {base} is unknown",)


@pytest.fixture(scope="module")
def judged():
    choices = ["pipeline=judged", "judge=helpfulness", "judge.model.base=big"]
    endpoint = "judge.model.endpoint=http://127.0.0.1:9/v1"
    metrics = "evaluation.metrics=[loss,chrf,judge]"
    return validate(["+experiment=so_python", *choices, endpoint, metrics]).config


def test_a_judge_is_charged_at_the_price_of_its_own_model(judged, tables):
    prices = {
        ("generator", "openai", "million_input_tokens"): 0.0,
        ("generator", "openai", "million_output_tokens"): 100.0,
    }
    money = estimated(judged, knowledge(tables, prices)).steps["judge"].money
    assert money.value == pytest.approx(500 * 256 / 1e6 * 100)
    unpriced = estimated(judged, knowledge(tables)).steps["judge"].money
    assert unpriced.value is None
    assert "generator openai big" in unpriced.unknown[0]


def test_what_judging_used_is_told_by_its_facts(judged, tables):
    facts = {"calls": 10, "input_tokens": 1_000_000, "output_tokens": 2_000_000}
    step = {"name": "judge", "kind": "judge", "status": "done", "facts": facts, "outputs": {}}
    prices = {
        ("generator", "openai", "million_input_tokens"): 1.0,
        ("generator", "openai", "million_output_tokens"): 2.0,
    }
    (used,) = cost.actual([step], judged, KINDS, knowledge(tables, prices).prices).values()
    assert used.money.value == pytest.approx(5.0)


def test_a_price_that_is_in_no_table_is_unknown(config, tables):
    known = replace(knowledge(tables), prices={"currency": "USD", "prices": []})
    assert estimated(config, known).total.money.value is None


def test_what_costs_nothing_costs_nothing_however_much_of_it_there_is(config, tables):
    known = knowledge(tables, {("warehouse", "duckdb", "tebibyte"): 0.0})
    found = estimated(config, known, Outside())
    assert found.steps["ingest"].bytes.value is None
    assert found.steps["ingest"].money == Money(0.0)


def test_an_unknown_quantity_of_what_has_a_price_makes_money_unknown(config, tables):
    money = estimated(config, knowledge(tables), Outside()).total.money
    assert money.value is None
    assert "the warehouse gives no estimate" in money.unknown[0]


def test_the_price_of_a_model_goes_before_that_of_its_kind(config, tables):
    known = knowledge(tables)
    own = {"port": "tuner", "kind": "local", "unit": "million_tokens", "price": 0.0}
    entries = [*known.prices["prices"], own | {"base": config["model"]["base"]}]
    found = estimated(config, replace(known, prices={"currency": "USD", "prices": entries}))
    assert found.steps["tune"].money == Money(0.0)


def test_tokens_by_epochs_are_those_of_a_row_times_epochs(config, tables):
    by_epochs = copy.deepcopy(config)
    by_epochs["tuning"] |= {"max_steps": None, "epochs": 3, "max_examples": 100}
    found = estimated(by_epochs, knowledge(tables))
    assert found.steps["tune"].tokens == Figure(100 * 3 * 192, "at most")
    assert found.steps["tune"].how == "192 tokens x 3 epochs a row"


def test_rows_of_a_cached_split_are_exact(config, tables):
    def entry(key):
        outputs = {
            port.name: Artifact("u", port.kind, f"{key}{port.name}", 1, 30)
            for kind in ("ingest", "validate", "transform", "split")
            for port in KINDS[kind].gives
        }
        return IndexEntry(key, "s", "k", 1, {}, {}, {}, outputs, {}, "r", 0.0)

    seen = iter(range(4))
    facts = Facts(lambda key: entry(key) if next(seen, None) is not None else None)
    found = estimated(config, knowledge(tables), facts=facts)
    assert next(iter(found.steps)) == "tune"
    assert found.steps["tune"].rows == Figure(30, "exact")
    assert found.steps["predict"].calls == Figure(90, "exact")


def test_rows_that_nothing_bounds_are_those_of_last_time_and_no_bound(config, tables):
    unbound = copy.deepcopy(config)
    unbound["dataset"]["query"] = "SELECT 1"
    before = {"ingest": Before("k", 1, {}, {}, {}, {"rows": 77})}
    found = estimated(unbound, knowledge(tables), Outside({"ingest": 1}, before))
    assert found.steps["ingest"].rows == Figure(77, "last time")
    assert not found.steps["ingest"].rows.bounds


def test_a_limit_at_the_end_of_the_query_bounds_the_rows(config, tables):
    found = estimated(config, knowledge(tables))
    assert found.steps["ingest"].rows == Figure(10000, "at most")


def test_a_sweep_counts_a_shared_step_once(config, tables):
    other = copy.deepcopy(config)
    other["tuning"]["max_steps"] = 20
    known = knowledge(tables)
    members = [estimated(config, known), estimated(other, known), estimated(config, known)]
    whole = of_sweep(members)
    assert whole.total.tokens == Figure((40 + 20) * 8 * 192, "at most")
    assert whole.total.bytes == Figure(1 << 40, "at most")
    ingest, engine = 5.0, 3.0
    rest = sum(m.steps[s].money.value for m in members[:2] for s in ("tune", "predict"))
    assert whole.total.money.value == pytest.approx(ingest + engine + rest)


@pytest.mark.parametrize(
    ("money", "budget", "refused"),
    [
        (Money(5.0), 5, ""),
        (Money(5.01), 5, "it would cost up to 5.01 USD, the budget is 5"),
        (Money(None, ("x is unknown",)), 5, "a budget of 5 USD cannot be guaranteed: x is unknown"),
        (Money(0.0), 0, ""),
    ],
)
def test_a_budget_holds_only_if_it_certainly_does(money, budget, refused):
    assert cost.over_budget(money, budget, "USD") == refused


# ----------------------------------------------------------- limits and ends


def managed(config, base, **tuner):
    changed = copy.deepcopy(config)
    changed["model"] = {"kind": "gemini", "base": base, "region": "us-central1", "tuner": tuner}
    return changed


def cautions(config, known):
    return {caution.text: caution.blocks for caution in estimated(config, known).warnings}


def test_an_option_that_the_provider_does_not_accept_is_said(config, tables):
    found = cautions(managed(config, "gemini-3.5-flash", adapter_size=32), knowledge(tables))
    assert found == {"model.tuner.adapter_size is 32, the provider accepts 1, 2, 4, 8, 16": True}


def test_a_region_that_does_not_tune_is_said(config, tables):
    changed = managed(config, "gemini-3.5-flash")
    changed["model"]["tuner"] = {"region": "europe-west1"}
    assert list(cautions(changed, knowledge(tables))) == [
        "model.tuner.region is europe-west1, the provider accepts us-central1, europe-west4"
    ]


def test_more_validation_rows_than_the_provider_takes_are_said(config, tables):
    many = managed(config, "gemini-3.5-flash")
    many["dataset"] |= {"query": "SELECT 1", "max_rows": 80_000}
    text = "the validation side has up to about 8,000 rows, the provider accepts 5,000"
    assert cautions(many, knowledge(tables)) == {text: False}


@pytest.mark.parametrize(
    ("base", "today", "text", "blocks"),
    [
        (
            "gemini-2.5-flash",
            date(2026, 8, 1),
            "gemini-2.5-flash retires on 2026-10-20, in 80 days; move to gemini-3.5-flash",
            False,
        ),
        (
            "gemini-2.5-flash",
            DAY,
            "gemini-2.5-flash retired on 2026-10-20 and shuts down on 2027-03-31; "
            "move to gemini-3.5-flash",
            False,
        ),
        (
            "gemini-2.5-flash",
            date(2027, 4, 1),
            "gemini-2.5-flash shut down on 2027-03-31; move to gemini-3.5-flash",
            True,
        ),
        (
            "gemini-9",
            DAY,
            "nothing is known of when gemini 'gemini-9' retires: "
            "it is not in the table of 2026-11-23",
            False,
        ),
    ],
)
def test_a_model_that_goes_is_warned_of(base, today, text, blocks, tables):
    (found,) = lifecycle("gemini", base, knowledge(tables, today=today))
    assert (found.text, found.blocks) == (text, blocks)
    assert found.source


@pytest.mark.parametrize(("kind", "base"), [("gemini", "gemini-3.5-flash"), ("local", "anything")])
def test_a_model_that_stays_is_not_warned_of(kind, base, tables):
    assert list(lifecycle(kind, base, knowledge(tables))) == []


def test_what_a_run_used_is_told_by_the_same_prices(config, tables):
    steps = [
        {
            "name": "tune",
            "kind": "tune",
            "status": "done",
            "facts": {"tokens": 500_000, "examples_used": 9},
            "outputs": {},
        },
        {"name": "gate", "kind": "gate", "status": "cached", "facts": {}, "outputs": {}},
    ]
    used = cost.actual(steps, config, KINDS, knowledge(tables).prices)
    assert used == {
        "tune": Use(rows=Figure(9, "exact"), tokens=Figure(500_000, "exact"), money=Money(1.0))
    }


def test_a_run_that_started_its_engine_spent_what_that_takes(config, tables):
    prices = knowledge(tables).prices
    used = {"tune": Use(money=Money(0.5))}
    assert cost.spent(used, config, prices, engine_started=True).money == Money(1.5)
    assert cost.spent(used, config, prices, engine_started=False).money == Money(0.5)
