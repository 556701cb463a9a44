"""prepare: from a query to JSONL files in one pass over the rows.

Does what ingest, validate, transform and split do, and gives the same files. Rows are not kept as
Parquet, so a step that reads rows (tune on this machine, predict) needs the separate steps.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from llmops.data.card import CARD, card_markdown
from llmops.data.settings import (
    Columns,
    Expectation,
    NearDuplicates,
    Personal,
    Rules,
    SplitSettings,
    Texts,
    Tokens,
    check_formats,
    check_split,
    check_version,
)
from llmops.plan.kinds import Adapters, Outcome, Port, Source, StepKind, Work, leaf
from llmops.ports.warehouse import Parameter
from llmops.prompts.prompt import Prompt
from llmops.steps import in_warehouse, ingest, split

if TYPE_CHECKING:
    from llmops.data.cleaning import Asked
    from llmops.data.stream import Streamed


@dataclass(frozen=True)
class Settings:
    """What the four steps read of the config."""

    query: str = leaf("dataset.query")
    parameters: Mapping[str, Parameter] = leaf("dataset.parameters")
    max_rows: int | None = leaf("dataset.max_rows")
    max_bytes: int | None = leaf("dataset.max_bytes")
    columns: Columns = leaf("dataset.columns")
    rules: Rules = leaf("dataset.rules")
    texts: Texts = leaf("dataset.texts")
    personal: Personal = leaf("dataset.personal")
    tokens: Tokens = leaf("dataset.tokens")
    expectations: tuple[Expectation, ...] = leaf("dataset.expectations")
    memory_limit: str = leaf("dataset.memory_limit", in_key=False)
    prompt: Prompt = leaf("prompt")
    split: SplitSettings = leaf("split")
    near_duplicates: NearDuplicates = leaf("dataset.near_duplicates")
    version: str = leaf("version")
    formats: tuple[str, ...] = leaf("dataset.formats")
    licence: str = leaf("dataset.licence")
    source_terms: str = leaf("dataset.source_terms")
    acknowledged_terms: tuple[str, ...] = leaf("dataset.acknowledged_terms")
    runs_in: str = leaf("dataset.runs_in")
    export_to: str | None = leaf("dataset.export_to")
    model_kind: str | None = leaf("model.kind", in_key=False, optional=True)
    model_base: str | None = leaf("model.base", in_key=False, optional=True)

    def asked(self) -> Asked:
        """Return what is asked of the rows."""
        from llmops.data.cleaning import Asked

        given = ("columns", "rules", "texts", "personal", "tokens", "expectations", "memory_limit")
        return Asked(**{name: getattr(self, name) for name in given})


def source(settings: Settings, adapters: Adapters) -> Source:
    """Return the versions of the tables that the query reads, and the chosen tuner's limits.

    Raises:
        ConfigError: If the query is refused, or lacks a column that ``dataset.columns`` names.
    """
    known = ingest.source(_ingested(settings), adapters)
    if known.known and settings.runs_in == "warehouse":
        in_warehouse.pushed(settings, ingest.look(_ingested(settings), adapters.warehouse()))
    known = replace(known, notes=(*known.notes, *in_warehouse.notes(settings)))
    limits = split.provider_limits(settings.model_kind, settings.model_base)
    if not limits.limits:
        return known
    return replace(known, facts={**known.facts, "limits": asdict(limits)})


def run(work: Work[Settings]) -> Outcome:
    """Write the files, the card, the profile and the quarantined rows.

    Raises:
        ConfigError: If the query is refused, or a rule needs all rows at once.
        DataError: If there are no rows, too few good ones, or a side stays empty.
        BackendError: If the warehouse stops in mid-stream, or the disk is full.
    """
    from llmops.data.stream import Output, Wanted, stream

    settings, warehouse = work.settings, work.adapters.warehouse()
    _check(settings)
    check = ingest.look(_ingested(settings), warehouse)
    if settings.runs_in == "warehouse":
        return in_warehouse.run(work, check)
    result = ingest.ask(_ingested(settings), warehouse, work)
    wanted = Wanted(
        settings.prompt.render,
        settings.prompt.around(),
        settings.prompt.system,
        settings.split,
        settings.formats,
        settings.version,
        settings.near_duplicates,
        limits=split.provider_limits(settings.model_kind, settings.model_base),
        expected_bytes=check.bytes,
    )
    to = Output(work.outputs["files"], work.outputs["quarantined"], work.scratch / "buckets")
    made = stream(result.batches(), settings.asked(), wanted, to, work.progress)
    card = _card(settings, made)
    _write_json(work, "card", card)
    _write_json(work, "profile", made.profile)
    (work.outputs["files"] / CARD).write_text(card_markdown(card), encoding="utf-8")
    return Outcome(
        rows={**made.rows, "quarantined": made.counts.quarantined},
        facts={
            **made.counts.to_json(),
            "source": result.statistics().source,
            "rules": {rule: n for rule, n in made.rules.items() if n},
            "dataset_version": made.version.name,
            "rows": made.rows,
            "leakage": card["leakage"],
        },
    )


def _check(settings: Settings) -> None:
    settings.prompt.check()
    check_version(settings.version)
    check_split(settings.split)
    check_formats(settings.formats, has_system=settings.prompt.system is not None)


def _ingested(settings: Settings) -> ingest.Settings:
    columns = asdict(settings.columns)
    return ingest.Settings(
        query=settings.query,
        parameters=settings.parameters,
        columns=columns,
        max_rows=settings.max_rows,
        max_bytes=settings.max_bytes,
    )


def _card(settings: Settings, made: Streamed) -> dict[str, Any]:
    groups = made.groups
    return {
        "dataset_version": made.version.name,
        "version": made.version.tag,
        "digest": made.version.digest,
        "prompt": {"name": settings.prompt.name, "sha256": settings.prompt.digest()},
        "rows": made.rows,
        "limits": made.limits,
        "method": settings.split.method,
        "seed": settings.split.seed,
        "by": list(settings.split.by if groups is None else groups.joined_by),
        "fractions": dict(settings.split.fractions()),
        "leakage": made.leakage.to_json(),
        "groups": None if groups is None else len(groups.sizes),
        "largest_group": None if groups is None else max(groups.sizes.values(), default=0),
        "licence": settings.licence,
        "source_terms": settings.source_terms,
        "acknowledged_terms": list(settings.acknowledged_terms),
        "files": [asdict(file) for file in made.files],
    }


def _write_json(work: Work[Settings], name: str, value: Any) -> None:
    text = json.dumps(value, indent=2, ensure_ascii=False)
    work.outputs[name].write_text(text + "\n", encoding="utf-8")


KIND = StepKind(
    name="prepare",
    revision=3,  # any template and role tag is rendered as the separate steps do
    run=run,
    settings=Settings,
    gives=(
        Port("files", "folder"),
        Port("card", "json"),
        Port("profile", "json"),
        Port("quarantined", "parquet"),
    ),
    uses=("warehouse",),
    code=(
        "llmops.data.stream",
        "llmops.data.spilt",
        "llmops.data.limits",
        "llmops.data.examples",
        "llmops.data.pushdown",
        "llmops.steps.in_warehouse",
        "llmops.data.cells",
        "llmops.data.card",
        "llmops.prompts.prompt",
    ),
    summary="from a query to JSONL files in one pass",
    source=source,
)
