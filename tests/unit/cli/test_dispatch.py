from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from llmops import __version__, cli
from llmops.errors import BackendError, ConfigProblems, DataError, Interrupted, Refused


@pytest.fixture(autouse=True)
def _empty_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLMOPS_CONF", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch):
    """Make ``llmops probe`` raise or return what a test says."""

    def make(outcome: BaseException | int) -> None:
        def main(argv: list[str]) -> int:
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome

        monkeypatch.setitem(sys.modules, "probe_verb", SimpleNamespace(main=main))
        monkeypatch.setitem(cli.VERBS, "probe", cli.Verb("probe_verb", ""))

    return make


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], [], ["--version"]])
def test_help_and_version_import_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys; from llmops.cli import main; main(sys.argv[1:]);"
        "heavy = {'hydra', 'yaml', 'omegaconf', 'jsonschema', 'kfp', 'rich', 'pandas'};"
        "sys.exit(repr(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_help_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown for name in cli.VERBS)


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"llmops {__version__}\n"


def test_a_misspelt_verb_gets_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["valdate"]) == 2
    assert "did you mean 'validate'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (0, 0),
        (3, 3),
        (ConfigProblems(["x"]), 2),
        (Refused("no"), 3),
        (DataError("bad rows"), 4),
        (BackendError("disk full"), 5),
        (Interrupted(15), 143),
        (KeyboardInterrupt(), 130),
        (SystemExit(2), 2),
        (SystemExit(None), 0),
        (ValueError("ours"), 1),
    ],
    ids=repr,
)
def test_an_outcome_has_its_exit_code(verb, outcome: BaseException | int, code: int) -> None:
    verb(outcome)
    assert cli.main(["probe"]) == code


def test_an_error_is_one_line_and_a_hint(verb, capsys: pytest.CaptureFixture[str]) -> None:
    verb(Refused("the gate said no", hint="llmops runs show"))
    cli.main(["probe"])
    assert capsys.readouterr().err == "error: the gate said no\nhint: llmops runs show\n"


def test_a_bug_is_called_one_and_keeps_its_traceback(
    verb, capsys: pytest.CaptureFixture[str]
) -> None:
    verb(ZeroDivisionError("ours"))
    cli.main(["probe"])
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert "this is a bug in llmops" in shown


def test_a_reader_that_goes_away_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "llmops", "--help"],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (cli.BROKEN_PIPE, "")


def test_validate_says_what_is_valid(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["validate", "--json", "-m", "+experiment=hello", "seed=1,2"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [member["name"] for member in told["experiments"]] == ["hello", "hello"]
    assert len({member["digest"] for member in told["experiments"]}) == 2


def test_validate_tells_problems_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["validate", "+experiment=hello", "seed=x", "--json"]) == 2
    told = json.loads(capsys.readouterr().out)
    assert not told["valid"]
    assert "seed" in told["problems"][0]


def test_explain_says_who_set_a_key_and_what_that_hides(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["explain", "tuning.max_steps", "+experiment=so_python"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("tuning.max_steps = 40\n    set by   llmops:conf/experiment/so_python")
    assert "    hides    llmops:conf/tuning/short.yaml:" in shown
    assert "optimiser steps" in shown


def test_explain_shows_a_whole_group_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["explain", "split", "+experiment=so_python", "--json"]) == 0
    keys = [entry["key"] for entry in json.loads(capsys.readouterr().out)]
    assert "split.seed" in keys
    assert all(key.startswith("split.") for key in keys)


def test_explain_gives_the_nearest_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["explain", "tuning.max_step", "+experiment=so_python"]) == 2
    assert "did you mean 'tuning.max_steps'?" in capsys.readouterr().err
