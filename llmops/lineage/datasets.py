"""The dataset versions of a workspace: which runs made or used them, and what is in them.

Reads run records and the objects they name; starts and writes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmops.artifacts import reference
from llmops.data.columns import SIDES
from llmops.errors import ConfigError, LlmopsError, unknown_name
from llmops.ports.store import Store

BEFORE_THE_SPLIT = ("ingest", "read_files", "validate", "prepare")  # kinds of steps


@dataclass(frozen=True)
class Dataset:
    """One version: its card, its rows as Parquet by side where they are kept, and its users.

    ``card`` says in ``origin`` what the steps before the split knew: where the rows are from, how
    many there were at each stage, and by which rules.
    """

    name: str
    experiment: str
    card: Mapping[str, Any]
    sides: Mapping[str, Path]
    runs: tuple[str, ...]
    models: tuple[str, ...]  # names of tuned models, e.g. so_python v3


@dataclass
class _Found:
    experiment: str
    card: Mapping[str, Any]
    sides: Mapping[str, Path]
    origin: Mapping[str, Any] | None = None
    runs: list[str] = field(default_factory=list)
    models: set[str] = field(default_factory=set)


def datasets(records: Iterable[Mapping[str, Any]], store: Store) -> list[Dataset]:
    """Return the versions that the records name, newest first; what is gone is left out."""
    found: dict[str, _Found] = {}
    for record in records:
        for step in record["steps"]:
            if "card" not in (step.get("outputs") or {}):
                continue
            try:
                card = json.loads(_path(store, step, "card").read_text("utf-8"))
                sides = {
                    side: _path(store, step, side) for side in SIDES if side in step["outputs"]
                }
            except (LlmopsError, OSError, ValueError):
                continue
            if "dataset_version" not in card:
                continue
            name = card["dataset_version"]
            entry = found.setdefault(name, _Found(record["experiment"], card, sides))
            entry.origin = entry.origin or _origin(record)
            entry.sides = entry.sides or sides  # a run in one pass keeps no rows, another may
            entry.runs.append(record["run_id"])
            entry.models |= set(_models(record))
    return [
        Dataset(
            name,
            f.experiment,
            {**f.card, "origin": f.origin},
            f.sides,
            tuple(f.runs),
            tuple(sorted(f.models)),
        )
        for name, f in found.items()
    ]


def _origin(record: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what the steps before the split say of the rows; null if none of them tells counts."""
    settings: dict[str, Any] = {}
    facts: dict[str, Any] = {}
    tables: dict[str, str] = {}
    for step in record["steps"]:
        if step["kind"] in BEFORE_THE_SPLIT:
            settings |= step.get("settings") or {}
            facts |= step.get("facts") or {}
            tables |= (step.get("source") or {}).get("tables") or {}
    if "good" not in facts:
        return None
    return {
        "run": record["run_id"],
        "source": record["source"],
        "query": settings.get("dataset.query"),
        "files": settings.get("dataset.files"),
        "parameters": settings.get("dataset.parameters"),
        "snapshot": facts.get("snapshot"),
        "tables": tables,
        "columns": settings.get("dataset.columns"),
        "rows": {name: facts[name] for name in ("in", "good", "quarantined", "duplicates")},
        "broken": facts.get("rules") or {},
        "rules": settings.get("dataset.rules"),
    }


def _path(store: Store, step: Mapping[str, Any], output: str) -> Path:
    return store.local_path(reference(step["outputs"][output]))


def _models(record: Mapping[str, Any]) -> Iterator[str]:
    model = record.get("model")
    if model:
        yield f"{model.get('tuned') or model.get('endpoint') or model['base']} ({record['run_id']})"


def pick(found: Sequence[Dataset], name: str) -> Dataset:
    """Return the version with this name, or the one that begins with it.

    Raises:
        ConfigError: If there is none, or several begin so.
    """
    exact = [each for each in found if each.name == name]
    close = exact or [each for each in found if each.name.startswith(name)]
    if len(close) == 1:
        return close[0]
    if close:
        raise ConfigError(
            f"'{name}' begins several versions", hint=", ".join(each.name for each in close)
        )
    raise unknown_name("dataset", name, [each.name for each in found], where="llmops datasets")


def holding(found: Sequence[Dataset], key: str) -> list[Dataset]:
    """Return the versions that hold the row of this key.

    Raises:
        ConfigError: If the key is none.
    """
    if len(key) != 64 or set(key) - set("0123456789abcdef"):
        raise ConfigError(
            f"'{key}' is no row key", hint="64 hex digits: the column row_key of a side's Parquet"
        )
    return [each for each in found if each.sides and _holds(each, key)]


def rows_of(held: Sequence[Dataset], key: str) -> list[Mapping[str, str]]:
    """Return the question and the answer of the row of this key in each version that holds it.

    By the names ``input_text`` and ``output_text``; see ``holding``.
    """
    import pyarrow.parquet as pq

    wanted, chosen = ["input_text", "output_text"], [("row_key", "==", key)]
    paths = [path for each in held for path in each.sides.values()]
    return [
        row
        for path in paths
        for row in pq.read_table(path, columns=wanted, filters=chosen).to_pylist()
    ]


def _holds(dataset: Dataset, key: str) -> bool:
    import pyarrow.parquet as pq

    return any(
        pq.read_table(path, columns=["row_key"], filters=[("row_key", "==", key)]).num_rows
        for path in dataset.sides.values()
    )
