"""The command line: one module a verb, found by a literal table.

Imports nothing heavy: ``--help`` knows no Hydra. A verb's module exposes ``main(argv) -> int`` and
is imported only when it is asked for.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module

from llmops import __version__
from llmops.errors import ConfigProblems, LlmopsError, unknown_name
from llmops.secrecy import masked

COMPLETE = "_complete"  # asked by shells, not by people
INTERRUPTED = 130
BROKEN_PIPE = 141  # what a shell gives a program that a closed pipe ended
BUG = 1


@dataclass(frozen=True)
class Verb:
    """A verb: the module that does it, and what the help says of it."""

    module: str
    summary: str


GROUPS: dict[str, dict[str, Verb]] = {
    "An experiment": {
        "run": Verb("llmops.cli.run", "run an experiment, or a sweep with -m"),
        "plan": Verb("llmops.cli.plan", "show what a run would do, and why"),
        "validate": Verb("llmops.cli.validate", "check a config: every mistake at once"),
        "diff": Verb("llmops.cli.diff", "say what a change of the config means"),
        "explain": Verb("llmops.cli.explain", "say who set a key, and what it hides"),
        "compile": Verb("llmops.cli.compile", "write the Kubeflow pipeline"),
    },
    "What has run": {
        "runs": Verb("llmops.cli.runs", "list, show and compare runs"),
        "sweeps": Verb("llmops.cli.sweeps", "list and show sweeps, resume one"),
        "gate": Verb("llmops.cli.gate", "judge a finished run by another gate"),
        "lineage": Verb("llmops.cli.lineage", "walk from a thing to what led to it"),
        "site": Verb("llmops.cli.site", "write the workspace as a static site"),
        "reproduce": Verb("llmops.cli.reproduce", "run a run again, and say what drifted"),
        "accept": Verb("llmops.cli.accept", "make a run the one to compare with"),
    },
    "Things": {
        "warehouse": Verb("llmops.cli.warehouse", "look at tables, query them, load rows"),
        "datasets": Verb("llmops.cli.datasets", "list, show and compare dataset versions"),
        "prompts": Verb("llmops.cli.prompts", "list, show, render, compare and try prompts"),
        "store": Verb("llmops.cli.store", "check that what is stored is whole, and mend it"),
        "models": Verb("llmops.cli.models", "list and show models, fetch base models"),
    },
    "The model at work": {
        "predict": Verb("llmops.cli.predict", "ask a model, or answer a file's rows"),
        "chat": Verb("llmops.cli.chat", "talk with a model"),
        "serve": Verb("llmops.cli.serve", "answer over HTTP, as OpenAI does too"),
        "logs": Verb("llmops.cli.logs", "query what was asked and answered"),
        "monitor": Verb("llmops.cli.monitor", "hold new traffic against training or earlier days"),
        "safety": Verb("llmops.cli.safety", "test what is caught and what is false alarm"),
    },
    "A project": {
        "init": Verb("llmops.cli.init", "start a project: config, own step, workflow"),
        "doctor": Verb("llmops.cli.doctor", "say what works on this machine, and what to do"),
        "review": Verb("llmops.cli.review", "comment a pull request that changes conf/"),
        "schema": Verb("llmops.cli.schema", "write the JSON Schemas for editors"),
        "completion": Verb("llmops.cli.completion", "print the completion script of a shell"),
    },
}
VERBS: dict[str, Verb] = {name: verb for group in GROUPS.values() for name, verb in group.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Do one command and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        with _broken_pipe_is_no_bug():
            code = _dispatch(arguments)
            sys.stdout.flush()
    except LlmopsError as exc:
        _tell(exc)
        return exc.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except _PipeClosed:
        return BROKEN_PIPE
    except SystemExit as exc:  # argparse's way to end
        return exc.code if isinstance(exc.code, int) else int(exc.code is not None)
    except Exception as exc:  # noqa: BLE001 - the last line of defence, so that a bug is called one
        from llmops.files import refusal

        refused = refusal(exc)
        if refused is None:
            _tell_of_bug()
            return BUG
        _tell(refused)
        return refused.exit_code
    return code


def help_text() -> str:
    """Return the help: the verbs by group, and the commands to begin with."""
    lines = ["usage: llmops VERB [arguments]", ""]
    for title, verbs in GROUPS.items():
        lines += [f"{title}:", *(f"  {name:<11}{verb.summary}" for name, verb in verbs.items()), ""]
    lines += [
        "  llmops run +experiment=so_python",
        "  llmops run -m +experiment=so_python split=group,random_80_20",
        "  llmops VERB --help",
    ]
    return "\n".join(lines)


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(help_text())
        return 0
    if arguments[0] == "--version":
        print(f"llmops {__version__}")
        return 0
    name, *rest = arguments
    if name == COMPLETE:
        return int(import_module("llmops.cli.complete").main(rest))
    if name not in VERBS:
        raise unknown_name("verb", name, VERBS, where="llmops")
    return int(import_module(VERBS[name].module).main(rest))


def _tell(exc: LlmopsError) -> None:
    if isinstance(exc, ConfigProblems):
        print("\n".join(exc.problems), file=sys.stderr)
    print(
        f"error: {exc.problem.splitlines()[-1]}"
        if isinstance(exc, ConfigProblems)
        else f"error: {exc.problem}",
        file=sys.stderr,
    )
    if exc.hint:
        print(f"hint: {exc.hint}", file=sys.stderr)


def _tell_of_bug() -> None:
    import traceback

    print(masked(traceback.format_exc()), end="", file=sys.stderr)
    print(
        f"error: this is a bug in llmops {__version__}; please report the lines above",
        file=sys.stderr,
    )


class _PipeClosed(Exception):
    """Whoever read our output has gone."""


@contextmanager
def _broken_pipe_is_no_bug() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError as exc:
        # Python flushes at exit once more; into nothing, so that it does not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise _PipeClosed from exc
