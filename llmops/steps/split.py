"""split: train, validation and test, as Parquet and in tuners' JSONL, with a dataset card.

The same config and the same rows give the same bytes; leakage from train to test is measured
whatever the method. Knows no warehouse and no prompt template.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmops.data.card import CARD, card_markdown
from llmops.data.columns import SIDES
from llmops.data.settings import (
    NearDuplicates,
    SplitSettings,
    check_formats,
    check_split,
    check_version,
)
from llmops.plan.kinds import Outcome, Port, StepKind, Work, leaf


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


def run(work: Work[Settings]) -> Outcome:
    """Group, divide, measure and write the examples.

    Raises:
        ConfigError: If the settings cannot be followed.
        DataError: If a side that should have rows has none.
    """
    from llmops.data import dataset, groups, leakage, splits
    from llmops.data.parquet import ParquetRows

    settings, examples = work.settings, work.inputs["examples"]
    _check(settings, examples)
    rows = ParquetRows(examples)
    texts = groups.index_examples(rows, settings.near_duplicates, work.scratch)
    grouped = groups.group_rows(rows, settings.split.by, texts)
    facts = dataset.split_facts(examples, grouped, settings.split)
    sides = splits.assign(grouped, facts, settings.split)
    leaked = leakage.measure(sides, texts, settings.near_duplicates.threshold)
    version = dataset.data_version(examples, sides, settings.version)
    plan = dataset.Plan(sides, grouped, version, settings.formats)
    parquet = {side: work.outputs[side] for side in SIDES}
    files = dataset.write_sides(examples, plan, parquet, work.outputs["files"], work.progress)
    terms = dataset.Terms(settings.licence, settings.source_terms, settings.acknowledged_terms)
    card = dataset.card(plan, settings.split, leaked, terms, dataset.prompted(examples), files)
    text = json.dumps(card, indent=2, ensure_ascii=False)
    work.outputs["card"].write_text(text + "\n", encoding="utf-8")
    (work.outputs["files"] / CARD).write_text(card_markdown(card), encoding="utf-8")
    return Outcome(rows=card["rows"], facts=_facts(card, settings.split))


def _check(settings: Settings, examples: Path) -> None:
    from llmops.data.dataset import has_system

    check_version(settings.version)
    check_split(settings.split)
    check_formats(settings.formats, has_system=has_system(examples))


def _facts(card: Mapping[str, Any], split: SplitSettings) -> dict[str, Any]:
    kept = ("dataset_version", "rows", "method", "groups", "largest_group", "leakage")
    return {**{name: card[name] for name in kept}, "notes": _notes(card, split)}


def _notes(card: Mapping[str, Any], split: SplitSettings) -> list[str]:
    """Say what the split could not do as asked."""
    notes = [
        f"split.by names {join}, but dataset.columns.{join} is null: rows were not joined by it"
        for join in split.by
        if join not in card["by"]
    ]
    total, largest = sum(card["rows"].values()), card["largest_group"]
    if split.method == "group" and largest > split.train * total:
        notes.append(
            f"one group has {largest} of {total} rows, more than split.train {split.train:g}: "
            "it is in train"
        )
    return notes


KIND = StepKind(
    name="split",
    revision=2,  # the card stands beside the files, in Markdown
    run=run,
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
        "llmops.data.formats",
        "llmops.data.dataset",
        "llmops.data.card",
    ),
    summary="divides examples into train, validation and test, and measures leakage",
)
