"""How one dataset version differs from another: its rows, their lengths and their tags."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from llmops.errors import ConfigError, LlmopsError
from llmops.lineage.datasets import Dataset, datasets
from llmops.ports.store import Store

LENGTH_EDGES = (0, *(2**power for power in range(5, 18)))  # characters; each bin doubles
TOP_TAGS = 20


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

    A version whose rows are not kept, for it was made in one pass, is passed over.

    Args:
        record: The run's record.
        earlier: The records of the experiment's earlier runs, newest first.
        store: Where the rows are.

    Returns:
        A ``Difference`` as plain JSON; null where there was no other version to compare with, or
        where the run itself keeps no rows.
    """
    name = record["dataset_version"]
    if name is None or not _keeps_rows(record):
        return None
    for known in earlier:
        before = known.get("dataset_version")
        if before is None or not _keeps_rows(known):
            continue
        if before != name:
            return _compared(known, record, store)
        if known["status"] != "running":  # what it found still holds
            told: dict[str, Any] | None = known.get("dataset_changes")
            return told
    return None


def _keeps_rows(record: Mapping[str, Any]) -> bool:
    return any("train" in (step.get("outputs") or {}) for step in record["steps"])


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
