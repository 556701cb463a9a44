"""What a smoke test is made of: checks that need a real project, each with what it costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

IMAGE, TUNE = "image", "tune"


@dataclass(frozen=True)
class Place:
    """Where the checks run: an ``env`` section, and a folder of this machine for their files."""

    environment: Mapping[str, Any]
    folder: Path
    image: str = ""  # of the tasks of an engine
    tune: bool = False
    poll_s: float = 15.0

    def has(self, need: str) -> bool:
        """Say whether the option that a check needs was given."""
        return not need or bool(getattr(self, need))


@dataclass(frozen=True)
class Check:
    """One sentence that holds in a real project. ``run`` raises AssertionError if it does not.

    ``run`` returns a few words on what it saw. ``costs`` is what it may put on the bill.
    """

    sentence: str
    run: Callable[[Place], str]
    costs: str = "nothing"
    needs: str = ""  # an option: IMAGE, TUNE
    only_real: bool = False  # no fake can show it: gRPC, permissions, ...


def overrides(environment: Mapping[str, Any]) -> list[str]:
    """Return an ``env`` section as overrides of a command."""
    plain = ("project", "bucket", "region")
    given = [f"env.{name}={environment[name]}" for name in plain]
    credentials = dict(environment["credentials"])
    given.append(f"env.credentials.kind={credentials.pop('kind')}")
    given += [f"+env.credentials.{name}={value}" for name, value in credentials.items()]
    endpoints = environment.get("endpoints") or {}
    given += [f"+env.endpoints.{name}={address}" for name, address in endpoints.items()]
    return ["env=prod", "env.budget=null", *given]
