"""BigQuery's SQL to DuckDB's, with the same meaning or not at all.

sqlglot translates the grammar. Where the two engines would answer differently without saying so,
the tree is rewritten here first; what is neither known to mean the same nor rewritten is refused
by name. ``docs/warehouse.md`` lists all three. Knows no table and opens nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from llmops.adapters.warehouse.constructs import REFUSED, SAME, STRFTIME_CODES
from llmops.errors import ConfigError

if TYPE_CHECKING:
    from sqlglot import exp

Rule = Callable[["exp.Expr"], "exp.Expr"]

# Functions of ours, made in every connection; sqlglot has no node for their bodies.
MACROS = (
    # BigQuery rounds half away from zero, and takes only digits from a text.
    r"""MACRO llmops_int64(x) AS CASE
      WHEN typeof(x) = 'VARCHAR' THEN CASE
        WHEN regexp_matches(CAST(x AS VARCHAR), '^\s*[+-]?[0-9]+\s*$')
        THEN CAST(trim(CAST(x AS VARCHAR)) AS BIGINT)
        WHEN x IS NOT NULL THEN error('Bad int64 value: ' || CAST(x AS VARCHAR)) END
      WHEN typeof(x) = 'DOUBLE' OR starts_with(typeof(x), 'DECIMAL')
        THEN CAST(round(TRY_CAST(x AS DOUBLE)) AS BIGINT)
      ELSE CAST(x AS BIGINT) END""",
    r"""MACRO llmops_safe_int64(x) AS CASE
      WHEN typeof(x) = 'VARCHAR' THEN CASE
        WHEN regexp_matches(CAST(x AS VARCHAR), '^\s*[+-]?[0-9]+\s*$')
        THEN TRY_CAST(trim(CAST(x AS VARCHAR)) AS BIGINT) END
      WHEN typeof(x) = 'DOUBLE' OR starts_with(typeof(x), 'DECIMAL')
        THEN TRY_CAST(round(TRY_CAST(x AS DOUBLE)) AS BIGINT)
      ELSE TRY_CAST(x AS BIGINT) END""",
    r"""MACRO llmops_bool(x) AS CASE
      WHEN typeof(x) = 'VARCHAR' THEN CASE lower(CAST(x AS VARCHAR)) WHEN 'true' THEN true
        WHEN 'false' THEN false ELSE
        CASE WHEN x IS NOT NULL THEN error('Bad bool value: ' || CAST(x AS VARCHAR)) END END
      ELSE CAST(x AS BOOLEAN) END""",
    r"""MACRO llmops_safe_bool(x) AS CASE
      WHEN typeof(x) = 'VARCHAR' THEN CASE lower(CAST(x AS VARCHAR)) WHEN 'true' THEN true
        WHEN 'false' THEN false END
      ELSE TRY_CAST(x AS BOOLEAN) END""",
    # DuckDB writes 1000.0 where BigQuery writes 1000, and drops zeros of a fraction of a second.
    r"""MACRO llmops_string(x) AS CASE
      WHEN typeof(x) IN ('DOUBLE', 'FLOAT') OR starts_with(typeof(x), 'DECIMAL')
        THEN error('CAST of a FLOAT64 or NUMERIC to STRING is not supported on DuckDB')
      WHEN typeof(x) LIKE 'TIMESTAMP%' AND regexp_matches(CAST(x AS VARCHAR), '\.')
        THEN error('CAST of a TIMESTAMP with parts of a second to STRING is not known on DuckDB')
      ELSE CAST(x AS VARCHAR) END""",
    r"""MACRO llmops_divide(a, b) AS CASE
      WHEN starts_with(typeof(a), 'DECIMAL') OR starts_with(typeof(b), 'DECIMAL')
        THEN error('dividing NUMERIC values is not supported on DuckDB')
      WHEN b = 0 THEN error('division by zero') ELSE a / b END""",
    # Position 0 is read as 1; one before the text's start as its start.
    r"""MACRO llmops_substr(s, p) AS
      substr(s, CASE WHEN p = 0 OR p < -length(s) THEN 1 ELSE p END)""",
    r"""MACRO llmops_substr_of(s, p, n) AS CASE WHEN n < 0 THEN error('negative length in SUBSTR')
      ELSE substr(s, CASE WHEN p = 0 OR p < -length(s) THEN 1 ELSE p END, n) END""",
    r"""MACRO llmops_at(a, i, safe) AS CASE WHEN i >= 0 AND i < len(a) THEN a[i + 1]
      WHEN safe OR a IS NULL OR i IS NULL THEN NULL
      ELSE error('array index ' || CAST(i AS VARCHAR) || ' is out of bounds') END""",
    r"""MACRO llmops_unix_seconds(t) AS CAST(floor(epoch(CAST(t AS TIMESTAMPTZ))) AS BIGINT)""",
    # TO_JSON gives the row's columns in order: equal rows have equal texts.
    r"""MACRO llmops_row_hash(r) AS sha256(CAST(to_json(r) AS VARCHAR))""",
)
_SPACES = (
    " \t\n\x0b\x0c\r\x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009"
    "\u200a\u2028\u2029\u202f\u205f\u3000"
)
_DATE_UNITS = ("DAY", "MONTH", "QUARTER", "YEAR")
_TIME_UNITS = ("MICROSECOND", "MILLISECOND", "SECOND", "MINUTE", "HOUR", "DAY")
_PARTS = ("YEAR", "QUARTER", "MONTH", "DAY", "DAYOFYEAR", "HOUR", "MINUTE", "SECOND", "MICROSECOND")


def refused(what: str, why: str) -> ConfigError:
    """Build the error for a construct that DuckDB would read differently."""
    return ConfigError(
        f"{what} is not supported on DuckDB: {why}", hint="docs/warehouse.md lists what is"
    )


def rewrite(tree: exp.Query) -> exp.Query:
    """Return a tree whose DuckDB translation means what ``tree`` means in BigQuery.

    Raises:
        ConfigError: If a construct has no such translation; the message names it.
    """
    rules = _rules()
    for node in list(tree.walk()):
        _check(node, rules)
    for node in reversed(list(tree.walk())):  # children before their parents
        rule = rules.get(type(node))
        made = rule(node) if rule else node
        if made is not node:
            node.replace(made)
    return tree


def to_duckdb(tree: exp.Expr) -> str:
    """Return DuckDB's SQL for a rewritten tree.

    Raises:
        ConfigError: If sqlglot knows of no translation.
    """
    from sqlglot import ErrorLevel
    from sqlglot.errors import UnsupportedError

    try:
        return tree.sql("duckdb", identify=True, comments=False, unsupported_level=ErrorLevel.RAISE)
    except UnsupportedError as exc:
        raise refused("a construct of the query", str(exc).splitlines()[0]) from exc


def _check(node: exp.Expr, rules: Mapping[type[exp.Expr], Rule]) -> None:
    from sqlglot import exp

    name = type(node).__name__
    if isinstance(node, exp.Anonymous):
        raise refused(f"{str(node.this).upper()}()", "it is not a function known to mean the same")
    if name in REFUSED:
        what, why = REFUSED[name]
        raise refused(what, why)
    if name not in SAME and type(node) not in rules:
        what = node.sql_name() if isinstance(node, exp.Func) else node.key.upper()
        raise refused(what, "it is not known to mean the same")


def _rules() -> dict[type[exp.Expr], Rule]:
    from sqlglot import exp

    rules: dict[type[exp.Expr], Rule] = {
        exp.Literal: _number,
        exp.Cast: _cast,
        exp.TryCast: _cast,
        exp.Div: _divide,
        exp.Substring: _substring,
        exp.Bracket: _element,
        exp.Trim: _trim,
        exp.Round: _as_float,
        exp.Trunc: _as_float,
        exp.Ceil: _as_float,
        exp.Floor: _as_float,
        exp.Like: _like,
        exp.AnyValue: _any_value,
        exp.ApproxDistinct: _exact_distinct,
        exp.ArrayAgg: _array_agg,
        exp.IgnoreNulls: _ignore_nulls,
        exp.GroupConcat: _string_agg,
        exp.ByteLength: _byte_length,
        exp.LowerHex: _hex,
        exp.Normalize: _normalize,
        exp.Format: _format,
        exp.Date: _date,
        exp.Timestamp: _timestamp,
        exp.DateAdd: _date_arithmetic,
        exp.DateSub: _date_arithmetic,
        exp.DateDiff: _date_diff,
        exp.DateTrunc: _date_trunc,
        exp.TimestampAdd: _timestamp_arithmetic,
        exp.TimestampSub: _timestamp_arithmetic,
        exp.TimestampDiff: _timestamp_diff,
        exp.TimestampTrunc: _timestamp_trunc,
        exp.Extract: _extract,
        exp.TimeToStr: _time_to_str,
        exp.StrToDate: _parse_time,
        exp.StrToTime: _parse_time,
        exp.UnixSeconds: _unix_seconds,
        exp.Unnest: _unnest,
        exp.StrPosition: _str_position,
        exp.RegexpExtract: _regexp_extract,
        exp.GenerateSeries: _generate_array,
        exp.Join: _join,
        exp.Table: _table,
        exp.Select: _select,
    }
    return rules


def _call(name: str, *arguments: exp.Expr | str) -> exp.Expr:
    from sqlglot import exp

    return exp.Anonymous(
        this=name, expressions=[exp.convert(a) if isinstance(a, str) else a for a in arguments]
    )


def _casted(node: exp.Expr, kind: str) -> exp.Expr:
    from sqlglot import exp

    return exp.Cast(this=node, to=exp.DataType.build(kind, dialect="duckdb"))


def _only(node: exp.Expr, what: str, *names: str) -> None:
    """Refuse every argument of ``node`` but those in ``names``."""
    extra = [k for k, v in node.args.items() if v and k not in names]
    if extra:
        raise refused(what, f"its argument '{extra[0]}' has no known translation")


def _unit(node: exp.Expr, what: str, allowed: tuple[str, ...]) -> str:
    unit = node.args.get("unit")
    name = unit.name.upper() if unit is not None else "DAY"
    if name not in allowed or not unit_is_plain(unit):
        raise refused(
            f"{what} by {unit.sql('bigquery') if unit else name}", f"known: {', '.join(allowed)}"
        )
    return name


def unit_is_plain(unit: exp.Expr | None) -> bool:
    """Say whether a date part is a bare word, not WEEK(MONDAY)."""
    from sqlglot import exp

    return unit is None or isinstance(unit, exp.Var | exp.Literal)


# ---------------------------------------------------------------- numbers and casts


def _number(node: exp.Expr) -> exp.Expr:
    """``0.1`` is FLOAT64, not DECIMAL; a whole number in arithmetic is 64 bits wide, not 32."""
    from sqlglot import exp

    if node.args.get("is_string"):
        return node
    if not node.name.isdigit():
        return _casted(exp.Literal.string(node.name), "DOUBLE")
    wide = isinstance(node.parent, exp.Add | exp.Sub | exp.Mul | exp.Neg | exp.Sum | exp.Abs)
    return _casted(node.copy(), "BIGINT") if wide else node


_MACRO_CASTS = {"BIGINT": "int64", "BOOLEAN": "bool"}
_PLAIN_CASTS = ("DOUBLE", "DATE", "TIMESTAMPTZ")


def _cast(node: exp.Expr) -> exp.Expr:
    from sqlglot import exp

    safe = isinstance(node, exp.TryCast)
    what = "SAFE_CAST" if safe else "CAST"
    _only(node, what, "this", "to", "safe")
    kind = node.args["to"].sql("duckdb")
    if kind in _MACRO_CASTS:
        return _call(f"llmops_{'safe_' if safe else ''}{_MACRO_CASTS[kind]}", node.this)
    if kind in ("TEXT", "VARCHAR"):
        return _call("llmops_string", node.this)
    if kind in _PLAIN_CASTS or _is_empty(node.this):
        return node
    raise refused(
        f"{what} to {node.args['to'].sql('bigquery')}", "the two engines convert it differently"
    )


def _is_empty(node: exp.Expr) -> bool:
    from sqlglot import exp

    return isinstance(node, exp.Null) or (isinstance(node, exp.Array) and not node.expressions)


def _divide(node: exp.Expr) -> exp.Expr:
    return _call("llmops_divide", node.this, node.expression)


def _as_float(node: exp.Expr) -> exp.Expr:
    _only(node, node.sql_name(), "this", "decimals")  # type: ignore[attr-defined]
    node.set("this", _casted(node.this, "DOUBLE"))
    return node


# ------------------------------------------------------------------------- texts


def _substring(node: exp.Expr) -> exp.Expr:
    from sqlglot import exp

    start = node.args.get("start") or exp.Literal.number(1)
    length = node.args.get("length")
    if length is None:
        return _call("llmops_substr", node.this, start)
    return _call("llmops_substr_of", node.this, start, length)


def _trim(node: exp.Expr) -> exp.Expr:
    """Without a set of characters BigQuery trims all white space, DuckDB blanks only."""
    name = {"LEADING": "ltrim", "TRAILING": "rtrim"}.get(str(node.args.get("position")), "trim")
    return _call(name, node.this, node.args.get("expression") or _SPACES)


def _like(node: exp.Expr) -> exp.Expr:
    from sqlglot import exp

    if isinstance(node.parent, exp.Escape):
        return node
    return exp.Escape(this=node.copy(), expression=exp.Literal.string("\\"))


def _byte_length(node: exp.Expr) -> exp.Expr:
    return _call("octet_length", _call("encode", node.this))


def _hex(node: exp.Expr) -> exp.Expr:
    from sqlglot import exp

    inner = node.this
    length = inner.args.get("length")
    if isinstance(inner, exp.SHA2Digest | exp.SHA2) and (length is None or length.name == "256"):
        return _call("sha256", inner.this)
    raise refused("TO_HEX", "only TO_HEX(MD5(..)) and TO_HEX(SHA256(..)) are known")


def _normalize(node: exp.Expr) -> exp.Expr:
    form = node.args.get("form")
    if node.args.get("is_casefold") or (form and form.name.upper() != "NFC"):
        raise refused("NORMALIZE", "only the form NFC is known")
    return _call("nfc_normalize", node.this)


def _format(node: exp.Expr) -> exp.Expr:
    import re

    text = node.this
    plain = text.args.get("is_string") and re.fullmatch(
        r"(?:[^%]|%%|%s|%0?\d*d|%\.\d+f)*", text.name, re.DOTALL
    )
    if not plain:
        raise refused("FORMAT", "only a literal text with %s, %d, %05d, %.2f and %% is known")
    return _call("printf", text, *node.expressions)


def _str_position(node: exp.Expr) -> exp.Expr:
    _only(node, "INSTR", "this", "substr")
    return node


def _regexp_extract(node: exp.Expr) -> exp.Expr:
    from sqlglot import exp

    _only(
        node,
        "REGEXP_EXTRACT",
        "this",
        "expression",
        "group",
        "null_if_pos_overflow",
        "null_if_no_match",
    )
    group = node.args.get("group") or exp.Literal.number(0)
    found = _call("regexp_extract", node.this, node.expression, group.copy())
    matches = _call("regexp_matches", node.this.copy(), node.expression.copy())
    return exp.Case(ifs=[exp.If(this=matches, true=found)])


# -------------------------------------------------------------------- aggregates


def _any_value(node: exp.Expr) -> exp.Expr:
    """Any row's value will do, so take the least: the same in every run."""
    from sqlglot import exp

    if not isinstance(node.this, exp.Column | exp.Func | exp.Dot | exp.Cast):
        raise refused("ANY_VALUE with HAVING", "use MAX or MIN")
    return exp.Min(this=node.this)


def _exact_distinct(node: exp.Expr) -> exp.Expr:
    from sqlglot import exp

    return exp.Count(this=exp.Distinct(expressions=[node.this]))


def _ordered(value: exp.Expr) -> exp.Expr:
    """Give an aggregate without an order the order of its own values: the same in every run."""
    from sqlglot import exp

    if isinstance(value, exp.Order):
        return value
    inner = value.expressions[0] if isinstance(value, exp.Distinct) else value
    key = exp.Ordered(this=inner.copy(), nulls_first=True)
    return exp.Order(this=value.copy(), expressions=[key])


def _array_agg(node: exp.Expr) -> exp.Expr:
    from sqlglot import exp

    if node.parent is not None and isinstance(node.parent, exp.IgnoreNulls):
        return node  # done there
    return _array(node, keep_nulls=True)


def _ignore_nulls(node: exp.Expr) -> exp.Expr:
    from sqlglot import exp

    if isinstance(node.this, exp.ArrayAgg):
        return _array(node.this, keep_nulls=False)
    return node


def _array(node: exp.Expr, *, keep_nulls: bool) -> exp.Expr:
    from sqlglot import exp

    inner, limit = node.this, None
    if isinstance(inner, exp.Limit):
        inner, limit = inner.this, inner.expression
    ordered = _ordered(inner)
    value = ordered.this.expressions[0] if isinstance(ordered.this, exp.Distinct) else ordered.this
    made: exp.Expr = exp.Anonymous(this="list", expressions=[ordered])
    if not keep_nulls:
        present = exp.Not(this=exp.Is(this=value.copy(), expression=exp.Null()))
        made = exp.Filter(this=made, expression=exp.Where(this=present))
    if limit is None:
        return made
    return _call("list_slice", made, exp.Literal.number(1), limit)


def _string_agg(node: exp.Expr) -> exp.Expr:
    from sqlglot import exp

    if isinstance(node.this, exp.Limit):
        raise refused(
            "STRING_AGG with LIMIT", "ARRAY_TO_STRING(ARRAY_AGG(.. LIMIT n), ..) is known"
        )
    node.set("this", _ordered(node.this))
    node.set("separator", node.args.get("separator") or exp.Literal.string(","))
    return node


# -------------------------------------------------------------- arrays and structs


def _element(node: exp.Expr) -> exp.Expr:
    """Out of range is an error unless SAFE_OFFSET or SAFE_ORDINAL says otherwise."""
    from sqlglot import exp

    index = node.expressions[0]
    if len(node.expressions) != 1 or isinstance(index, exp.Slice) or index.args.get("is_string"):
        raise refused(
            "a subscript that is no array index", "JSON subscripts have no known translation"
        )
    if node.args.get("offset") == 1:
        index = exp.Sub(this=exp.paren(index.copy()), expression=exp.Literal.number(1))
    return _call("llmops_at", node.this, index, exp.Boolean(this=bool(node.args.get("safe"))))


def _unnest(node: exp.Expr) -> exp.Expr:
    """WITH OFFSET counts from 0; DuckDB's WITH ORDINALITY from 1."""
    from sqlglot import exp

    offset = node.args.get("offset")
    if not isinstance(offset, exp.Identifier):
        return node
    alias = node.args.get("alias")
    columns = alias.columns if alias is not None else []
    if len(columns) != 1 or len(node.expressions) != 1:
        raise refused(
            "UNNEST WITH OFFSET without an alias", "write UNNEST(..) AS x WITH OFFSET AS n"
        )
    array = node.expressions[0]
    value = exp.alias_(_call("unnest", array.copy()), columns[0].name, quoted=True)
    count = _call("unnest", _call("range", _call("len", array.copy())))
    select = exp.Select(expressions=[value, exp.alias_(count, offset.name, quoted=True)])
    return exp.Subquery(
        this=select, alias=exp.TableAlias(this=exp.to_identifier(f"_{columns[0].name}"))
    )


def _generate_array(node: exp.Expr) -> exp.Expr:
    _only(node, "GENERATE_ARRAY", "start", "end", "step")
    return _call(
        "generate_series", *(node.args[k] for k in ("start", "end", "step") if node.args.get(k))
    )


# ------------------------------------------------------------------ dates and times


def _date(node: exp.Expr) -> exp.Expr:
    _only(node, "DATE with a time zone", "this")
    return _casted(node.this, "DATE")


def _timestamp(node: exp.Expr) -> exp.Expr:
    _only(node, "TIMESTAMP with a time zone", "this", "with_tz")
    return _casted(node.this, "TIMESTAMPTZ")


def _date_arithmetic(node: exp.Expr) -> exp.Expr:
    """DuckDB gives a TIMESTAMP; BigQuery a DATE."""
    _unit(node, node.sql_name(), (*_DATE_UNITS, "WEEK"))  # type: ignore[attr-defined]
    node.set("this", _casted(node.this, "DATE"))
    return _once(node, "DATE")


def _once(node: exp.Expr, kind: str) -> exp.Expr:
    """Cast a node that stays in the tree; the walk goes on below, where it must not come back."""
    from sqlglot import exp

    sign = "-" if isinstance(node, exp.DateSub | exp.TimestampSub) else "+"
    unit = node.args.get("unit")
    amount = _call(
        f"to_{unit.name.lower() if unit is not None else 'day'}s", _whole(node.expression)
    )
    operator = exp.Sub if sign == "-" else exp.Add
    return _casted(exp.paren(operator(this=node.this, expression=amount)), kind)


def _whole(node: exp.Expr) -> exp.Expr:
    from sqlglot import exp

    if isinstance(node, exp.Interval):
        node = node.this
    if node.args.get("is_string") and node.name.lstrip("-").isdigit():
        return exp.Literal.number(node.name)
    return node


def _date_diff(node: exp.Expr) -> exp.Expr:
    unit = _unit(node, "DATE_DIFF", _DATE_UNITS)
    return _call(
        "date_diff", unit.lower(), _casted(node.expression, "DATE"), _casted(node.this, "DATE")
    )


def _date_trunc(node: exp.Expr) -> exp.Expr:
    unit = _unit(node, "DATE_TRUNC", _DATE_UNITS)
    return _casted(_call("date_trunc", unit.lower(), _casted(node.this, "DATE")), "DATE")


def _timestamp_arithmetic(node: exp.Expr) -> exp.Expr:
    _unit(node, node.sql_name(), _TIME_UNITS)  # type: ignore[attr-defined]
    node.set("this", _casted(node.this, "TIMESTAMPTZ"))
    return _once(node, "TIMESTAMPTZ")


def _timestamp_diff(node: exp.Expr) -> exp.Expr:
    """Whole units that have passed, not boundaries that were crossed."""
    unit = _unit(node, "TIMESTAMP_DIFF", _TIME_UNITS)
    earlier, later = _casted(node.expression, "TIMESTAMPTZ"), _casted(node.this, "TIMESTAMPTZ")
    return _call("date_sub", unit.lower(), earlier, later)


def _timestamp_trunc(node: exp.Expr) -> exp.Expr:
    _only(node, "TIMESTAMP_TRUNC with a time zone", "this", "unit")
    unit = _unit(node, "TIMESTAMP_TRUNC", (*_TIME_UNITS, *_DATE_UNITS))
    return _call("date_trunc", unit.lower(), _casted(node.this, "TIMESTAMPTZ"))


def _extract(node: exp.Expr) -> exp.Expr:
    from sqlglot import exp

    part, value = node.this.name.upper(), node.expression
    if not isinstance(node.this, exp.Var) or isinstance(value, exp.AtTimeZone):
        raise refused("EXTRACT with WEEK(..) or AT TIME ZONE", f"known parts: {', '.join(_PARTS)}")
    if part == "DAYOFWEEK":  # Sunday is 1 in BigQuery, 0 in DuckDB
        one = _casted(exp.Literal.number(1), "BIGINT")
        return exp.paren(exp.Add(this=_call("dayofweek", value), expression=one))
    if part == "ISOWEEK":
        return _call("date_part", "week", value)
    if part == "ISOYEAR":
        return _call("date_part", "isoyear", value)
    if part == "MICROSECOND" or part not in _PARTS:
        raise refused(
            f"EXTRACT({part})",
            f"known parts: {', '.join(_PARTS[:-1])}, DAYOFWEEK, ISOWEEK, ISOYEAR",
        )
    return _call("date_part", part.lower(), value)


def _time_to_str(node: exp.Expr) -> exp.Expr:
    _only(node, "a date format with a time zone", "this", "format")
    _known_codes(node)
    inner = node.this
    kind = "DATE" if type(inner).__name__ == "TsOrDsToDate" else "TIMESTAMPTZ"
    value = inner.this if type(inner).__name__.startswith("TsOrDsTo") else inner
    return _call("strftime", _casted(_casted(value, kind), "TIMESTAMP"), node.args["format"])


def _parse_time(node: exp.Expr) -> exp.Expr:
    from sqlglot import exp

    _known_codes(node)
    text = node.args["format"].name
    if "%Y" not in text:
        raise refused("a date format without the year %Y", "the engines assume different years")
    kind = "DATE" if isinstance(node, exp.StrToDate) else "TIMESTAMPTZ"
    return _casted(_call("strptime", node.this, text), kind)


def _known_codes(node: exp.Expr) -> None:
    import re

    text = node.args["format"]
    codes = set(re.findall(r"%.", text.name, re.DOTALL)) if text.args.get("is_string") else {"%?"}
    if unknown := sorted(codes - STRFTIME_CODES):
        raise refused(f"the date format {unknown[0]}", f"known: {' '.join(sorted(STRFTIME_CODES))}")


def _unix_seconds(node: exp.Expr) -> exp.Expr:
    return _call("llmops_unix_seconds", node.this)


# ------------------------------------------------------------------------- sources


_SELECT_PARTS = (
    *("with_", "expressions", "from_", "joins", "where", "group", "having", "qualify"),
    *("windows", "distinct", "order", "limit", "offset"),
)


def _select(node: exp.Expr) -> exp.Expr:
    kind = node.args.get("kind")
    _only(node, f"SELECT AS {kind}" if kind else "SELECT", *_SELECT_PARTS)
    return node


def _join(node: exp.Expr) -> exp.Expr:
    if str(node.args.get("method") or "").upper() in ("NATURAL", "ASOF", "POSITIONAL"):
        raise refused(f"{node.args['method']} JOIN", "BigQuery has none")
    return node


def _table(node: exp.Expr) -> exp.Expr:
    for name, what in {
        "sample": "TABLESAMPLE",
        "version": "FOR SYSTEM_TIME AS OF",
        "when": "FOR SYSTEM_TIME AS OF",
        "pivots": "PIVOT",
        "ordinality": "WITH ORDINALITY",
    }.items():
        if node.args.get(name):
            raise refused(what, "it has no translation that gives the same rows")
    return node
