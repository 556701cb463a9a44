"""Which row goes to which side. Pure: works on row numbers in key order and on groups.

Knows no text and no file. A side's number is its place in ``columns.SIDES``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from hashlib import sha256

import numpy as np
import numpy.typing as npt

from llmops.data.columns import SIDES
from llmops.data.groups import Groups
from llmops.data.settings import SplitSettings
from llmops.errors import DataError

Sides = npt.NDArray[np.int8]
TRAIN, VALIDATION, TEST = range(len(SIDES))


def assign(groups: Groups, names: Sequence[str], split: SplitSettings) -> Sides:
    """Return the side of each row.

    Args:
        groups: The rows' groups.
        names: The rows' group names, one a row.
        split: A checked split.

    Raises:
        DataError: If a side that should have rows has none.
    """
    if split.method == "group":
        sides = _by_group(groups, names, split)
    else:
        sides = _at_random(len(groups.first), split)
    _check_sides(sides, groups, split)
    return sides


def _at_random(size: int, split: SplitSettings) -> Sides:
    """Draw rows as scikit-learn's ``train_test_split(test_size=..., random_state=seed)`` does.

    Its permutation needs the number of rows alone: ``RandomState(seed).permutation(n)``, of which
    the first ``ceil(n * test_size)`` are test. Validation takes the next ones.
    """
    order = np.random.RandomState(split.seed).permutation(size)
    test = math.ceil(size * split.test)
    validation = round(size * split.validation)
    sides = np.full(size, TRAIN, np.int8)
    sides[order[:test]] = TEST
    sides[order[test : test + validation]] = VALIDATION
    return sides


def _by_group(groups: Groups, names: Sequence[str], split: SplitSettings) -> Sides:
    """Fill test, then validation, with whole groups in the order of a seeded hash of their names.

    A group that does not fit into what is left of a side is passed on, at last to train, so the
    held-out sides never exceed their fractions and the largest groups are in train. New rows move
    few old ones: only those at the end of a side.
    """
    sizes, size = groups.sizes, len(groups.first)
    room = _room(sizes, split)
    side_of = np.full(size, TRAIN, np.int8)
    for first in sorted(sizes, key=lambda row: _draw(split.seed, names[row])):
        for side in room:
            if sizes[first] <= room[side]:
                room[side] -= sizes[first]
                side_of[first] = side
                break
    return side_of[groups.first]


def _room(sizes: Mapping[int, int], split: SplitSettings) -> dict[int, int]:
    """Return how many rows the held-out sides may take, in the order in which they are filled.

    Where large groups leave too few rows for both, both get less, in proportion.
    """
    size = sum(sizes.values())
    asked = {TEST: round(size * split.test), VALIDATION: round(size * split.validation)}
    small = sum(rows for rows in sizes.values() if rows <= max(asked.values()))
    share = min(1.0, small / max(1, sum(asked.values())))
    return {side: int(rows * share) for side, rows in asked.items()}


def _draw(seed: int, name: str) -> bytes:
    return sha256(f"{seed}:{name}".encode()).digest()


def _check_sides(sides: Sides, groups: Groups, split: SplitSettings) -> None:
    counts = np.bincount(sides, minlength=len(SIDES))
    largest = max(groups.sizes.values(), default=0)
    for side, fraction in split.fractions().items():
        if fraction > 0 and counts[SIDES.index(side)] == 0:
            raise DataError(
                f"split.{side} {fraction:g} of {len(sides)} rows in {len(groups.sizes)} groups is "
                f"empty; the largest group has {largest} rows",
                hint=f"raise split.{side}, get more rows, or join fewer rows in split.by",
            )
