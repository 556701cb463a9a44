"""How many test rows also stand in train, exactly or nearly.

Knows no method of splitting: it measures whatever sides it is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from llmops.data.near_duplicates import TextIndex
from llmops.data.splits import TEST, TRAIN, Sides


@dataclass(frozen=True)
class Leakage:
    """Test rows whose question or answer also stands in train.

    ``exact`` counts equal texts after normalisation; ``near`` counts near-duplicates as well, so
    it is never smaller; null where nobody looked for them.
    """

    exact: int
    near: int | None
    test_rows: int
    threshold: float | None

    def to_json(self) -> dict[str, Any]:
        """Return rows and share of test rows for both kinds."""
        return {
            "exact": {"rows": self.exact, "share": self._share(self.exact)},
            "near": {
                "rows": self.near,
                "share": self._share(self.near),
                "threshold": self.threshold,
            },
        }

    def _share(self, rows: int | None) -> float | None:
        if rows is None:
            return None
        return rows / self.test_rows if self.test_rows else 0.0


def measure(sides: Sides, texts: Mapping[str, TextIndex], threshold: float | None) -> Leakage:
    """Measure the leakage from train to test; without a threshold of equal texts only."""
    test = sides == TEST
    exact = np.zeros(len(sides), bool)
    near = np.zeros(len(sides), bool)
    for index in texts.values():
        in_train = _in_train(sides, index)
        exact |= test & in_train[index.text]
        near |= test & (in_train | _beside(in_train, index))[index.text]
    nearly = None if threshold is None else int(near.sum())
    return Leakage(int(exact.sum()), nearly, int(test.sum()), threshold)


def _in_train(sides: Sides, index: TextIndex) -> npt.NDArray[np.bool_]:
    """Say of each distinct text whether a train row holds it."""
    marked = np.zeros(index.texts, bool)
    marked[index.text[sides == TRAIN]] = True
    return marked


def _beside(marked: npt.NDArray[np.bool_], index: TextIndex) -> npt.NDArray[np.bool_]:
    """Say of each distinct text whether a near-duplicate of it is marked."""
    left, right = index.pairs[:, 0], index.pairs[:, 1]
    beside = np.zeros(index.texts, bool)
    beside[left[marked[right]]] = True
    beside[right[marked[left]]] = True
    return beside
