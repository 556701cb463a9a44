"""prepare, pushed down: the warehouse prepares the dataset and exports its files itself.

No row passes through this process: only counts and digests do. Used by the step ``prepare`` where
``dataset.runs_in`` is ``warehouse``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from llmops.data.card import CARD, card_markdown
from llmops.data.columns import SIDES
from llmops.errors import ConfigError, DataError
from llmops.plan.kinds import Outcome, Work
from llmops.ports.warehouse import Origin, QueryCheck, QueryResult, Warehouse

if TYPE_CHECKING:
    from llmops.data.limits import Limit, Limits
    from llmops.data.pushdown import Pushed
    from llmops.steps.prepare import Settings

SHARDS = "shards.json"  # in the folder of files: where the warehouse put them
UNORDERED = "LIMIT without ORDER BY"  # how a warehouse's note on such a query begins
FILES_A_SCAN = (
    "each file of a side and format scans the query's tables once, and so do three counts"
)


@dataclass(frozen=True)
class Known:
    """What came back from the warehouse."""

    source: str  # what the warehouse calls itself
    broken: Mapping[str, int]  # rule -> rows, in the order of the rules
    duplicates: int
    sides: Mapping[str, int]
    longest: Mapping[str, int]  # bytes of a side's longest example, without the system text
    total_bytes: Mapping[str, int]  # of a side's examples, without the system text
    leaked: int
    digest: str

    @property
    def given(self) -> int:
        return sum(self.broken.values()) + self.duplicates + sum(self.sides.values())


def notes(settings: Settings) -> tuple[str, ...]:
    """Say in the plan where the data is prepared, and why."""
    if settings.runs_in == "warehouse":
        return (
            "the data is prepared in the warehouse, as dataset.runs_in says: no row passes through "
            f"this machine; {FILES_A_SCAN}",
        )
    return ("the data is prepared on this machine: dataset.runs_in is here",)


def pushed(settings: Settings, check: QueryCheck) -> Pushed:
    """Return the SQL of the dataset.

    Raises:
        ConfigError: If something is asked that SQL cannot do with the same result.
    """
    from llmops.data.pushdown import push_down

    if settings.max_rows is not None:
        raise ConfigError(
            "dataset.max_rows (--limit) and dataset.runs_in warehouse exclude each other",
            hint="put a LIMIT into the query, or prepare on this machine: dataset.runs_in=here",
        )
    if any(note.startswith(UNORDERED) for note in check.notes):
        raise ConfigError(
            "dataset.query has a LIMIT without ORDER BY: each export would take other rows",
            hint="write the LIMIT's ORDER BY, or a WHERE in its place",
        )
    found = settings.prompt.around()
    if found is None:
        raise ConfigError(
            "a filter or condition of prompt.template sees the question, which SQL cannot do alike",
            hint="let it only write something around {{ question }}, or set dataset.runs_in=here",
        )
    columns = [column.name for column in check.columns]
    return push_down(
        settings.query, columns, settings.asked(), settings.split, found, settings.prompt.system
    )


def run(work: Work[Settings], check: QueryCheck) -> Outcome:
    """Let the warehouse prepare and export; write the card, the counts and where the files are.

    Raises:
        ConfigError: If something is asked that SQL cannot do with the same result.
        DataError: If there are no rows, too few good ones, a side stays empty, or the chosen
            tuner would refuse one.
        BackendError: If the warehouse fails.
    """
    import pyarrow.parquet as pq

    from llmops.data.cleaning import QUARANTINED_SCHEMA
    from llmops.steps.split import provider_limits

    settings = work.settings
    sql = pushed(settings, check)
    known = _ask(work, sql)
    counts = _judged(known, settings)
    limits = provider_limits(settings.model_kind, settings.model_base)
    card = _card(settings, known, fitting(known, limits, settings.prompt.system))
    files = list(_exported(work, sql, card["dataset_version"], known))
    card["files"] = files
    folder = work.outputs["files"]
    _write(folder / SHARDS, files)
    (folder / CARD).write_text(card_markdown(card), encoding="utf-8")
    _write(work.outputs["card"], card)
    _write(work.outputs["profile"], {"rows": counts, "rules": dict(known.broken)})
    pq.write_table(QUARANTINED_SCHEMA.empty_table(), work.outputs["quarantined"])
    return Outcome(
        rows={**known.sides, "quarantined": 0},
        facts={
            **counts,
            "source": known.source,
            "rules": {rule: rows for rule, rows in known.broken.items() if rows},
            "dataset_version": card["dataset_version"],
            "rows": known.sides,
            "leakage": card["leakage"],
            "runs_in": "warehouse",
        },
    )


def _ask(work: Work[Settings], sql: Pushed) -> Known:
    from llmops.data.rules import RULES

    broken: Counter[str] = Counter()
    sides, longest, total_bytes = (dict.fromkeys(SIDES, 0) for _ in range(3))
    counted = _query(work, sql.counts)
    for row in _rows(counted):
        if row["rule"] is None:
            sides[row["side"]] = row["row_count"]
            longest[row["side"]] = row["longest"]
            total_bytes[row["side"]] = int(row["total_bytes"])
        else:
            broken[row["rule"]] = row["row_count"]
    total = sha256()
    parts = _rows(_query(work, sql.digests))
    for part in sorted(f"{row['side']}:{row['part']}:{row['digest']}" for row in parts):
        total.update(part.encode())
    (leaked,) = _rows(_query(work, sql.leaked))
    return Known(
        source=counted.statistics().source,
        broken={rule: broken[rule] for rule in RULES},
        duplicates=broken["duplicate"],
        sides=sides,
        longest=longest,
        total_bytes=total_bytes,
        leaked=leaked["row_count"],
        digest=total.hexdigest(),
    )


def _query(work: Work[Settings], sql: str) -> QueryResult:
    warehouse: Warehouse = work.adapters.warehouse()
    settings = work.settings
    return warehouse.query(
        sql, parameters=settings.parameters, max_bytes=settings.max_bytes, origin=_origin(work)
    )


def _rows(result: QueryResult) -> Iterator[dict[str, Any]]:
    for batch in result.batches():
        yield from batch.to_pylist()


def _origin(work: Work[Settings]) -> Origin:
    return Origin(work.experiment, work.run_id, work.key)


def _judged(known: Known, settings: Settings) -> dict[str, int]:
    """Refuse data as the steps on this machine do; return the counts.

    Raises:
        DataError: If there are no rows, too few good ones, too many bad ones, or an empty side.
    """
    import numpy as np

    from llmops.data.cleaning import Cleaned, check_bad_fraction, check_min_rows
    from llmops.data.profile import Counts
    from llmops.data.splits import check_sides

    if not known.given:
        raise DataError("the query returned no rows", hint="loosen dataset.query")
    good, bad = sum(known.sides.values()), sum(known.broken.values())
    counts = Counts(known.given, good, bad, known.duplicates)
    counts.check()
    check_bad_fraction(Counter(known.broken), known.given, settings.rules)
    check_min_rows(Cleaned(counts, known.broken, {}), settings.rules)
    check_sides(np.array([known.sides[side] for side in SIDES]), settings.split)
    return counts.to_json()


def fitting(known: Known, limits: Limits, system: str | None) -> dict[str, Any] | None:
    """Return what the card says of the chosen tuner's limits: nothing was left out for them.

    Tokens are estimated, and of a file's bytes only those of its texts are known.

    Raises:
        DataError: If the tuner would refuse train or validation.
    """
    from llmops.data.limits import Cut, cuts_to_json

    for limit in limits.limits:
        for side in ("train", "validation"):
            figure = _exceeding(limit, side, known, len((system or "").encode()))
            if figure is not None:
                raise DataError(
                    f"{side} does not fit {limits.of}: {limit.quantity} may be at most "
                    f"{limit.at_most:,g} ({limit.source}, {limit.dated}), here it is {figure:,g}",
                    hint="prepare on this machine, where what does not fit is left out: "
                    "dataset.runs_in=here; or let dataset.query or dataset.rules leave it out",
                )
    none = dict.fromkeys(("train", "validation"), 0)
    return cuts_to_json(limits.of, [Cut(limit, none) for limit in limits.limits])


def _exceeding(limit: Limit, side: str, known: Known, system: int) -> float | None:
    """Return the side's figure that a limit is on, if it is too large; ``system`` is in bytes."""
    from llmops.data.limits import most_validation
    from llmops.data.tokens import BYTES_A_TOKEN

    rows, train = known.sides[side], known.sides["train"]
    validation = rows if side == "validation" else 0
    figure, most = {
        "example_tokens": ((known.longest[side] + system) / BYTES_A_TOKEN, limit.at_most),
        "train_rows": (rows - validation, limit.at_most),
        "validation_rows": (validation, limit.at_most),
        "validation_share": (validation, most_validation(limit, train)),
        "file_bytes": (known.total_bytes[side] + rows * system, limit.at_most),
    }[limit.quantity]
    if figure <= most:
        return None
    return figure / train if limit.quantity == "validation_share" else figure


def _exported(
    work: Work[Settings], sql: Pushed, version: str, known: Known
) -> Iterator[dict[str, Any]]:
    """Let the warehouse write each side's file in each format; say where they are."""
    settings = work.settings
    folder = work.outputs["files"]
    folder.mkdir(parents=True, exist_ok=True)
    to = settings.export_to.rstrip("/") if settings.export_to else str(folder)
    warehouse: Warehouse = work.adapters.warehouse()
    wanted = [(side, name) for side in SIDES if known.sides[side] for name in settings.formats]
    for done, (side, name) in enumerate(wanted):
        work.progress(done, len(wanted), f"exporting {side}, {name}")
        uri = warehouse.export(
            sql.lines(side, name),
            f"{to}/{side}-{version}.{name}",
            parameters=settings.parameters,
            max_bytes=settings.max_bytes,
            origin=_origin(work),
        )
        where = uri if settings.export_to else uri.rpartition("/")[2]
        rows = known.sides[side]
        yield {"name": where, "format": name, "side": side, "rows": rows, "sha256": None}


def _card(settings: Settings, known: Known, limits: dict[str, Any] | None) -> dict[str, Any]:
    test = known.sides["test"]
    return {
        "dataset_version": f"{settings.version}-{known.digest[:8]}",
        "version": settings.version,
        "digest": known.digest,
        "runs_in": "warehouse",
        "prompt": {"name": settings.prompt.name, "sha256": settings.prompt.digest()},
        "rows": dict(known.sides),
        "limits": limits,
        "method": settings.split.method,
        "seed": settings.split.seed,
        "by": list(settings.split.by),
        "fractions": dict(settings.split.fractions()),
        "leakage": {
            "exact": {"rows": known.leaked, "share": known.leaked / test if test else 0.0},
            "near": {"rows": None, "share": None, "threshold": None},
        },
        "groups": None,
        "largest_group": None,
        "licence": settings.licence,
        "source_terms": settings.source_terms,
        "acknowledged_terms": list(settings.acknowledged_terms),
    }


def _write(path: Any, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
