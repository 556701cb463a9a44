"""What Gemini's tuner accepts, from the dated table ``conf/knowledge/limits.yaml``.

The plan warns by the same table; here nothing over a limit is sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmops.errors import ConfigError, DataError

KIND = "gemini"


@dataclass(frozen=True)
class Limits:
    """The entries of the table that hold for one base model."""

    entries: Sequence[Mapping[str, Any]]

    def at_most(self, quantity: str) -> float | None:
        """Return the greatest value that the provider accepts; None if none is known."""
        found = self._entry(quantity)
        return None if found is None else float(found["at_most"])

    def check(self, quantity: str, value: float, what: str, hint: str) -> None:
        """Refuse data that is over a limit.

        Raises:
            DataError: If it is, with the limit's date and source.
        """
        found = self._entry(quantity)
        if found is not None and value > found["at_most"]:
            raise DataError(
                f"{what}, the provider accepts {found['at_most']:,} "
                f"({found['source']}, {found['dated']})",
                hint=hint,
            )

    def check_settings(self, model: Mapping[str, Any]) -> None:
        """Refuse settings that the provider does not accept.

        Raises:
            ConfigError: For the first key that is out of bounds.
        """
        for entry in self.entries:
            key = entry.get("leaf")
            value = _value({"model": model}, key) if key else None
            if value is None:
                continue
            accepted = entry.get("one_of")
            if accepted is not None and value not in accepted:
                listed = ", ".join(map(str, accepted))
                raise ConfigError(f"{key} is {value}", hint=f"accepted: {listed}")
            if "at_most" in entry and value > entry["at_most"]:
                raise ConfigError(f"{key} is {value}", hint=f"at most {entry['at_most']:,}")

    def _entry(self, quantity: str) -> Mapping[str, Any] | None:
        return next((one for one in self.entries if one.get("quantity") == quantity), None)


def limits_of(base: str) -> Limits:
    """Return the limits of one base model."""
    from llmops.config.reference_tables import read_tables

    return Limits(
        [
            entry
            for entry in read_tables().limits["limits"]
            if entry["kind"] == KIND and (not entry["bases"] or base in entry["bases"])
        ]
    )


def _value(config: Mapping[str, Any], key: str) -> Any:
    found: Any = config
    for part in key.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found
