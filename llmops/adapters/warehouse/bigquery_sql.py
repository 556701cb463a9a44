"""What is done to the text of a query before BigQuery gets it. Opens nothing.

The user's own text goes to the dry run; only what picks rows at random is settled, so that the
same tables give the same rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmops.adapters.warehouse.order import BARE_LIMIT

if TYPE_CHECKING:
    from sqlglot import exp

ROWS = "llmops_rows"
# The text of a row is the same as DuckDB's where its values are texts, whole numbers or booleans.
HASH = f"SHA256(TO_JSON_STRING({ROWS}))"
TIES = "rows that tie in ORDER BY come in any order: add a column that tells them apart"
INNER_LIMIT = "a LIMIT inside the query keeps any rows that fit: move it to the end of the query"


@dataclass(frozen=True)
class Text:
    """A query as the user wrote it (without a last semicolon), and as its rows are asked for."""

    checked: str
    settled: str
    notes: tuple[str, ...]


def prepare(sql: str, tree: exp.Query, *, snapshot: str | None, max_rows: int | None) -> Text:
    """Pin the tables to ``snapshot`` (a UTC moment, ISO 8601) and put the rows in one order.

    ``tree`` is what ``guard.parse`` made of ``sql``.
    """
    text = pinned(tree, snapshot) if snapshot else _without_semicolon(sql)
    ordered = tree.args.get("order") is not None
    if ordered and max_rows is None:
        return Text(text, text, _notes(tree, ordered))
    settled, limit = (text, max_rows) if ordered else _without_limit(text, tree, max_rows)
    tail = "" if limit is None else f" LIMIT {limit}"
    settled = f"SELECT * FROM (\n{settled}\n) AS {ROWS} ORDER BY {HASH}{tail}"
    return Text(text, settled, _notes(tree, ordered))


def pinned(tree: exp.Query, snapshot: str) -> str:
    """Return the query over its tables as they were at a moment.

    https://cloud.google.com/bigquery/docs/access-historical-data
    """
    import sqlglot
    from sqlglot import exp

    moment = sqlglot.parse_one(f"TIMESTAMP '{snapshot}'", read="bigquery")
    made = tree.copy()
    local = {cte.alias for cte in made.find_all(exp.CTE)}
    for table in made.find_all(exp.Table):
        if isinstance(table.this, exp.Identifier) and not _is_part(table, local):
            version = exp.Version(this="TIMESTAMP", expression=moment.copy(), kind="AS OF")
            table.set("version", version)
    return made.sql("bigquery")


def _is_part(table: exp.Table, local: set[str]) -> bool:
    return len(table.parts) == 1 and table.name in local


def _notes(tree: exp.Query, ordered: bool) -> tuple[str, ...]:
    from sqlglot import exp

    said = []
    if not ordered and tree.args.get("limit"):
        said.append(BARE_LIMIT)
    if ordered and tree.args.get("limit"):
        said.append(TIES)
    inner = [q for q in tree.find_all(exp.Query) if q is not tree and q.args.get("limit")]
    if any(not query.args.get("order") for query in inner):
        said.append(INNER_LIMIT)
    return tuple(said)


def _without_semicolon(sql: str) -> str:
    import sqlglot

    tokens = sqlglot.tokenize(sql, read="bigquery")
    last = tokens[-1]
    return sql[: last.start] if last.text == ";" else sql


def _without_limit(sql: str, tree: exp.Query, max_rows: int | None) -> tuple[str, int | None]:
    """Cut a plain ``LIMIT n`` off the end, so that it can follow the order; others stay."""
    import sqlglot

    limit = tree.args.get("limit")
    tokens = sqlglot.tokenize(sql, read="bigquery")
    plain = (
        limit is not None
        and len(tokens) > 2
        and tokens[-2].text.upper() == "LIMIT"
        and tokens[-1].text.isdecimal()
    )
    if not plain:
        return sql, max_rows
    number = int(tokens[-1].text)
    return sql[: tokens[-2].start], number if max_rows is None else min(number, max_rows)
