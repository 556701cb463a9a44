"""Counts and length distributions of the rows, gathered batch by batch in bounded memory.

Knows no file; the figures do not depend on the order of the rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from llmops.data.cells import whole
from llmops.data.columns import ANSWER, OPTIONAL, QUESTION
from llmops.data.keys import content_codes
from llmops.data.tokens import Counter as TokenCounter
from llmops.data.treatment import Tally
from llmops.data.values import tags_of

HISTOGRAM_EDGES = (0, *(2**power for power in range(3, 25)))  # characters; each bin doubles
QUANTILES = (10, 50, 90, 99)
TOP_TAGS = 20


@dataclass(frozen=True)
class Counts:
    """Rows by what became of them."""

    given: int
    good: int
    quarantined: int
    duplicates: int

    def check(self) -> None:
        """Check the promise that no row is lost; a failure is a bug of ours."""
        if self.given != self.good + self.quarantined + self.duplicates:
            raise RuntimeError(f"rows were lost or made up: {asdict(self)}")

    def to_json(self) -> dict[str, int]:
        """Return the counts with ``given`` under the name ``in``."""
        counts = asdict(self)
        return {"in": counts.pop("given"), **counts}


@dataclass(frozen=True)
class Measured:
    """A batch's texts of one column: their codes, lengths, and the first of them when asked."""

    codes: npt.NDArray[np.uint64]
    characters: npt.NDArray[np.int32]
    first: Callable[[int], pa.Array]


def _measured(texts: pa.Array) -> Measured:
    characters = pc.utf8_length(texts).to_numpy(zero_copy_only=False).astype(np.int32)
    return Measured(content_codes(texts), characters, partial(texts.slice, 0))


class TextProfile:
    """Lengths in characters and the number of distinct texts of one column."""

    def __init__(self) -> None:
        self._lengths: list[npt.NDArray[np.int32]] = [np.empty(0, np.int32)]
        self._codes: list[npt.NDArray[np.uint64]] = [np.empty(0, np.uint64)]

    def add(self, measured: Measured) -> None:
        """Count the texts of one batch."""
        self._lengths.append(measured.characters)
        self._codes.append(measured.codes)

    def to_json(self) -> dict[str, Any]:
        """Return the figures; ``characters`` is null where there was no row."""
        import polars as pl

        lengths = np.concatenate(self._lengths)
        distinct = pl.Series(np.concatenate(self._codes)).n_unique()
        return {"distinct": distinct, "characters": _figures(lengths) if len(lengths) else None}


def _figures(lengths: npt.NDArray[np.int32]) -> dict[str, Any]:
    counts = np.histogram(lengths, bins=[*HISTOGRAM_EDGES, np.inf])[0]
    used = np.flatnonzero(counts)
    first, last = int(used[0]), int(used[-1]) + 1
    quantiles = np.percentile(lengths, QUANTILES, method="nearest").tolist()
    return {
        "min": int(lengths.min()),
        **{f"p{q}": int(value) for q, value in zip(QUANTILES, quantiles, strict=True)},
        "max": int(lengths.max()),
        "mean": round(float(lengths.mean(dtype=np.float64)), 3),
        "histogram": {
            "edges": [*HISTOGRAM_EDGES, None][first : last + 1],  # null: no upper edge
            "counts": counts[first:last].tolist(),
        },
    }


def _ends(moments: list[str]) -> list[str]:
    """Return the oldest and the newest moment; ISO 8601 in one zone sorts as text."""
    return [min(moments), max(moments)] if moments else []


class Profile:
    """What is known of good rows: texts, tags, gaps in the optional columns."""

    def __init__(self, counter: TokenCounter, sample: int | None, tally: Tally) -> None:
        self._texts = {"question": TextProfile(), "answer": TextProfile()}
        self._counter, self._sample, self._tally = counter, sample, tally
        self._tokens: dict[str, list[npt.NDArray[np.int64]]] = {"question": [], "answer": []}
        self._sampled = 0
        self._moments: list[str] = []
        self._tags: Counter[str] = Counter()
        self._missing: Counter[str] = Counter()
        self._has_tags = False

    def add(self, rows: int, texts: Mapping[str, Measured], optional: pa.Table) -> None:
        """Count good rows, in key order: their questions and answers, and what else they have."""
        for name, measured in texts.items():
            self._texts[name].add(measured)
        self._add_tokens(rows, texts)
        if "created_at" in optional.column_names:
            written = optional["created_at"].drop_null().to_pylist()
            self._moments = _ends([*self._moments, *written])
        for name in optional.column_names:
            self._missing[name] += optional[name].null_count
        if "tags" in optional.column_names:
            self._has_tags = True
            for tags in optional["tags"].drop_null().to_pylist():
                self._tags.update(tags_of(tags))

    def add_table(self, rows: pa.Table) -> None:
        """Count the good rows of a table, in key order."""
        texts = {
            name: _measured(whole(rows[column]))
            for name, column in (("question", QUESTION), ("answer", ANSWER))
        }
        known = [name for name in rows.column_names if name in OPTIONAL]
        self.add(rows.num_rows, texts, rows.select(known))

    def _add_tokens(self, rows: int, texts: Mapping[str, Measured]) -> None:
        """Count the first rows in key order: the keys are hashes, so they are a fair sample."""
        part = rows if self._sample is None else min(rows, self._sample - self._sampled)
        if part <= 0:
            return
        self._sampled += part
        for name, measured in texts.items():
            self._tokens[name].append(self._counter.count(measured.first(part)))

    def _token_figures(self) -> dict[str, Any]:
        return {
            name: _figures(np.concatenate(counts).astype(np.int32)) if counts else None
            for name, counts in self._tokens.items()
        }

    def to_json(self, counts: Counts, rules: Mapping[str, int]) -> dict[str, Any]:
        """Return the profile: rows at each stage, rows per broken rule, texts, tags, gaps."""
        top = sorted(self._tags.items(), key=lambda item: (-item[1], item[0]))[:TOP_TAGS]
        return {
            "rows": counts.to_json(),
            "rules": dict(rules),
            "texts": {name: text.to_json() for name, text in self._texts.items()},
            "tags": [{"tag": tag, "rows": n} for tag, n in top] if self._has_tags else None,
            "missing": dict(self._missing),
            "tokens": {
                "method": self._counter.method,
                "rows": self._sampled,
                **self._token_figures(),
            },
            "created_at": dict(zip(("oldest", "newest"), self._moments, strict=True))
            if self._moments
            else None,
            "texts_changed": {
                "html": self._tally.converted,
                "role_tags": self._tally.escaped["role_tags"],
                "control_characters": self._tally.escaped["control_characters"],
            },
            "personal": {
                kind: {"texts": self._tally.personal_rows[kind], "finds": finds}
                for kind, finds in sorted(self._tally.personal_finds.items())
            },
        }
