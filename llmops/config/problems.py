"""One mistake in a config, told so that it can be mended at once. Knows no Hydra and no schema."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from llmops.errors import ConfigProblems

KeyPath = tuple[str, ...]


@dataclass(frozen=True)
class Problem:
    """A mistake: where it stands (``file:line:column`` or the override), what was expected."""

    where: str
    key: str
    expected: str
    got: str
    hint: str = ""

    def __str__(self) -> str:
        lines = [f"{self.where}: {self.key}" if self.key else self.where]
        lines.append(f"    expected {self.expected}")
        lines.append(f"    got      {self.got}")
        if self.hint:
            lines.append(f"    hint     {self.hint}")
        return "\n".join(lines)


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
