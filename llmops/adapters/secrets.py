"""Turns ``${secret:NAME}`` into the secret, at the moment an adapter uses it.

Config, store, logs and records hold the reference only. An adapter hands the value on to the
service it is for and keeps it nowhere.
"""

from __future__ import annotations

import os
import re

from llmops.errors import ConfigError

_REFERENCE = re.compile(r"\$\{secret:\s*(?P<name>[A-Za-z_]\w*)\s*\}")


def reveal(text: str) -> str:
    """Return a text with each ``${secret:NAME}`` in it replaced by the environment's ``NAME``.

    Raises:
        ConfigError: If the environment has no such variable, or an empty one.
    """
    return _REFERENCE.sub(lambda found: _value(found["name"]), text)


def _value(name: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise ConfigError(
            f"the secret {name} is not set", hint=f"set the environment variable {name}"
        )
    return value
