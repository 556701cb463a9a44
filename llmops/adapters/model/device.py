"""Choose where and in which precision the local model runs. Knows nothing of models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from llmops.errors import BackendError, unknown_name
from llmops.processes import usable_cores

PRECISIONS = {"bf16": torch.bfloat16, "fp32": torch.float32}
# Instruction sets that multiply bf16 matrices natively; without one, bf16 is slower than fp32.
FAST_BF16 = ("avx512_bf16", "amx_bf16", "bf16")


@dataclass(frozen=True)
class Device:
    """``name`` is ``cpu`` or ``cuda``; ``precision`` is ``bf16`` or ``fp32``."""

    name: str
    precision: str

    @property
    def dtype(self) -> torch.dtype:
        """The precision as PyTorch's type."""
        return PRECISIONS[self.precision]


def choose_device(model: Mapping[str, Any]) -> Device:
    """Resolve ``model.device`` and ``model.precision``, and use every core this process may use.

    Raises:
        ConfigError: If a name is unknown.
        BackendError: If CUDA is asked for and there is none.
    """
    name, precision = str(model["device"]), str(model["precision"])
    if name not in ("auto", "cpu", "cuda"):
        raise unknown_name("device", name, ("auto", "cpu", "cuda"), where="model.device")
    if precision not in ("auto", *PRECISIONS):
        raise unknown_name("precision", precision, ("auto", *PRECISIONS), where="model.precision")
    if name == "cuda" and not torch.cuda.is_available():
        raise BackendError(
            "model.device is cuda, but PyTorch sees no GPU", hint="use model.device=auto"
        )
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if precision == "auto":
        precision = "bf16" if _bf16_is_fast(name) else "fp32"
    torch.set_num_threads(usable_cores())
    return Device(name, precision)


def _bf16_is_fast(name: str) -> bool:
    if name == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return any(flag in _cpu_flags() for flag in FAST_BF16)


def _cpu_flags() -> set[str]:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as stream:
            # x86 lists them as `flags`, ARM as `Features`.
            lines = [line for line in stream if line.startswith(("flags", "Features"))]
    except OSError:
        return set()  # not Linux: fp32 is always right, only slower
    return set(lines[0].partition(":")[2].split()) if lines else set()
