"""One mistake in a config, told so that it can be mended at once. Knows no Hydra and no schema."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from llmops.errors import ConfigProblems

KeyPath = tuple[str, ...]
SHOWN = 300  # characters of a text that a user wrote


@dataclass(frozen=True)
class Problem:
    """A mistake: where it stands (``file:line:column`` or the override), what was expected."""

    where: str
    key: str
    expected: str
    got: str
    hint: str = ""

    def __str__(self) -> str:
        where, key = cut(self.where), cut(self.key)
        lines = [f"{where}: {key}" if key else where]
        lines.append(f"    expected {self.expected}")
        lines.append(f"    got      {cut(self.got)}")
        if self.hint:
            lines.append(f"    hint     {self.hint}")
        return "\n".join(lines)


def cut(text: str) -> str:
    """Return a text that a user wrote as messages show it: not at any length."""
    return text if len(text) <= SHOWN else f"{text[: SHOWN // 2]} ... {text[-20:]}"


def dotted(path: KeyPath) -> str:
    """Return ``a.b.0`` for a key path."""
    return ".".join(path)


def command_line(override: str) -> str:
    """Return how messages name an override as a place."""
    return f"command line '{override}'"


def raise_all(problems: Iterable[Problem]) -> None:
    """Raise all problems as one error, each once, in the order they were found; or do nothing.

    Raises:
        ConfigProblems: If there is one.
    """
    texts = list(dict.fromkeys(str(problem) for problem in problems))
    if texts:
        raise ConfigProblems(texts)
