"""split: train, validation and test, as Parquet and in tuners' JSONL, with a dataset card.

The same config and the same rows give the same bytes; leakage from train to test is measured
whatever the method. Knows no warehouse and no prompt template.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from llmops.data.card import CARD, card_markdown
from llmops.data.columns import SIDES
from llmops.data.settings import (
    NearDuplicates,
    SplitSettings,
    Tokens,
    check_formats,
    check_split,
    check_version,
)
from llmops.plan.kinds import Adapters, Outcome, Port, Source, StepKind, Work, leaf

if TYPE_CHECKING:
    from llmops.data.limits import Limits


@dataclass(frozen=True)
class Settings:
    """What split reads of the config."""

    version: str = leaf("version")
    split: SplitSettings = leaf("split")
    near_duplicates: NearDuplicates = leaf("dataset.near_duplicates")
    formats: tuple[str, ...] = leaf("dataset.formats")
    licence: str = leaf("dataset.licence")
    source_terms: str = leaf("dataset.source_terms")
    acknowledged_terms: tuple[str, ...] = leaf("dataset.acknowledged_terms")
    memory_limit: str = leaf("dataset.memory_limit", in_key=False)
    tokens: Tokens = leaf("dataset.tokens", in_key=False)  # counts only where a limit asks
    model_kind: str | None = leaf("model.kind", in_key=False, optional=True)
    model_base: str | None = leaf("model.base", in_key=False, optional=True)


def source(settings: Settings, adapters: Adapters) -> Source:
    """Return the limits of the chosen tuner, as the table of limits has them today.

    Raises:
        ConfigError: If the table does not fit its schema.
    """
    found = provider_limits(settings.model_kind, settings.model_base)
    if not found.limits:
        return Source({})
    return Source({"limits": asdict(found), "tokenizer": settings.tokens.tokenizer})


def provider_limits(kind: str | None, base: str | None) -> Limits:
    """Return what the tuner of ``model.kind`` accepts; nothing where no model is chosen."""
    from llmops.config.knowledge import PROVIDERS
    from llmops.config.reference_tables import read_tables
    from llmops.data.limits import Limits, limits_of

    provider = PROVIDERS.get(kind or "")
    if provider is None or not provider.formats:
        return Limits()
    return limits_of(read_tables().limits, str(kind), base, provider.formats)


def run(work: Work[Settings]) -> Outcome:
    """Group, divide, measure and write the examples.

    Raises:
        ConfigError: If the settings cannot be followed.
        DataError: If a side that should have rows has none.
    """
    from llmops.data import dataset, groups, leakage, splits
    from llmops.data.examples import RenderedRows
    from llmops.data.limits import fit
    from llmops.data.memory import check_rows
    from llmops.data.parquet import ParquetRows, count_rows
    from llmops.data.tokens import Counter

    settings, examples = work.settings, work.inputs["examples"]
    system = dataset.system_text(examples)
    _check(settings, has_system=system is not None)
    memory = check_rows(settings.memory_limit, count_rows(examples), "split")
    rows = ParquetRows(examples, memory.batch_bytes)
    texts = groups.index_examples(rows, settings.near_duplicates, work.scratch)
    grouped = groups.group_rows(rows, settings.split.by, texts)
    facts = dataset.split_facts(examples, grouped, settings.split)
    sides = splits.assign(grouped, facts, settings.split)
    rendered = RenderedRows(rows, system, settings.split.seed, Counter(settings.tokens))
    limits = provider_limits(settings.model_kind, settings.model_base)
    fitted = fit(sides, limits, rendered)
    leaked = leakage.measure(fitted.sides, texts, settings.near_duplicates.threshold)
    version = dataset.data_version(examples, fitted.sides, settings.version)
    plan = dataset.Plan(grouped, version, settings.formats, fitted)
    parquet = {side: work.outputs[side] for side in SIDES}
    to = dataset.Places(parquet, work.outputs["files"], memory.batch_bytes)
    files = dataset.write_sides(examples, plan, to, work.progress)
    terms = dataset.Terms(settings.licence, settings.source_terms, settings.acknowledged_terms)
    card = dataset.card(plan, settings.split, leaked, terms, dataset.prompted(examples), files)
    text = json.dumps(card, indent=2, ensure_ascii=False)
    work.outputs["card"].write_text(text + "\n", encoding="utf-8")
    (work.outputs["files"] / CARD).write_text(card_markdown(card), encoding="utf-8")
    return Outcome(rows=card["rows"], facts=_facts(card, settings.split))


def _check(settings: Settings, *, has_system: bool) -> None:
    check_version(settings.version)
    check_split(settings.split)
    check_formats(settings.formats, has_system=has_system)


def _facts(card: Mapping[str, Any], split: SplitSettings) -> dict[str, Any]:
    kept = ("dataset_version", "rows", "limits", "method", "groups", "largest_group", "leakage")
    return {**{name: card[name] for name in kept}, "notes": _notes(card, split)}


def _notes(card: Mapping[str, Any], split: SplitSettings) -> list[str]:
    """Say what the split could not do as asked."""
    notes = [
        f"split.by names {join}, but dataset.columns.{join} is null: rows were not joined by it"
        for join in split.by
        if join not in card["by"]
    ]
    for cut in (card["limits"] or {"cut": []})["cut"]:
        if left_out := sum(cut["rows"].values()):
            notes.append(
                f"{left_out} rows were left out: {card['limits']['of']} accepts "
                f"{cut['quantity']} of at most {cut['at_most']:,g}"
            )
    total, largest = sum(card["rows"].values()), card["largest_group"]
    if split.method == "group" and largest > split.train * total:
        notes.append(
            f"one group has {largest} of {total} rows, more than split.train {split.train:g}: "
            "it is in train"
        )
    return notes


KIND = StepKind(
    name="split",
    revision=3,  # what a tuner would refuse is left out, and the card says so
    run=run,
    source=source,
    settings=Settings,
    takes=(Port("examples", "parquet"),),
    gives=(
        *(Port(side, "parquet") for side in SIDES),
        Port("files", "folder"),
        Port("card", "json"),
    ),
    code=(
        "llmops.data.columns",
        "llmops.data.settings",
        "llmops.data.parquet",
        "llmops.data.cells",
        "llmops.data.keys",
        "llmops.data.shingles",
        "llmops.data.near_duplicates",
        "llmops.data.groups",
        "llmops.data.splits",
        "llmops.data.values",
        "llmops.data.leakage",
        "llmops.data.limits",
        "llmops.data.examples",
        "llmops.data.formats",
        "llmops.data.dataset",
        "llmops.data.card",
    ),
    summary="divides examples into train, validation and test, and measures leakage",
)
