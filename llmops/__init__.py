"""llmops: a declarative engine for LLM experiments. The documented interface is ``llmops.api``.

>>> import llmops
>>> run = llmops.api.run(["+experiment=so_python"])
"""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import ``llmops.api`` when it is asked for: a bare import stays cheap."""
    if name == "api":
        import importlib

        return importlib.import_module("llmops.api")
    raise AttributeError(f"module 'llmops' has no attribute '{name}'")
