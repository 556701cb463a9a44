"""validate: good rows by key, quarantined rows with reasons, a profile.

in = good + quarantined + duplicates. Knows no warehouse and no prompt.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields

from llmops.data.settings import Columns, Expectation, Personal, Rules, Texts, Tokens
from llmops.plan.kinds import Outcome, Port, StepKind, Work, leaf


@dataclass(frozen=True)
class Settings:
    """What validate reads of the config."""

    columns: Columns = leaf("dataset.columns")
    rules: Rules = leaf("dataset.rules")
    texts: Texts = leaf("dataset.texts")
    personal: Personal = leaf("dataset.personal")
    tokens: Tokens = leaf("dataset.tokens")
    expectations: tuple[Expectation, ...] = leaf("dataset.expectations")
    memory_limit: str = leaf("dataset.memory_limit", in_key=False)


def run(work: Work[Settings]) -> Outcome:
    """Map, judge, sort and deduplicate the rows.

    Raises:
        ConfigError: If the query lacks a mapped column, or one does not hold text.
        DataError: If there are no rows, too few good ones, or too large a share of bad ones.
    """
    from llmops.data.cleaning import Asked, Places, clean

    places = Places(
        source=work.inputs["rows"],
        rows=work.outputs["rows"],
        quarantined=work.outputs["quarantined"],
        spill=work.scratch / "buckets",
    )
    asked = Asked(**{f.name: getattr(work.settings, f.name) for f in fields(Settings)})
    cleaned = clean(places, asked, work.progress)
    profile = json.dumps(cleaned.profile, indent=2, ensure_ascii=False)
    work.outputs["profile"].write_text(profile + "\n", encoding="utf-8")
    return Outcome(
        rows={"rows": cleaned.counts.good, "quarantined": cleaned.counts.quarantined},
        facts={
            **cleaned.counts.to_json(),
            "rules": {rule: n for rule, n in cleaned.rules.items() if n},
            "texts_changed": cleaned.profile["texts_changed"],
            "personal": cleaned.profile["personal"],
        },
    )


KIND = StepKind(
    name="validate",
    revision=3,  # a role tag within another is escaped too
    run=run,
    settings=Settings,
    takes=(Port("rows", "parquet"),),
    gives=(Port("rows", "parquet"), Port("quarantined", "parquet"), Port("profile", "json")),
    code=(
        "llmops.data.columns",
        "llmops.data.settings",
        "llmops.data.parquet",
        "llmops.data.cells",
        "llmops.data.keys",
        "llmops.data.buckets",
        "llmops.data.mapping",
        "llmops.data.rules",
        "llmops.data.values",
        "llmops.data.profile",
        "llmops.data.cleaning",
    ),
    summary="checks rows against rules, sets bad ones aside, drops duplicates",
)
