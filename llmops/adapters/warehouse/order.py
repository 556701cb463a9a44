"""Gives every query that picks rows one order, so that it picks the same ones every time.

Rows come in the query's own ORDER BY, ties in the order of a sha256 over the row's content;
without an ORDER BY in the order of that hash alone. Works on trees that ``dialect.rewrite`` has
made; knows no table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmops.adapters.warehouse.dialect import refused, to_duckdb

if TYPE_CHECKING:
    from sqlglot import exp

ROWS = "_rows"
HASH = f"llmops_row_hash({ROWS})"
BARE_LIMIT = (
    "LIMIT without ORDER BY: rows are taken in the order of a sha256 over their content, "
    "so that the same tables give the same rows"
)
TIES = "rows that tie in ORDER BY are put in the order of a sha256 over their content"
ONE_THREAD = (
    "windows, sums and averages can depend on the order of rows: the query runs on one thread"
)


@dataclass(frozen=True)
class Settled:
    """A query without its ORDER BY and LIMIT, and these as DuckDB's SQL over its rows.

    ``hidden`` are columns that the query gives only to be ordered by.
    """

    inner: str
    hidden: tuple[str, ...]
    order: str
    limit: int | None
    offset: int | None

    def sql(self, columns: str, limit: int | None = None) -> str:
        """Return the whole query again; ``columns`` is its select list."""
        kept = [n for n in (self.limit, limit) if n is not None]
        tail = f" LIMIT {min(kept)}" if kept else ""
        tail += f" OFFSET {self.offset}" if self.offset else ""
        return f"SELECT {columns} FROM ({self.inner}) AS {ROWS} ORDER BY {self.order}{tail}"


def name_columns(tree: exp.Query) -> None:
    """Name the unnamed columns as BigQuery does: ``f0_``, ``f1_``."""
    from sqlglot import exp

    first: exp.Expr = tree
    while isinstance(first, exp.SetOperation | exp.Subquery):
        first = first.this
    named = (exp.Alias, exp.Aliases, exp.Column, exp.Star, exp.Dot)
    unnamed = [e for e in first.expressions if not isinstance(e, named)]
    for number, expression in enumerate(unnamed):
        expression.replace(exp.alias_(expression.copy(), f"f{number}_", quoted=True))


def notes(tree: exp.Query) -> tuple[str, ...]:
    """Say what the user should know of the order of rows."""
    from sqlglot import exp

    said = []
    limited = [q for q in tree.find_all(exp.Query) if q.args.get("limit") or q.args.get("offset")]
    if any(not query.args.get("order") for query in limited):
        said.append(BARE_LIMIT)
    if any(query.args.get("order") for query in limited):
        said.append(TIES)
    if needs_one_thread(tree):
        said.append(ONE_THREAD)
    return tuple(said)


def needs_one_thread(tree: exp.Query) -> bool:
    """Say whether the order in which rows arrive could show in a value."""
    from sqlglot import exp

    ranked = (
        exp.RowNumber,
        exp.Ntile,
        exp.Lag,
        exp.Lead,
        exp.FirstValue,
        exp.LastValue,
        exp.NthValue,
    )
    return tree.find(*ranked, exp.Sum, exp.Avg, exp.Window) is not None


def settle_inner(tree: exp.Query) -> None:
    """Give every LIMIT below the outermost query one order."""
    from sqlglot import exp

    inner = [q for q in tree.find_all(exp.Query) if q is not tree and _picks(q)]
    for query in reversed(inner):  # the deepest first
        settled = settle(query)
        stars = f"* EXCLUDE ({', '.join(settled.hidden)})" if settled.hidden else "*"
        query.replace(_raw(settled.sql(stars)))


def _picks(query: exp.Query) -> bool:
    from sqlglot import exp

    limited = query.args.get("limit") or query.args.get("offset")
    return isinstance(query, exp.Select | exp.SetOperation) and bool(limited)


def _raw(sql: str) -> exp.Expr:
    """Return finished SQL as a node that is printed as it stands."""
    from sqlglot import exp

    return exp.Var(this=sql)


def settle(query: exp.Query) -> Settled:
    """Take ORDER BY and LIMIT off ``query`` and order its rows totally.

    Raises:
        ConfigError: If a key of the ORDER BY cannot be told from the query's columns.
    """
    inner = query.copy()
    keys, limit, offset = (inner.args.pop(name, None) for name in ("order", "limit", "offset"))
    found = [_key(inner, ordered, n) for n, ordered in enumerate(keys.expressions if keys else ())]
    order = ", ".join([*(key.sql for key in found), HASH])
    hidden = tuple(key.hidden for key in found if key.hidden)
    return Settled(to_duckdb(inner), hidden, order, _number(limit), _number(offset))


def _number(clause: exp.Expr | None) -> int | None:
    if clause is None:
        return None
    value = clause.expression
    if not value.name.isdigit():
        raise refused("LIMIT or OFFSET with an expression", "write a whole number")
    return int(value.name)


@dataclass(frozen=True)
class _Key:
    sql: str
    hidden: str = ""


def _key(query: exp.Expr, ordered: exp.Expr, number: int) -> _Key:
    from sqlglot import exp

    outputs = _outputs(query)
    if by := _output(ordered.this, outputs):
        return _Key(_ordered(ordered, exp.column(by, table=ROWS, quoted=True)))
    if not isinstance(query, exp.Select) or query.args.get("distinct"):
        return _Key(_ordered(ordered, _over_outputs(ordered.this, outputs)))
    hidden = f"_order_{number}"
    value = _without_aliases(ordered.this, query)
    query.append("expressions", exp.alias_(value, hidden, quoted=True))
    return _Key(_ordered(ordered, exp.column(hidden, table=ROWS, quoted=True)), f'"{hidden}"')


def _outputs(query: exp.Expr) -> list[str]:
    """Return the names of the query's columns; ``*`` stands for itself."""
    from sqlglot import exp

    while not isinstance(query, exp.Select):
        query = query.this
    return ["*" if e.is_star else e.alias_or_name for e in query.expressions]


def _output(key: exp.Expr, outputs: Sequence[str]) -> str:
    """Return the output column that the key names, by position or name, or an empty text."""
    from sqlglot import exp

    if isinstance(key, exp.Literal) and not key.is_string and key.name.isdigit():
        position = int(key.name)
        if "*" in outputs[:position] or not 0 < position <= len(outputs):
            raise refused(f"ORDER BY {position}", "no such column is named in the SELECT list")
        return outputs[position - 1]
    if isinstance(key, exp.Column) and not key.table:
        return next((name for name in outputs if name.lower() == key.name.lower()), "")
    return ""


def _over_outputs(key: exp.Expr, outputs: Sequence[str]) -> exp.Expr:
    """Read the columns of a key over DISTINCT or UNION as columns of the result."""
    from sqlglot import exp

    made = exp.paren(key.copy())
    for column in list(made.find_all(exp.Column)):
        known = "*" in outputs or column.name.lower() in [name.lower() for name in outputs]
        if not known:
            raise refused(
                f"ORDER BY {column.sql('bigquery')}", "SELECT DISTINCT or UNION does not return it"
            )
        column.replace(exp.column(column.name, table=ROWS, quoted=True))
    return made


def _without_aliases(key: exp.Expr, query: exp.Expr) -> exp.Expr:
    """Put the expression in the place of an alias: in BigQuery it goes before a column's name."""
    from sqlglot import exp

    aliases = {e.alias.lower(): e.this for e in query.expressions if isinstance(e, exp.Alias)}
    made = exp.paren(key.copy())
    for column in list(made.find_all(exp.Column)):
        if not column.table and column.name.lower() in aliases:
            column.replace(exp.paren(aliases[column.name.lower()].copy()))
    return made


def _ordered(ordered: exp.Expr, value: exp.Expr) -> str:
    made = ordered.copy()
    made.set("this", value)
    return to_duckdb(made)
