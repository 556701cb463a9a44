"""The Python in an answer: which it is, whether it parses, and what comes of running it.

Nothing is run but in ``llmops.sandbox``.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from llmops import sandbox
from llmops.processes import usable_cores
from llmops.prompts import fences

PYTHON = ("", "python", "py", "python3")
NO_CODE = "no code"


@dataclass(frozen=True)
class Answer:
    """An answer, and the Python that its code must not fail after it, if its row has any."""

    text: str
    checks: str | None


def blocks(text: str) -> list[str]:
    """Return the fenced blocks of a text that are Python or do not say what they are.

    ``>>>`` prompts are taken off, and with them what a session printed.
    """
    return [_typed(code) for language, code in fences.blocks(text) if language in PYTHON]


def parses(code: str) -> bool:
    """Say whether a text is Python that parses; nothing is run."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an invalid escape is the answer's business
            ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def outcomes(answers: Sequence[Answer], limits: sandbox.Limits) -> Iterator[str]:
    """Run each answer's code and then its checks, and yield what came of it, in order.

    ``sandbox.PASSED``, ``NO_CODE``, or see ``sandbox.run``.
    """
    with ThreadPoolExecutor(usable_cores()) as pool:
        yield from pool.map(lambda answer: _outcome(answer, limits), answers)


def _outcome(answer: Answer, limits: sandbox.Limits) -> str:
    """Run the answer's blocks as one program.

    An answer without a fence is code as a whole where checks can tell; else any word that happens
    to be Python would pass.
    """
    code = "\n".join(blocks(answer.text))
    if not code.strip() and answer.checks is not None:
        code = answer.text
    if not code.strip():
        return NO_CODE
    return sandbox.run((code, answer.checks or ""), limits)


def _typed(code: str) -> str:
    lines = code.splitlines()
    if not any(line.startswith(">>>") for line in lines):
        return code
    return "\n".join(line[4:] for line in lines if line.startswith((">>>", "...")))
