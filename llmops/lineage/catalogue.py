"""All runs of a workspace as rows: listed, filtered, and asked with SQL.

A record that cannot be read is a row as well, with the reason. A row is kept beside the time and
size of its ``run.json``, so that listing ten thousand runs again reads none of them.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from llmops.errors import ConfigError, LlmopsError
from llmops.files import disk_errors, write_text
from llmops.lineage.record import tuned_loss
from llmops.lineage.run_folder import RunFolder, all_runs
from llmops.processes import still_running

REVISION = 1  # raise it when a row's fields change
KEPT = Path(".llmops", "runs.json")
TAGS = "tags.json"
TAG = re.compile(r"[a-z0-9][a-z0-9._-]{0,40}")
CORRUPT = "corrupt"
DIED = "died"
FIGURE = re.compile(r"\s*([a-z_]+)\.([a-z_0-9]+)\s*(<=|>=|<|>)\s*(-?[0-9.]+(?:e-?\d+)?)\s*")


@dataclass(frozen=True)
class RunRow:
    """A run on one line.

    ``figures`` is ``contestant.metric`` -> value; ``why`` says what is wrong with a corrupt one.
    """

    run_id: str
    experiment: str
    folder: str
    status: str
    version: str | None = None
    started: str | None = None
    seconds: float | None = None
    dataset_version: str | None = None
    config_digest: str | None = None
    commit: str | None = None
    branch: str | None = None
    dirty: bool | None = None
    scored_on: str | None = None
    model: str | None = None
    gate_passed: bool | None = None
    tuned_loss: float | None = None
    money: float | None = None
    overrides: tuple[str, ...] = ()
    figures: Mapping[str, float] = field(default_factory=dict)
    steps: tuple[Mapping[str, Any], ...] = ()
    tags: tuple[str, ...] = ()
    engine: str | None = None
    process: Mapping[str, Any] | None = None
    why: str | None = None


@dataclass(frozen=True)
class Wanted:
    """Which runs to list; null and empty entries want any.

    ``since`` and ``until`` are dates or moments (ISO 8601), the end excluded; ``commit`` is the
    beginning of one; ``figure`` is e.g. ``tuned.loss<2.8``.
    """

    experiment: str | None = None
    status: str | None = None
    since: str | None = None
    until: str | None = None
    commit: str | None = None
    tag: str | None = None
    figure: str | None = None


def run_rows(workspace: Path) -> list[RunRow]:
    """Return every run of the workspace, newest first, corrupt ones among them."""
    kept = _read_kept(workspace)
    found: dict[str, list[Any]] = {}
    rows = []
    for run in all_runs(workspace):
        name = str(run.path.relative_to(workspace))
        try:
            stat = (run.path / "run.json").stat()
            stamp = [stat.st_mtime_ns, stat.st_size]
        except OSError:
            continue  # removed since it was listed
        before = kept.get(name)
        fields = before[1] if before and before[0] == stamp else _fields(run)
        found[name] = [stamp, fields]
        rows.append(_row(fields, run.path))
    if found != kept:
        _write_kept(workspace, found)
    return rows


def may_work(row: RunRow) -> bool:
    """Say whether a running run may still work.

    Of one on another machine, or whose steps run elsewhere, nobody here knows, so it may.
    """
    return row.engine not in (None, "local") or still_running(row.process) is not False


def chosen(rows: Iterable[RunRow], wanted: Wanted) -> list[RunRow]:
    """Return the rows that are wanted, in their order.

    Raises:
        ConfigError: If a figure or date cannot be read.
    """
    tests: list[Callable[[RunRow], bool]] = []
    if wanted.experiment:
        tests.append(lambda row: row.experiment == wanted.experiment)
    if wanted.status:
        tests.append(lambda row: row.status == wanted.status)
    if wanted.since:
        since = _moment(wanted.since)
        tests.append(lambda row: (row.started or "") >= since)
    if wanted.until:
        until = _moment(wanted.until)
        tests.append(lambda row: bool(row.started) and str(row.started) < until)
    if wanted.commit:
        commit = wanted.commit
        tests.append(lambda row: (row.commit or "").startswith(commit))
    if wanted.tag:
        tests.append(lambda row: wanted.tag in row.tags)
    if wanted.figure:
        tests.append(_figure_test(wanted.figure))
    return [row for row in rows if all(test(row) for test in tests)]


def tag(run: RunFolder, add: Sequence[str], remove: Sequence[str]) -> tuple[str, ...]:
    """Change a run's tags and return them; a tagged run is kept by ``runs gc``.

    Raises:
        ConfigError: If a tag is no plain name.
    """
    for name in add:
        if not TAG.fullmatch(name):
            raise ConfigError(
                f"'{name}' cannot be a tag", hint="small letters, digits, '.', '_' and '-'"
            )
    tags = sorted(({*_tags(run.path), *add}) - set(remove))
    run.write_json(TAGS, {"tags": tags})
    return tuple(tags)


@dataclass(frozen=True)
class Answer:
    """What a query gave: the names of its columns, and its rows."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


def query(rows: Sequence[RunRow], sql: str) -> Answer:
    """Ask the tables ``runs``, ``figures`` and ``steps`` with DuckDB's SQL; reads nothing else.

    Raises:
        ConfigError: If DuckDB refuses the query, with its words.
    """
    import duckdb

    with duckdb.connect(":memory:") as connection:
        for name, table in _tables(rows).items():
            connection.register(f"_{name}", table)
            connection.execute(f"CREATE TABLE {name} AS SELECT * FROM _{name}")
            connection.unregister(f"_{name}")
        connection.execute("SET enable_external_access=false")
        connection.execute("SET lock_configuration=true")
        try:
            done = connection.execute(sql)
            names = tuple(str(column[0]) for column in done.description or ())
            return Answer(names, tuple(done.fetchall()))
        except duckdb.Error as exc:
            raise ConfigError(
                f"the query fails: {str(exc).splitlines()[0]}",
                hint="tables: runs, figures (run_id, contestant, metric, value), steps",
            ) from exc


def _tables(rows: Sequence[RunRow]) -> dict[str, Any]:
    import pyarrow as pa

    text, number, flag = pa.string(), pa.float64(), pa.bool_()
    of_runs = {
        "run_id": text,
        "experiment": text,
        "status": text,
        "version": text,
        "started": text,
        "seconds": number,
        "dataset_version": text,
        "config_digest": text,
        "commit": text,
        "branch": text,
        "dirty": flag,
        "scored_on": text,
        "model": text,
        "gate_passed": flag,
        "tuned_loss": number,
        "money": number,
        "overrides": pa.list_(text),
        "tags": pa.list_(text),
        "folder": text,
        "why": text,
    }
    of_figures = {"run_id": text, "contestant": text, "metric": text, "value": number}
    of_steps = {"run_id": text, "name": text, "kind": text, "status": text, "seconds": number}
    figures = [
        {"run_id": row.run_id, "contestant": who, "metric": metric, "value": value}
        for row in rows
        for name, value in row.figures.items()
        for who, _, metric in [name.partition(".")]
    ]
    steps = [{"run_id": row.run_id, **step} for row in rows for step in row.steps]
    return {
        "runs": pa.Table.from_pylist([asdict(row) for row in rows], pa.schema(of_runs)),
        "figures": pa.Table.from_pylist(figures, pa.schema(of_figures)),
        "steps": pa.Table.from_pylist(steps, pa.schema(of_steps)),
    }


def _row(fields: Mapping[str, Any], folder: Path) -> RunRow:
    row = RunRow(
        **{
            **fields,
            "folder": str(folder),
            "overrides": tuple(fields.get("overrides") or ()),
            "steps": tuple(fields.get("steps") or ()),
            "tags": tuple(_tags(folder)),
        }
    )
    if row.status == "running" and not may_work(row):
        return RunRow(**{**vars(row), "status": DIED, "why": "its process was killed"})
    return row


def _fields(run: RunFolder) -> dict[str, Any]:
    try:
        return _fields_of(run.record())
    except (ConfigError, KeyError, TypeError, AttributeError, ValueError) as exc:
        why = f"lacks {exc}" if isinstance(exc, KeyError) else str(exc).splitlines()[0]
        name, experiment = run.path.name, run.path.parent.name
        return {"run_id": name, "experiment": experiment, "status": CORRUPT, "why": why}


def _fields_of(record: Mapping[str, Any]) -> dict[str, Any]:
    git, gate = record.get("git") or {}, record.get("gate")
    model = record.get("model") or {}
    actual = ((record.get("estimates") or {}).get("total") or {}).get("actual") or {}
    return {
        "run_id": str(record["run_id"]),
        "experiment": str(record["experiment"]),
        "status": str(record["status"]),
        "version": record["version"],
        "started": record["started"],
        "seconds": record["seconds"],
        "dataset_version": record["dataset_version"],
        "config_digest": record["config_digest"],
        "commit": git.get("commit"),
        "branch": git.get("branch"),
        "dirty": git.get("dirty"),
        "scored_on": record.get("scored_on"),
        "model": model.get("tuned") or model.get("base"),
        "gate_passed": gate["passed"] if gate else None,
        "tuned_loss": tuned_loss(record),
        "money": (actual.get("money") or {}).get("value"),
        "overrides": list(record["overrides"]),
        "figures": {
            f"{who}.{metric}": figure["value"]
            for who, figures in ((record["metrics"] or {}).get("contestants") or {}).items()
            for metric, figure in figures.items()
            if figure.get("value") is not None
        },
        "steps": [
            {name: step[name] for name in ("name", "kind", "status", "seconds")}
            for step in record["steps"]
        ],
        "engine": (record.get("engine") or {}).get("kind"),
        "process": record.get("process"),
    }


def _tags(folder: Path) -> list[str]:
    """Return a run's tags; that they cannot be read is no reason to take it for untagged."""
    path = folder / TAGS
    if not path.exists():
        return []
    import orjson

    with disk_errors(folder, setting="LLMOPS_WORKSPACE"):
        found = path.read_bytes()
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return [str(name) for name in orjson.loads(found)["tags"]]
    return []


def _moment(text: str) -> str:
    from datetime import datetime

    try:
        datetime.fromisoformat(text)
    except ValueError as exc:
        raise ConfigError(
            f"'{text}' is no date", hint="e.g. 2026-11-23 or 2026-11-23T10:15"
        ) from exc
    return text


def _figure_test(text: str) -> Callable[[RunRow], bool]:
    found = FIGURE.fullmatch(text)
    if not found:
        raise ConfigError(f"'{text}' asks for no figure", hint="e.g. --figure 'tuned.loss<2.8'")
    who, metric, sign, number = found.groups()
    limit = float(number)
    compare: Mapping[str, Callable[[float], bool]] = {
        "<": lambda value: value < limit,
        ">": lambda value: value > limit,
        "<=": lambda value: value <= limit,
        ">=": lambda value: value >= limit,
    }
    name = f"{who}.{metric}"
    return lambda row: name in row.figures and compare[sign](row.figures[name])


def _read_kept(workspace: Path) -> dict[str, list[Any]]:
    import orjson

    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        kept = orjson.loads((workspace / KEPT).read_bytes())
        if kept["revision"] == REVISION and isinstance(kept["runs"], dict):
            return dict(kept["runs"])
    return {}


def _write_kept(workspace: Path, runs: Mapping[str, Any]) -> None:
    """Keep the rows; a workspace that cannot be written to is listed all the same."""
    import orjson

    with contextlib.suppress(LlmopsError), disk_errors(workspace, setting="LLMOPS_WORKSPACE"):
        text = orjson.dumps({"revision": REVISION, "runs": runs}).decode()
        write_text(workspace / KEPT, text)
