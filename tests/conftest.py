"""What holds for every test: none fails for the time that it takes."""

from __future__ import annotations

import locale

import pytest
from hypothesis import settings

settings.register_profile("llmops", deadline=None)
settings.load_profile("llmops")


@pytest.fixture
def ascii_locale():
    """A machine whose own encoding has no letter but ASCII's."""
    before = locale.setlocale(locale.LC_CTYPE)
    locale.setlocale(locale.LC_CTYPE, "C")
    yield
    locale.setlocale(locale.LC_CTYPE, before)
