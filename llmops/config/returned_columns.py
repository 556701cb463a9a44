"""Which columns a SELECT returns, as far as its text says. Knows no warehouse and runs nothing.

Most queries name each column with ``AS``: a look at the outermost list settles those in
microseconds. Only where that is not enough does sqlglot, whose import takes a third of a second,
parse the query.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_TOKEN = re.compile(
    r"""(?P<skip>\s+|--[^\n]*|\#[^\n]*|/\*.*?\*/)
    |(?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
    |(?P<quoted>`[^`]*`)
    |(?P<word>[A-Za-z_]\w*)
    |(?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
_OPEN, _CLOSE = "([{", ")]}"


def missing(sql: str, wanted: Iterable[str]) -> tuple[list[str], list[str]] | None:
    """Return the wanted columns that the query lacks, and those that it returns.

    None if nothing is missing, or if the text alone does not say (``SELECT *``, no SQL).
    """
    names = list(wanted)
    if set(names) <= set(aliases(sql)):
        return None
    returned = parsed(sql)
    if returned is None:
        return None
    lacking = [name for name in names if name not in returned]
    return (lacking, returned) if lacking else None


def aliases(sql: str) -> list[str]:
    """Return the names that the outermost SELECT gives with ``AS``, or that are plain columns."""
    names: list[str] = []
    item: list[str] = []
    depth, listing = 0, False
    for token in _tokens(sql):
        depth += (token in _OPEN) - (token in _CLOSE)
        word = token.upper()
        if depth == 0 and word == "SELECT" and not listing:
            listing = True
            names, item = [], []
        elif listing and depth == 0 and (token == "," or word == "FROM"):
            names += _name(item)
            item = []
            if word == "FROM":
                return names
        elif listing:
            item.append(token)
    return names + _name(item)


def parsed(sql: str) -> list[str] | None:
    """Return the columns as sqlglot reads the query; None if the text alone does not say."""
    from sqlglot import exp, parse_one
    from sqlglot.errors import SqlglotError

    try:
        tree = parse_one(sql, dialect="bigquery")
    except (SqlglotError, RecursionError, ValueError):
        return None  # the plan, which knows the warehouse, says what is wrong with it
    if not isinstance(tree, exp.Query) or tree.is_star:
        return None
    return list(tree.named_selects)


def _tokens(sql: str) -> Iterable[str]:
    for found in _TOKEN.finditer(sql):
        if found.lastgroup == "text":
            yield "''"
        elif found.lastgroup != "skip":
            yield found[0]


def _name(item: list[str]) -> list[str]:
    """Return an item's name where it is beyond doubt."""
    plain = [token.strip("`") for token in item]
    if len(item) >= 3 and item[-2].upper() == "AS":
        return plain[-1:]
    is_column = len(item) % 2 == 1 and all(token == "." for token in item[1::2])
    return plain[-1:] if is_column and re.fullmatch(r"[A-Za-z_]\w*", plain[-1]) else []
