"""What a smoke test is made of: checks that need a real project, each with what it costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Place:
    """Where the checks run: an ``env`` section, and a folder of this machine for their files."""

    environment: Mapping[str, Any]
    folder: Path


@dataclass(frozen=True)
class Check:
    """One sentence that holds in a real project. ``run`` raises AssertionError if it does not.

    ``run`` returns a few words on what it saw. ``costs`` is what it may put on the bill.
    """

    sentence: str
    run: Callable[[Place], str]
    costs: str = "nothing"
    only_real: bool = False  # no fake can show it: gRPC, permissions, ...
