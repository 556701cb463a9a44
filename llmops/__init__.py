"""llmops: a declarative engine for LLM experiments. The documented interface is ``llmops.api``."""

__version__ = "0.1.0"
