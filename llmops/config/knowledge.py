"""What the config floor must know of the floors above it, as plain tables.

Tests on the floors above compare these with the real things.
"""

from __future__ import annotations

from collections.abc import Mapping

# The categories that each kind of scorer reports; a threshold for any other would never be judged.
SCORER_CATEGORIES: Mapping[str, tuple[str, ...]] = {"profanity": ("profanity",)}
