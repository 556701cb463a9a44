"""A tuning run's state on disk: safetensors and JSON, published by rename, newest kept.

Knows tensors by name and a small JSON state; nothing of models or data. No pickle.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from llmops.adapters.model.sources import file_sha256

TENSORS = "state.safetensors"
STATE = "state.json"


@dataclass(frozen=True)
class Checkpoint:
    """What a run needs to go on: the step reached, its tensors, and plain JSON beside them."""

    step: int
    tensors: Mapping[str, Tensor]
    state: Mapping[str, Any]


def write(scratch: Path, checkpoint: Checkpoint, *, belongs_to: str) -> None:
    """Publish a checkpoint and delete older ones; a crash leaves the older or the newer, whole."""
    from safetensors.torch import save_file

    partial = scratch / "checkpoint.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    save_file(dict(checkpoint.tensors), partial / TENSORS)
    state = {
        "belongs_to": belongs_to,
        "step": checkpoint.step,
        "sha256": file_sha256(partial / TENSORS),
        "state": checkpoint.state,
    }
    (partial / STATE).write_text(json.dumps(state), "utf-8")
    for name in (TENSORS, STATE):
        with (partial / name).open("rb") as stream:
            os.fsync(stream.fileno())
    final = _folder(scratch, checkpoint.step)
    shutil.rmtree(final, ignore_errors=True)
    os.replace(partial, final)
    for older in _all(scratch):
        if older != final:
            shutil.rmtree(older, ignore_errors=True)


def read(scratch: Path, *, belongs_to: str) -> Checkpoint | None:
    """Return the newest whole checkpoint of the run ``belongs_to`` names, or None."""
    for folder in reversed(_all(scratch)):
        found = _read(folder, belongs_to)
        if found:
            return found
    return None


def clear(scratch: Path) -> None:
    """Delete every checkpoint: the run is done."""
    for folder in _all(scratch):
        shutil.rmtree(folder, ignore_errors=True)


def _read(folder: Path, belongs_to: str) -> Checkpoint | None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state = json.loads((folder / STATE).read_text("utf-8"))
        if state["belongs_to"] != belongs_to:
            return None
        if file_sha256(folder / TENSORS) != state["sha256"]:
            return None  # damaged: starting over is right, only slower
        return Checkpoint(int(state["step"]), load_file(folder / TENSORS), state["state"])
    except (FileNotFoundError, ValueError, KeyError, SafetensorError):
        return None


def _folder(scratch: Path, step: int) -> Path:
    return scratch / f"checkpoint-{step:08d}"


def _all(scratch: Path) -> list[Path]:
    return sorted(scratch.glob("checkpoint-*"))
