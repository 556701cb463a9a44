"""Every error llmops raises on purpose, and the exit code each one ends with.

* LlmopsError
  x ConfigError     2: the YAML, an override or the command line is wrong; nothing has run
    + ConfigProblems   the same, for all the mistakes of a config at once
    + MissingExtra     an adapter's optional package is not installed
  x Refused         3: a check said no: a gate, a budget, a drift, a prompt other than the tuned one
  x DataError       4: the rows cannot be used as the config asks
  x BackendError    5: a disk, a service or a model failed; ``retryable``: asking again can help
    + DamagedObject    an object of the store is missing or not what its name says
    + Pending          a remote job is still at work; asking again goes on waiting for it
  x Unattended      5, or 130 and 143: a run goes on elsewhere and nobody follows it any more
  x StepFailed      the exit code of the step that failed
  x Interrupted     130 or 143: the user or the system asked to stop

What a message quotes is masked if it is a secret. Anything else that escapes is a bug in llmops:
it keeps its traceback and ends with exit code 1.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from llmops.secrecy import masked


class LlmopsError(Exception):
    """Base of the tree above: one line that says what is wrong, one that says what to do."""

    exit_code = 1

    def __init__(self, problem: str, *, hint: str = "") -> None:
        super().__init__(masked(problem))
        self.problem = masked(problem)
        self.hint = masked(hint)
        if hint:
            self.add_note(f"hint: {self.hint}")


class ConfigError(LlmopsError):
    """The config or the command line asks for something that cannot be."""

    exit_code = 2


class ConfigProblems(ConfigError):
    """All the mistakes of one config; ``problems`` has one printable text each."""

    def __init__(self, problems: Sequence[str], *, hint: str = "") -> None:
        many = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__("\n".join([*problems, f"{many}; nothing was run"]), hint=hint)
        self.problems = tuple(map(masked, problems))


class MissingExtra(ConfigError):
    """A chosen adapter needs a package from an optional extra."""


class Refused(LlmopsError):
    """A check that was asked for said no."""

    exit_code = 3


class DataError(LlmopsError):
    """A step refuses the rows it was given."""

    exit_code = 4


class BackendError(LlmopsError):
    """A disk, a service or a model failed or refused."""

    exit_code = 5

    def __init__(self, problem: str, *, hint: str = "", retryable: bool = False) -> None:
        super().__init__(problem, hint=hint)
        self.retryable = retryable


class DamagedObject(BackendError):
    """An object of the store is missing or damaged; the step that made it can make it again."""


class Pending(BackendError):
    """A step ended early because the remote job it waits for is still at work.

    Nothing is lost: the job is recorded under the step's key, and the same step asked again goes
    on waiting for it. ``job`` is the provider's name of it.
    """

    def __init__(self, problem: str, *, job: str, hint: str = "") -> None:
        super().__init__(problem, hint=hint, retryable=True)
        self.job = job


class Unattended(LlmopsError):
    """A run goes on elsewhere, and this process follows it no more; nothing is lost."""

    def __init__(self, problem: str, *, run_id: str, exit_code: int = 5) -> None:
        super().__init__(problem, hint=f"python -m llmops runs attach {run_id}")
        self.exit_code = exit_code


class StepFailed(LlmopsError):
    """A step of a pipeline failed; carries the exit code that its cause would have had."""

    def __init__(self, problem: str, *, step: str, hint: str = "", exit_code: int = 1) -> None:
        super().__init__(problem, hint=hint)
        self.step = step
        self.exit_code = exit_code


class Interrupted(LlmopsError):
    """The run was asked to stop by a signal."""

    def __init__(self, signal_number: int) -> None:
        super().__init__("interrupted", hint="the same command goes on from the last finished step")
        self.exit_code = 128 + signal_number


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``did you mean 'x'?`` for the closest of ``known``, or an empty text."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"did you mean '{close[0]}'?" if close else ""


def unknown_name(what: str, name: str, known: Iterable[str], *, where: str) -> ConfigError:
    """Build the error for a misspelt name: where it stands, the nearest match, all valid names."""
    names = sorted(known)
    guess = nearest(name, names)
    valid = f"valid: {', '.join(names)}"
    return ConfigError(
        f"{where}: there is no {what} '{name}'", hint=f"{guess} {valid}" if guess else valid
    )
