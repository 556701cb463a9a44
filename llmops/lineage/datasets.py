"""The dataset versions of a workspace: which runs made or used them, and what is in them.

Reads run records and the objects they name; starts and writes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from llmops.artifacts import reference
from llmops.errors import ConfigError, LlmopsError, unknown_name
from llmops.ports.store import Store

SIDES = ("train", "validation", "test")
BEFORE_THE_SPLIT = ("ingest", "read_files", "validate", "prepare")  # kinds of steps
LENGTH_EDGES = (0, *(2**power for power in range(5, 18)))  # characters; each bin doubles
TOP_TAGS = 20


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


@dataclass(frozen=True)
class Difference:
    """How one version differs from another: rows by key, and what the rows are like."""

    before: str
    after: str
    added: int
    removed: int
    kept: int
    moved: int  # rows that are in both, on another side
    changed: Mapping[str, tuple[Any, Any]]  # entry of the card -> both values
    lengths: Mapping[str, Mapping[str, Any]]
    tags: Sequence[Mapping[str, Any]]


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


def difference(before: Dataset, after: Dataset) -> Difference:
    """Compare two versions.

    Raises:
        ConfigError: If the rows of one are not kept.
    """
    import numpy as np

    for each in (before, after):
        if not each.sides:
            raise ConfigError(
                f"the rows of {each.name} are not kept: it was made in one pass",
                hint="make it with pipeline=dataset to compare its rows",
            )
    one, other = _keys(before), _keys(after)
    kept = np.intersect1d(one.keys, other.keys, return_indices=True)
    moved = int((one.sides[kept[1]] != other.sides[kept[2]]).sum())
    names = ("prompt", "rows", "method", "seed", "by", "licence", "source_terms", "leakage")
    return Difference(
        before=before.name,
        after=after.name,
        added=len(other.keys) - len(kept[0]),
        removed=len(one.keys) - len(kept[0]),
        kept=len(kept[0]),
        moved=moved,
        changed={
            name: (before.card[name], after.card[name])
            for name in names
            if before.card[name] != after.card[name]
        },
        lengths={
            column: {
                "edges": list(LENGTH_EDGES),
                "before": _lengths(before, column),
                "after": _lengths(after, column),
            }
            for column in ("input_text", "output_text")
        },
        tags=_tags(before, after),
    )


def changes(
    record: Mapping[str, Any], earlier: Iterable[Mapping[str, Any]], store: Store
) -> dict[str, Any] | None:
    """Compare the data of a run with the version that the experiment had before.

    Args:
        record: The run's record.
        earlier: The records of the experiment's earlier runs, newest first.
        store: Where the rows are.

    Returns:
        A ``Difference`` as plain JSON; null where there was no other version, or where the rows of
        one are not kept.
    """
    name = record["dataset_version"]
    if name is None:
        return None
    for known in earlier:
        before = known.get("dataset_version")
        if before == name and known["status"] != "running":  # what it found still holds
            told: dict[str, Any] | None = known.get("dataset_changes")
            return told
        if before not in (None, name):
            return _compared(known, record, store)
    return None


def _compared(
    known: Mapping[str, Any], record: Mapping[str, Any], store: Store
) -> dict[str, Any] | None:
    versions = {each.name: each for each in datasets([record, known], store)}
    before, after = (versions.get(one["dataset_version"]) for one in (known, record))
    if before is None or after is None or not (before.sides and after.sides):
        return None
    try:
        return asdict(difference(before, after))
    except (LlmopsError, OSError, ValueError):  # rows of an old version that cannot be read now
        return None


@dataclass(frozen=True)
class _Keys:
    keys: Any  # 16 bytes of each row's key, unsorted
    sides: Any


def _keys(dataset: Dataset) -> _Keys:
    """Read 16 bytes a row: enough to tell rows apart, small enough for many millions."""
    import numpy as np
    import pyarrow.parquet as pq

    keys, sides = [np.empty(0, "V16")], [np.empty(0, np.int8)]
    for number, path in enumerate(dataset.sides.values()):
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(columns=["row_key"]):
                raw = b"".join(bytes.fromhex(key[:32]) for key in batch.column(0).to_pylist())
                keys.append(np.frombuffer(raw, "V16"))
                sides.append(np.full(batch.num_rows, number, np.int8))
    return _Keys(np.concatenate(keys), np.concatenate(sides))


def _lengths(dataset: Dataset, column: str) -> list[int]:
    import numpy as np
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    total = np.zeros(len(LENGTH_EDGES), np.int64)
    for path in dataset.sides.values():
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(columns=[column]):
                lengths = pc.utf8_length(batch.column(0)).to_numpy(zero_copy_only=False)
                total += np.histogram(lengths, bins=[*LENGTH_EDGES, np.inf])[0]
    counts: list[int] = total.tolist()
    return counts


def _tags(before: Dataset, after: Dataset) -> list[dict[str, Any]]:
    one, other = _tag_counts(before), _tag_counts(after)
    total = {tag: one.get(tag, 0) + other.get(tag, 0) for tag in one.keys() | other.keys()}
    top = sorted(total, key=lambda tag: (-total[tag], tag))[:TOP_TAGS]
    return [{"tag": tag, "before": one.get(tag, 0), "after": other.get(tag, 0)} for tag in top]


def _tag_counts(dataset: Dataset) -> dict[str, int]:
    from collections import Counter

    import pyarrow.parquet as pq

    from llmops.data.values import tags_of

    counts: Counter[str] = Counter()
    for path in dataset.sides.values():
        if "tags" in pq.read_schema(path).names:
            for value in pq.read_table(path, columns=["tags"])["tags"].drop_null().to_pylist():
                counts.update(tags_of(value))
    return dict(counts)
