"""``llmops warehouse``: the tables, a look at their rows, a query, and loading a file."""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import date, datetime, time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops.cli.verbs import call_verb, print_json
from llmops.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from llmops.adapters.warehouse.duckdb import DuckDBWarehouse
    from llmops.ports.warehouse import Warehouse

SUMMARY = "list tables, look at rows, run a query, load CSV, Parquet or JSON Lines"
PREVIEW_ROWS = 5
QUERY_ROWS = 20
WIDEST_TABLE = 6  # columns; rows with more are shown one below the other
LONGEST_CELL = 120  # characters on the screen; --json prints everything


def main(argv: Sequence[str]) -> int:
    """Show or load tables of the chosen warehouse."""
    return call_verb(_parser(), argv)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="llmops warehouse",
        description=SUMMARY,
        epilog="example:  llmops warehouse query conf/sql/so_python.sql --limit 3",
    )
    verbs = parser.add_subparsers(required=True, metavar="tables | preview | query | load")
    tables = verbs.add_parser("tables", help="all tables, their rows, sizes and origin")
    tables.set_defaults(command=_tables)
    preview = verbs.add_parser("preview", help="some rows of a table")
    preview.add_argument("table", metavar="TABLE", help="project.dataset.table")
    preview.add_argument("--limit", type=_count, default=PREVIEW_ROWS, help="rows (default 5)")
    preview.set_defaults(command=_preview)
    query = verbs.add_parser("query", help="the rows of one SELECT in BigQuery's dialect")
    query.add_argument("sql", metavar="SQL", help="the SELECT, or a file that ends in .sql")
    query.add_argument("--limit", type=_count, default=QUERY_ROWS, help="rows shown (default 20)")
    query.set_defaults(command=_query)
    loading = verbs.add_parser("load", help="make a table of a CSV, Parquet or JSON Lines file")
    loading.add_argument(
        "table",
        metavar="TABLE",
        help="project.dataset.table; or the word stackexchange: FILE is then a dump "
        "(Posts.xml, .7z, or a folder of several)",
    )
    loading.add_argument("file", metavar="FILE", type=Path)
    loading.add_argument("--dataset", help="project.dataset for the tables of a dump")
    loading.add_argument(
        "--site", metavar="HOST", help="whose posts a dump holds, if its name does not tell"
    )
    loading.add_argument("--replace", action="store_true", help="replace a table that exists")
    loading.set_defaults(command=_load)
    for verb in (tables, preview, query, loading):
        verb.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="e.g. warehouse=duckdb")
        verb.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no number of rows: give 1 or more")
    return int(text)


def _tables(arguments: argparse.Namespace) -> int:
    tables = _warehouse(arguments.overrides).tables()
    if arguments.json:
        print_json([asdict(table) for table in tables])
        return 0
    from rich.table import Table

    shown = Table("table", "rows", "bytes", "columns", "origin")
    for table in tables:
        rows, size = _number(table.rows), _number(table.bytes)
        shown.add_row(table.name, rows, size, str(len(table.columns)), table.source)
    none = "no table:  llmops warehouse load project.dataset.table FILE warehouse=duckdb"
    _print(shown if tables else none)
    return 0


def _preview(arguments: argparse.Namespace) -> int:
    from llmops.adapters.warehouse.shelf import table_name

    batches = _warehouse(arguments.overrides).preview(table_name(arguments.table), arguments.limit)
    found = list(itertools.islice(batches, arguments.limit))
    names = list(found[0].schema.names) if found else []
    rows = [row for batch in found for row in batch.to_pylist()]
    return _print_rows(names, rows, arguments)


def _query(arguments: argparse.Namespace) -> int:
    return _show(_text(arguments.sql), arguments)


def _text(sql: str) -> str:
    if not sql.endswith(".sql"):
        return sql
    try:
        return Path(sql).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{sql} cannot be read ({exc})", hint="give the SELECT itself") from exc


def _show(sql: str, arguments: argparse.Namespace) -> int:
    warehouse = _warehouse(arguments.overrides)
    check = warehouse.check(sql)
    found = list(itertools.islice(_rows(warehouse, sql), arguments.limit + 1))
    rows = found[: arguments.limit]
    _print_rows([column.name for column in check.columns], rows, arguments)
    if arguments.json:
        return 0
    if len(found) > len(rows):
        _print(f"the first {len(rows)} rows; see more with --limit")
    for note in check.notes:
        _print(f"note: {note}")
    return 0


def _print_rows(
    names: Sequence[str], rows: Sequence[Mapping[str, Any]], arguments: argparse.Namespace
) -> int:
    if arguments.json:
        print_json([{name: _plain(value) for name, value in row.items()} for row in rows])
    elif not rows:
        _print("no rows")
    elif len(names) > WIDEST_TABLE:
        for number, row in enumerate(rows, start=1):
            _print(_record(number, row))
    else:
        _print(_table(names, rows))
    return 0


def _rows(warehouse: Warehouse, sql: str) -> Iterator[Mapping[str, Any]]:
    for batch in warehouse.query(sql).batches():
        yield from batch.to_pylist()


def _table(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    from rich.table import Table

    shown = Table(*names)
    for row in rows:
        shown.add_row(*(_cell(row[name]) for name in names))
    return shown


def _record(number: int, row: Mapping[str, Any]) -> RenderableType:
    from rich.table import Table

    shown = Table(show_header=False, title=f"row {number}", title_justify="left")
    for name, value in row.items():
        shown.add_row(name, _cell(value))
    return shown


def _load(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    warehouse = _loadable(_config(arguments.overrides))
    if arguments.table == "stackexchange":
        return _load_dump(warehouse, arguments)
    if arguments.dataset or arguments.site:
        raise ConfigError(
            f"--dataset and --site are for dumps, and {arguments.table} is a table",
            hint="leave them out, or load the dump:  warehouse load stackexchange FILE",
        )
    size = arguments.file.stat().st_size if arguments.file.is_file() else 0
    with Console(stderr=True).status(f"loading {arguments.file} ({size:,} bytes)"):
        table = warehouse.load(arguments.table, arguments.file, replace_table=arguments.replace)
    if arguments.json:
        print_json(asdict(table))
        return 0
    columns = ", ".join(f"{column.name} {column.type}" for column in table.columns)
    _print(f"{table.name}: {_number(table.rows)} rows, version {table.version[:12]}")
    _print(f"columns: {columns}")
    return 0


def _load_dump(warehouse: DuckDBWarehouse, arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from llmops.adapters.warehouse.stackexchange import TERMS, TERMS_ID

    with Console(stderr=True).status(f"loading {arguments.file}") as status:
        tables = warehouse.load_dump(
            arguments.file,
            arguments.dataset,
            lambda done, total, note="": status.update(f"{done:,.0f} {note}"),
            site=arguments.site,
            replace_table=arguments.replace,
        )
    if arguments.json:
        print_json({"tables": [asdict(t) for t in tables], "terms": TERMS_ID, "says": TERMS})
        return 0
    for table in tables:
        _print(f"{table.name}: {_number(table.rows)} rows, version {table.version[:12]}")
        _print(f"  {table.source}")
    _print(f"terms {TERMS_ID}: {TERMS}")
    return 0


def _loadable(config: Mapping[str, Any]) -> DuckDBWarehouse:
    if config["kind"] != "duckdb":
        raise ConfigError(
            f"files are not loaded into a warehouse of kind '{config['kind']}'",
            hint="choose warehouse=duckdb, or use the warehouse's own tools",
        )
    if config["sample"]:
        raise ConfigError(
            f"the warehouse '{config['name']}' is the built-in sample and takes no other tables",
            hint="choose your own:  warehouse=duckdb",
        )
    from llmops.adapters.warehouse.duckdb import open_warehouse
    from llmops.config.project import workspace

    return open_warehouse(config, workspace())


def _warehouse(overrides: Sequence[str]) -> Warehouse:
    from llmops.adapters.catalog import adapter, in_cloud
    from llmops.config.compose import group
    from llmops.config.project import workspace

    config = _config(overrides)
    environment = group("env", overrides) if in_cloud("warehouse", config) else None
    opened: Warehouse = adapter("warehouse", config, workspace(), environment=environment)
    return opened


def _config(overrides: Sequence[str]) -> Mapping[str, Any]:
    """Return the group; to look at tables or load one, its ``source`` need not be filled in."""
    from llmops.config.compose import canonical, draft, group

    try:
        return group("warehouse", overrides)
    except ConfigError:
        lacking = draft(canonical(overrides))
        missing = [f.path for f in lacking.failures if f.path[0] == "warehouse"]
        if not missing or any(path[1] != "source" for path in missing):
            raise
        chosen: Mapping[str, Any] = lacking.config["warehouse"]
        return {**chosen, "source": {}}


def _number(value: int | None) -> str:
    return "unknown" if value is None else f"{value:,}"


def _cell(value: object) -> Any:
    from rich.text import Text

    if value is None:
        return Text("null", style="dim")
    text = str(_plain(value)).replace("\n", "⏎")
    text = "".join(letter if letter.isprintable() else "·" for letter in text)
    return Text(text if len(text) <= LONGEST_CELL else text[: LONGEST_CELL - 1] + "…")


def _plain(value: Any) -> Any:
    """Return the value as JSON has it: moments in ISO 8601, bytes as hex, fractions exact."""
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, bool | int | float | str | None) else str(value)


def _print(what: RenderableType) -> None:
    from rich.console import Console

    Console(markup=False, highlight=False).print(what)
