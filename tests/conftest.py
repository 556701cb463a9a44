"""What holds for every test: none fails for the time that it takes."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("llmops", deadline=None)
settings.load_profile("llmops")
