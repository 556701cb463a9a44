"""How long work tells how far it is."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Told by long work how far it is; silent work need not call it."""

    def __call__(self, done: float, total: float | None, note: str = "") -> None:
        """Report ``done`` of ``total`` units (rows, steps, bytes); ``total`` is null if unknown."""
        ...


class TuningProgress(Progress, Protocol):
    """Told by a tuner how far it is and, where it measures that as it goes, the loss."""

    def __call__(
        self, done: float, total: float | None, note: str = "", *, loss: float | None = None
    ) -> None:
        """Report as ``Progress``; ``loss`` is the training loss of optimiser step ``done``."""
        ...
