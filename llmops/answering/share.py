"""Who answers where several models share the questions: by weight, and the same for the same key.

Nothing is left to chance: a hash of the key decides, so that a session stays with its model and a
repeated command asks the same ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

_WHOLE = 1 << 64


def drawn(weights: Sequence[float], key: str) -> int:
    """Return the place of whose turn ``key`` is; a weight of 0 is never drawn.

    ``weights`` need not add up to 1, but one must be above 0.
    """
    place = int.from_bytes(blake2b(key.encode(), digest_size=8).digest()) / _WHOLE * sum(weights)
    for number, weight in enumerate(weights):
        place -= weight
        if place < 0:
            return number
    return max(number for number, weight in enumerate(weights) if weight)
