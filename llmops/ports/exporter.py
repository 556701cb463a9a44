"""Models written out for other programs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from llmops.ports.model import ModelReference


@dataclass(frozen=True)
class Exported:
    """A model written out for other programs; ``files`` are relative to the folder."""

    folder: Path
    files: tuple[str, ...]
    bytes: int


class Exporter(Protocol):
    """Writes a model's weights so that programs other than llmops load them."""

    def export(self, model: ModelReference, adapter: Path | None, target: Path) -> Exported:
        """Write the tuned model, the adapter merged into its base, into the new folder ``target``.

        Raises:
            ConfigError: If ``target`` exists and is not empty.
            BackendError: If the base is not here, or the disk refuses; ``target`` is not left
                half-written.
        """
        ...
