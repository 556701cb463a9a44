"""Which row goes to which side. Pure: works on row numbers in key order and on groups.

Knows no text and no file. A side's number is its place in ``columns.SIDES``.

``group`` and ``stratified`` fill the held-out sides with whole groups; ``time`` cuts the groups'
latest moments; ``random`` draws rows; ``hash`` asks each row's own hash, so that rows which are
added later move none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from llmops.data.columns import SIDES
from llmops.data.digests import Digests, row_digests
from llmops.data.groups import Groups
from llmops.data.settings import SplitSettings
from llmops.errors import DataError

Sides = npt.NDArray[np.int8]
Draws = npt.NDArray[np.uint64]
TRAIN, VALIDATION, TEST = range(len(SIDES))


@dataclass(frozen=True)
class Facts:
    """What a method asks of the rows, one value a row; empty where the method does not ask.

    ``names`` are the groups' names, ``draws`` what ``hash`` draws by, ``moments`` microseconds
    since 1970 (UTC), ``strata`` the values that ``stratified`` keeps in proportion.
    """

    names: Sequence[str] = ()
    draws: Draws | None = None
    moments: npt.NDArray[np.int64] | None = None
    strata: Sequence[str] = ()


def assign(groups: Groups, facts: Facts, split: SplitSettings) -> Sides:
    """Return the side of each row.

    Args:
        groups: The rows' groups.
        facts: What the split's method asks of the rows.
        split: A checked split.

    Raises:
        DataError: If a side that should have rows has none.
    """
    sides = _METHODS[split.method](groups, facts, split)
    _check_sides(sides, groups, split)
    return sides


def hashed_sides(draws: Draws, split: SplitSettings) -> Sides:
    """Return a side a row from its draw alone.

    A draw below ``test`` is test, below ``test + validation`` validation.
    """
    bounds = hash_bounds(split)
    sides = np.full(len(draws), TRAIN, np.int8)
    sides[draws < bounds["validation"]] = VALIDATION
    sides[draws < bounds["test"]] = TEST
    return sides


def rows_per_side(sides: Sides) -> dict[str, int]:
    """Return side -> rows; a row that is on no side is not counted."""
    counts = np.bincount(sides[sides >= 0], minlength=len(SIDES)).tolist()
    return dict(zip(SIDES, counts, strict=True))


def hash_bounds(split: SplitSettings) -> Mapping[str, int]:
    """Return below which draw, of 2**48, a row is test or at least validation."""
    return {
        "test": round(split.test * 2**48),
        "validation": round((split.test + split.validation) * 2**48),
    }


def row_draws(seed: int, values: pa.Array) -> Draws:
    """Return what ``hash`` draws for rows: 48 bits of a sha256 over the seed and the row's value.

    48 bits are what every warehouse's 64-bit integers hold without a sign.
    """
    leading = _drawn(seed, values).view(">u8")[:, 0]
    return leading.astype(np.uint64) >> np.uint64(16)


def _by_hash(groups: Groups, facts: Facts, split: SplitSettings) -> Sides:
    assert facts.draws is not None
    return hashed_sides(facts.draws, split)


def _at_random(groups: Groups, facts: Facts, split: SplitSettings) -> Sides:
    return random_sides(len(groups.first), split)


def random_sides(size: int, split: SplitSettings) -> Sides:
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


def _by_group(groups: Groups, facts: Facts, split: SplitSettings) -> Sides:
    """Fill test, then validation, with whole groups in the order of a seeded hash of their names.

    A group that does not fit into what is left of a side is passed on, at last to train, so the
    held-out sides never exceed their fractions and the largest groups are in train. New rows move
    few old ones: only those at the end of a side.
    """
    sizes, size = groups.sizes, len(groups.first)
    room = _room(sizes, split)
    side_of = np.full(size, TRAIN, np.int8)
    _fill(side_of, _in_drawn_order(sizes, facts.names, split.seed), sizes, room)
    return side_of[groups.first]


def _by_stratum(groups: Groups, facts: Facts, split: SplitSettings) -> Sides:
    """Fill the held-out sides stratum by stratum, each in proportion; a group is of its first row.

    What a stratum is too small to give, or its groups too large, the following strata make up for.
    """
    sizes = groups.sizes
    side_of = np.full(len(groups.first), TRAIN, np.int8)
    left = {TEST: 0.0, VALIDATION: 0.0}
    share = {TEST: split.test, VALIDATION: split.validation}
    for members in _strata(sizes, facts.strata):
        rows = sum(sizes[first] for first in members)
        asked = {side: left[side] + rows * share[side] for side in left}
        room = {side: math.floor(asked[side] + 1e-9) for side in left}
        ordered = _in_drawn_order(members, facts.names, split.seed)
        _fill(side_of, ordered, sizes, taken := dict(room))
        left = {side: asked[side] - (room[side] - taken[side]) for side in left}
    return side_of[groups.first]


def _strata(sizes: Mapping[int, int], strata: Sequence[str]) -> Iterator[list[int]]:
    members: dict[str, list[int]] = {}
    for first in sizes:
        members.setdefault(strata[first], []).append(first)
    # The small ones first: what they are too small to give, the large ones can.
    for _, found in sorted(members.items(), key=lambda item: (len(item[1]), item[0])):
        yield found


def _by_time(groups: Groups, facts: Facts, split: SplitSettings) -> Sides:
    """Give the oldest rows to train and the newest to test.

    A group goes by its latest row, so that train holds nothing from after the cut; rows of one
    moment stay together, on the older side.
    """
    assert facts.moments is not None
    size = len(groups.first)
    latest = np.full(size, np.iinfo(np.int64).min)
    np.maximum.at(latest, groups.first, facts.moments)
    moments = latest[groups.first]
    ordered = np.sort(moments)
    sides = np.full(size, TRAIN, np.int8)
    train = round(size * split.train)
    kept = train + round(size * split.validation)
    if split.validation:
        sides[moments > ordered[max(0, train - 1)]] = VALIDATION
    sides[moments > ordered[min(size, max(1, kept)) - 1]] = TEST
    return sides


def _in_drawn_order(groups: Iterable[int], names: Sequence[str], seed: int) -> list[int]:
    rows = list(groups)
    drawn = _drawn(seed, pa.array([names[row] for row in rows], pa.string()))
    order = sorted(range(len(rows)), key=lambda place: drawn[place].tobytes())
    return [rows[place] for place in order]


def _fill(
    side_of: Sides, ordered: Iterable[int], sizes: Mapping[int, int], room: dict[int, int]
) -> None:
    """Put groups into the first side with room for the whole of them; ``room`` shrinks."""
    for first in ordered:
        for side in room:
            if sizes[first] <= room[side]:
                room[side] -= sizes[first]
                side_of[first] = side
                break


def _room(sizes: Mapping[int, int], split: SplitSettings) -> dict[int, int]:
    """Return how many rows the held-out sides may take, in the order in which they are filled.

    Where large groups leave too few rows for both, both get less, in proportion.
    """
    size = sum(sizes.values())
    asked = {TEST: round(size * split.test), VALIDATION: round(size * split.validation)}
    small = sum(rows for rows in sizes.values() if rows <= max(asked.values()))
    share = min(1.0, small / max(1, sum(asked.values())))
    return {side: int(rows * share) for side, rows in asked.items()}


def _drawn(seed: int, values: pa.Array) -> Digests:
    import polars as pl

    table = pl.DataFrame({"value": pl.from_arrow(values)})
    return row_digests(table, [pl.lit(f"{seed}:"), pl.col("value")])


def _check_sides(sides: Sides, groups: Groups, split: SplitSettings) -> None:
    counts = np.bincount(sides, minlength=len(SIDES))
    check_sides(counts, split, groups)


def check_sides(
    counts: npt.NDArray[np.int64], split: SplitSettings, groups: Groups | None = None
) -> None:
    """Check that no side which should have rows is empty.

    Raises:
        DataError: If one is.
    """
    total = int(counts.sum())
    sizes = groups.sizes if groups else {}
    joined = f" in {len(sizes)} groups" if groups else ""
    told = f"; the largest group has {max(sizes.values(), default=0)} rows" if groups else ""
    other = "join fewer rows in split.by"
    if split.method == "time":
        told += "; rows of one moment stay on one side"
        other += ", or name a column of finer moments in dataset.columns.created_at"
    for side, fraction in split.fractions().items():
        if fraction > 0 and counts[SIDES.index(side)] == 0:
            raise DataError(
                f"split.{side} {fraction:g} of {total} rows{joined} is empty{told}",
                hint=f"raise split.{side}, get more rows, or {other}",
            )


_METHODS: Mapping[str, Callable[[Groups, Facts, SplitSettings], Sides]] = {
    "group": _by_group,
    "random": _at_random,
    "hash": _by_hash,
    "time": _by_time,
    "stratified": _by_stratum,
}
