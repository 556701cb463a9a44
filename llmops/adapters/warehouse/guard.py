"""Lets exactly one SELECT over known tables through, and says where anything else stands.

Knows sqlglot's trees and the names of tables and columns; neither DuckDB nor how a query is
translated.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from llmops.errors import ConfigError, nearest

if TYPE_CHECKING:
    from sqlglot import exp

INFORMATION_SCHEMA = ("INFORMATION_SCHEMA.TABLES", "INFORMATION_SCHEMA.COLUMNS")
_TOKEN = re.compile(r" but got <Token .*?>")  # how sqlglot shows a token; `near` says it better
_ONE_SELECT = "write one SELECT (WITH is fine); it may end in one semicolon"


def parse(sql: str) -> exp.Query:
    """Return the tree of ``sql``, which is one SELECT in BigQuery's dialect.

    Raises:
        ConfigError: If it does not parse, or is not one SELECT.
    """
    import sqlglot
    from sqlglot import exp
    from sqlglot.errors import ParseError, TokenError

    logging.getLogger("sqlglot").setLevel(logging.ERROR)  # its fall-backs are refused below
    try:
        statements = [tree for tree in sqlglot.parse(sql, read="bigquery") if tree is not None]
    except ParseError as exc:
        raise _unparsed(exc) from exc
    except TokenError as exc:
        raise ConfigError(f"the query does not parse: {exc}", hint=_ONE_SELECT) from exc
    except RecursionError as exc:
        raise ConfigError(
            "the query is nested too deeply", hint="split it into WITH parts"
        ) from exc
    statements = [tree for tree in statements if not isinstance(tree, exp.Semicolon)]
    if not statements:
        raise ConfigError("the query is empty", hint=_ONE_SELECT)
    if len(statements) > 1:
        names = ", then ".join(_kind(tree) for tree in statements[:3])
        raise ConfigError(
            f"the query holds {len(statements)} statements ({names})", hint=_ONE_SELECT
        )
    return _selected(statements[0])


def _unparsed(exc: object) -> ConfigError:
    details = getattr(exc, "errors", None) or [{}]
    first = details[0]
    token = first.get("highlight") or ""
    where = f"line {first.get('line')}, column {first.get('col')}"
    what = _TOKEN.sub("", str(first.get("description") or exc)).rstrip(".")
    return ConfigError(
        f"the query does not parse at {where}, near '{token}': {what}",
        hint="queries are in BigQuery's dialect: one SELECT",
    )


def _selected(tree: exp.Expr) -> exp.Query:
    from sqlglot import exp

    if isinstance(tree, exp.Subquery):
        tree = tree.unnest()
    if not isinstance(tree, exp.Select | exp.SetOperation):
        raise ConfigError(f"the query is {_kind(tree)}, not a SELECT", hint=_ONE_SELECT)
    for kind in (exp.DML, exp.DDL, exp.Command, exp.Into):
        for found in tree.find_all(kind):
            if not isinstance(found, exp.Query):
                raise ConfigError(f"the query holds {_kind(found)}", hint=_ONE_SELECT)
    return tree


def _kind(tree: exp.Expr) -> str:
    from sqlglot import exp

    if isinstance(tree, exp.Command):
        return str(tree.this).upper()
    return "SELECT" if isinstance(tree, exp.Select) else tree.key.upper()


def tables_of(tree: exp.Query, known: Iterable[str]) -> tuple[str, ...]:
    """Return the full names of the tables that ``tree`` reads, sorted.

    ``INFORMATION_SCHEMA`` views are among them, as ``project.dataset.INFORMATION_SCHEMA.TABLES``.

    Raises:
        ConfigError: If one is not known, is a function, a wildcard or not fully named.
    """
    from sqlglot import exp

    names = tuple(known)
    found = set()
    for table in tree.find_all(exp.Table):
        if not isinstance(table.this, exp.Identifier):
            raise ConfigError(
                f"{_place(table)}: a table function, {_call(table)}, cannot be read",
                hint="FROM takes tables, subqueries and UNNEST",
            )
        parts = [part.name for part in table.parts]
        if len(parts) == 1 and _is_local(table):
            continue
        found.add(_known(".".join(parts), table, names))
    return tuple(sorted(found))


def _call(table: exp.Table) -> str:
    from sqlglot import exp

    inner = table.this
    name = inner.this if isinstance(inner, exp.Anonymous) else inner.key
    return f"{str(name).upper()}()"


def _is_local(table: exp.Table) -> bool:
    """Say whether a one-part name is a WITH part, or the array of a table that stands beside it."""
    from sqlglot import exp

    node: exp.Expr | None = table
    while node is not None:
        with_ = node.args.get("with_") or node.args.get("with")
        if isinstance(with_, exp.With) and table.name in {cte.alias for cte in with_.expressions}:
            return True
        node = node.parent
    return False


def _known(name: str, table: exp.Table, names: Sequence[str]) -> str:
    if name in names:
        return name
    dataset, _, view = name.partition(".INFORMATION_SCHEMA.")
    if view and any(full.startswith(dataset + ".") for full in names):
        return _known_view(name, table)
    if "*" in name:
        raise ConfigError(
            f"{_place(table)}: wildcard tables, `{name}`, are not supported on DuckDB",
            hint="join the tables with UNION ALL",
        )
    if name.count(".") < 2:
        longer = [full for full in names if full.endswith("." + name)]
        guess = f"did you mean '{longer[0]}'?" if longer else nearest(name, names)
        raise ConfigError(
            f"{_place(table)}: the table '{name}' is not fully named",
            hint=f"{guess} write project.dataset.table".strip(),
        )
    guess = nearest(name, names)
    valid = f"tables: {', '.join(names) or 'none; load one with `llmops warehouse load`'}"
    raise ConfigError(
        f"{_place(table)}: there is no table '{name}'", hint=f"{guess} {valid}".strip()
    )


def _known_view(name: str, table: exp.Table) -> str:
    view = name[name.index("INFORMATION_SCHEMA.") :]
    if view not in INFORMATION_SCHEMA:
        valid = ", ".join(INFORMATION_SCHEMA)
        raise ConfigError(
            f"{_place(table)}: {view} is not supported on DuckDB",
            hint=f"{nearest(view, INFORMATION_SCHEMA)} valid: {valid}".strip(),
        )
    return name


def _place(node: exp.Expr) -> str:
    """Return ``line 3`` of the first name inside ``node``, if the parser kept it."""
    from sqlglot import exp

    for identifier in node.find_all(exp.Identifier):
        line, column = identifier.meta.get("line"), identifier.meta.get("col")
        if line is not None and column is not None:
            return f"line {line}, column {max(1, column - len(identifier.name) + 1)}"
    return "the query"


def unknown_column(
    name: str, sql: str, columns: Mapping[str, Sequence[str]], others: Iterable[str]
) -> ConfigError:
    """Build the error for a column that none of the tables has.

    ``columns`` maps each table of the query to its columns; ``others`` are further valid names,
    e.g. aliases that the database proposes.
    """
    known = sorted({column for each in columns.values() for column in each} | set(others))
    return ConfigError(
        f"{_line_of(name, sql)}: there is no column '{name}'",
        hint=f"{nearest(name, known)} columns: {', '.join(known[:40])}".strip(),
    )


def _line_of(name: str, sql: str) -> str:
    for number, line in enumerate(sql.splitlines(), start=1):
        at = line.lower().find(name.lower())
        if at >= 0:
            return f"line {number}, column {at + 1}"
    return "the query"
