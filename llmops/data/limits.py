"""What a provider's tuner accepts, applied to the sides of a split: rows are left out, and counted.

Test rows are never sent to a tuner, so nothing is cut from them. Which rows stay does not depend on
their order: those that a hash of their key draws first. Knows no table of limits and no file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from llmops.data.columns import SIDES
from llmops.data.splits import TRAIN, VALIDATION, Draws, Sides
from llmops.errors import DataError

QUANTITIES = ("example_tokens", "train_rows", "validation_rows", "validation_share", "file_bytes")
"""What a limit can be on, in the order in which limits are applied.

``validation_share`` is of the train rows; ``file_bytes`` of the JSONL file of one side.
"""

WIDEST = 6  # bytes of JSON that a byte of text takes at most: \\u0001
AROUND_BYTES = 1024  # more than any format writes around an example's texts
LEFT_OUT = np.int8(-1)  # the side of a row that no side may have

Mask = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Limit:
    """A limit of the provider: ``source`` says where it was read, ``dated`` when.

    It holds for a side of more than ``above_rows`` rows.
    """

    quantity: str
    at_most: float
    source: str
    dated: str
    above_rows: int = 0


@dataclass(frozen=True)
class Limits:
    """The limits of the chosen tuner, and the format of ``dataset.formats`` that it reads."""

    of: str = ""
    format: str | None = None
    limits: tuple[Limit, ...] = ()


class Examples(Protocol):
    """What limits are on, one value a row in key order; read only where a limit may be exceeded."""

    def draws(self) -> Draws:
        """Return the order in which rows are taken where not all can be."""
        ...

    def seen_bytes(self) -> Numbers:
        """Return the bytes of UTF-8 that a model sees of each example; it has no more tokens."""
        ...

    def tokens(self, rows: Numbers) -> Numbers:
        """Return the tokens of some rows (ascending)."""
        ...

    def line_bytes(self, format: str) -> Numbers:
        """Return the bytes of each example's line in a format."""
        ...


@dataclass(frozen=True)
class Cut:
    """How many rows of a side a limit left out."""

    limit: Limit
    rows: Mapping[str, int]


@dataclass(frozen=True)
class Fitted:
    """The sides that fit, with ``LEFT_OUT`` for what does not, and what was cut for each limit."""

    sides: Sides
    cuts: tuple[Cut, ...]
    of: str

    def to_json(self) -> dict[str, Any] | None:
        """Return what the card says; null where the tuner has no limits."""
        return cuts_to_json(self.of, self.cuts)


def cuts_to_json(of: str, cuts: Sequence[Cut]) -> dict[str, Any] | None:
    """Return what the card says of the limits of ``of``; null where it has none."""
    if not cuts:
        return None
    told = [
        {
            "quantity": cut.limit.quantity,
            "at_most": cut.limit.at_most,
            "rows": dict(cut.rows),
            "source": f"{cut.limit.source} ({cut.limit.dated})",
        }
        for cut in cuts
    ]
    return {"of": of, "cut": told}


def fit(sides: Sides, limits: Limits, examples: Examples) -> Fitted:
    """Leave out of train and validation what the tuner would not accept.

    Raises:
        DataError: If nothing of train would be left, or of a validation side.
    """
    fitted, cuts = sides.copy(), []
    for limit in sorted(limits.limits, key=lambda limit: QUANTITIES.index(limit.quantity)):
        left_out = {}
        for side in (TRAIN, VALIDATION):
            over = _OVER[limit.quantity](fitted, side, limit, examples, limits.format)
            fitted[over] = LEFT_OUT
            left_out[SIDES[side]] = int(over.sum())
            _check_left(sides, fitted, side, limit, limits.of)
        cuts.append(Cut(limit, left_out))
    return Fitted(fitted, tuple(cuts), limits.of)


def _check_left(before: Sides, after: Sides, side: int, limit: Limit, of: str) -> None:
    if (before == side).any() and not (after == side).any():
        raise DataError(
            f"no row of {SIDES[side]} fits {of}: {limit.quantity} may be at most "
            f"{limit.at_most:,g} ({limit.source}, {limit.dated})",
            hint="choose another model, or let dataset.rules leave out what is too long",
        )


def _too_long(
    sides: Sides, side: int, limit: Limit, examples: Examples, format: str | None
) -> Mask:
    """Count the tokens of those examples alone whose bytes could be too many tokens."""
    over: Mask = (sides == side) & (examples.seen_bytes() > limit.at_most)
    rows = np.flatnonzero(over)
    over[rows] = examples.tokens(rows) > limit.at_most
    return over


def _too_many(most: float, side: Mask, examples: Examples) -> Mask:
    over = np.zeros(len(side), bool)
    rows = np.flatnonzero(side)
    if len(rows) > most:
        over[rows[_drawn(rows, examples)[int(most) :]]] = True
    return over


def _drawn(rows: Numbers, examples: Examples) -> Numbers:
    """Return the places of ``rows`` in the order in which they are taken."""
    order: Numbers = np.argsort(examples.draws()[rows], kind="stable")
    return order


def _rows_of(name: int) -> Callable[..., Mask]:
    def over(sides: Sides, side: int, limit: Limit, examples: Examples, format: str | None) -> Mask:
        return _too_many(limit.at_most if side == name else np.inf, sides == side, examples)

    return over


def most_validation(limit: Limit, train: int) -> float:
    """Return how many validation rows a limit on their share of the train rows leaves."""
    return max(limit.above_rows, limit.at_most * train)


def _share(sides: Sides, side: int, limit: Limit, examples: Examples, format: str | None) -> Mask:
    most = np.inf if side == TRAIN else most_validation(limit, int((sides == TRAIN).sum()))
    return _too_many(most, sides == side, examples)


def _too_large(
    sides: Sides, side: int, limit: Limit, examples: Examples, format: str | None
) -> Mask:
    over = np.zeros(len(sides), bool)
    rows = np.flatnonzero(sides == side)
    if format is None or not len(rows):
        return over
    if (examples.seen_bytes()[rows] * WIDEST + AROUND_BYTES).sum() <= limit.at_most:
        return over
    sizes = examples.line_bytes(format)[rows]
    if sizes.sum() > limit.at_most:
        order = _drawn(rows, examples)
        over[rows[order[np.cumsum(sizes[order]) > limit.at_most]]] = True
    return over


_OVER: Mapping[str, Callable[[Sides, int, Limit, Examples, str | None], Mask]] = {
    "example_tokens": _too_long,
    "train_rows": _rows_of(TRAIN),
    "validation_rows": _rows_of(VALIDATION),
    "validation_share": _share,
    "file_bytes": _too_large,
}


def limits_of(
    table: Mapping[str, Any], kind: str, base: str | None, formats: Sequence[str]
) -> Limits:
    """Pick the limits on data out of the table of limits (``conf/knowledge/limits.yaml``)."""
    found = tuple(_picked(table, kind, base))
    return Limits(base or kind, formats[0] if formats else None, found) if found else Limits()


def _picked(table: Mapping[str, Any], kind: str, base: str | None) -> Iterator[Limit]:
    for entry in table["limits"]:
        holds = entry["kind"] == kind and (not entry["bases"] or base in entry["bases"])
        if holds and entry.get("quantity") in QUANTITIES:
            known = {field.name for field in fields(Limit)} & entry.keys()
            yield Limit(**{name: entry[name] for name in known})
