"""validate: good rows by key, quarantined rows with reasons, a profile.

in = good + quarantined + duplicates. Knows no warehouse and no prompt.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from llmops.data.settings import Columns, Rules
from llmops.plan.kinds import Outcome, Port, StepKind, Work, leaf


@dataclass(frozen=True)
class Settings:
    """What validate reads of the config."""

    columns: Columns = leaf("dataset.columns")
    rules: Rules = leaf("dataset.rules")


def run(work: Work[Settings]) -> Outcome:
    """Map, judge, sort and deduplicate the rows.

    Raises:
        ConfigError: If the query lacks a mapped column, or one does not hold text.
        DataError: If there are no rows, too few good ones, or too large a share of bad ones.
    """
    from llmops.data.cleaning import Places, clean

    places = Places(
        source=work.inputs["rows"],
        rows=work.outputs["rows"],
        quarantined=work.outputs["quarantined"],
        spill=work.scratch / "buckets",
    )
    cleaned = clean(places, work.settings.columns, work.settings.rules, work.progress)
    profile = json.dumps(cleaned.profile, indent=2, ensure_ascii=False)
    work.outputs["profile"].write_text(profile + "\n", encoding="utf-8")
    return Outcome(
        rows={"rows": cleaned.counts.good, "quarantined": cleaned.counts.quarantined},
        facts={
            **cleaned.counts.to_json(),
            "rules": {rule: n for rule, n in cleaned.rules.items() if n},
        },
    )


KIND = StepKind(
    name="validate",
    revision=1,
    run=run,
    settings=Settings,
    takes=(Port("rows", "parquet"),),
    gives=(Port("rows", "parquet"), Port("quarantined", "parquet"), Port("profile", "json")),
    code=(
        "llmops.data.columns",
        "llmops.data.settings",
        "llmops.data.parquet",
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
