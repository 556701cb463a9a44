"""A run's figures as named points, and as TensorBoard's event files.

The figures are those of the evaluation, and the training curve by optimiser step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmops.errors import MissingExtra


@dataclass(frozen=True)
class Point:
    """One value of a metric; ``step`` is the optimiser step, 0 for what was measured once."""

    name: str
    value: float
    step: int


def points(record: Mapping[str, Any], curve: Sequence[Mapping[str, Any]]) -> list[Point]:
    """Return the figures of a run: its training curve, then what the evaluation measured."""
    found = [
        Point(f"tuning/{name}", float(point[name]), int(point["step"]))
        for point in curve
        for name in ("train_loss", "validation_loss")
        if point.get(name) is not None
    ]
    side = record.get("scored_on", "test")
    for who, figures in ((record.get("metrics") or {}).get("contestants") or {}).items():
        for name, figure in figures.items():
            for part in ("value", "low", "high"):
                if figure.get(part) is not None:
                    suffix = "" if part == "value" else f"_{part}"
                    found.append(Point(f"{side}/{who}/{name}{suffix}", float(figure[part]), 0))
    return found


def to_tensorboard(
    record: Mapping[str, Any], curve: Sequence[Mapping[str, Any]], folder: Path
) -> Path:
    """Write event files into ``folder/<experiment>/<run id>`` and return that folder.

    Raises:
        MissingExtra: If tensorboardX is not installed.
    """
    try:
        from tensorboardX import SummaryWriter
    except ModuleNotFoundError as exc:
        raise MissingExtra(
            "this needs the package 'tensorboardX'", hint="pip install 'llmops[export]'"
        ) from exc
    target = folder / str(record["experiment"]) / str(record["run_id"])
    with SummaryWriter(str(target)) as writer:
        for point in points(record, curve):
            writer.add_scalar(point.name, point.value, point.step)
    return target
