"""Completion as shells ask for it: real shells, on a project of the user's own."""

from __future__ import annotations

import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from llmops.cli import VERBS, complete
from llmops.cli.completion import SCRIPTS
from llmops.config.project import packaged_conf

LINES = {
    "llmops val": ["validate"],
    "llmops run +experiment=so": [
        f"+experiment={path.stem}" for path in sorted((packaged_conf() / "experiment").glob("so*"))
    ],
    "llmops run +experiment=mi": ["+experiment=mine"],
    "llmops run +experiment=so_python split=ra": ["split=random_80_20"],
    "llmops run -m +experiment=so_python split=group,ra": ["split=group,random_80_20"],
    "llmops run +experiment=so_python tuning.max_s": ["tuning.max_steps="],
    "llmops run +experiment=so_python model.tuner.lora.ra": ["model.tuner.lora.rank="],
    "llmops run +experiment=so_python model.device=c": ["model.device=cpu", "model.device=cuda"],
    "llmops run +experiment=so_python ~ga": ["~gate"],
    "llmops plan +experiment=hello --from ": ["how_are_you", "say_hello"],
    "llmops run +experiment=mine --force ": ["own_step", "other"],
    "llmops run +experiment=hello pipeline.steps.say": ["pipeline.steps.say_hello."],
    "llmops explain tuning.ep": ["tuning.epochs"],
    "llmops runs sh": ["show"],
    "llmops accept 2026": ["20261123-101502-7b1e"],
    "llmops plan --js": ["--json"],
    "llmops completion f": ["fish"],
    "llmops nonsense ": [],
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with an experiment, a pipeline and a run, and ``llmops`` on the path."""
    monkeypatch.delenv("LLMOPS_CONF", raising=False)
    monkeypatch.delenv("LLMOPS_WORKSPACE", raising=False)
    files = {
        "conf/experiment/mine.yaml": "defaults:\n  - override /pipeline: own\n",
        "conf/pipeline/own.yaml": "steps:\n  own_step:\n    use: x\n  other:\n    use: x\n",
        "runs/mine/20261123-101502-7b1e/run.json": "{}",
        "bin/llmops": f'#!/bin/sh\nexec "{sys.executable}" -m llmops "$@"\n',
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "bin" / "llmops").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin", prepend=":")
    return tmp_path


@pytest.mark.parametrize("line", LINES)
def test_a_line_is_completed(line: str, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    complete.main([line])
    assert capsys.readouterr().out.split() == sorted(LINES[line])


def test_groups_and_keys_are_offered_together(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    complete.main(["llmops run +experiment=so_python tuning"])
    assert capsys.readouterr().out.split() == ["tuning.", "tuning="]


def answer(shell: list[str], script: str) -> list[str]:
    done = subprocess.run([*shell, script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


BASH = """eval "$(llmops completion bash)"
COMP_LINE='{line}'; COMP_POINT=${{#COMP_LINE}}
_llmops_complete llmops
printf '%s\\n' "${{COMPREPLY[@]}}"
complete -p llmops >/dev/null"""


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("llmops val", ["validate"]),
        ("llmops run +experiment=mi", ["mine"]),  # bash keeps what stands before the =
        ("llmops run +experiment=so_python tuning.max_s", ["tuning.max_steps="]),
        ("llmops plan +experiment=hello --from ", ["how_are_you", "say_hello"]),
    ],
)
def test_bash_completes(line: str, found: list[str], project: Path) -> None:
    assert answer(["bash", "--norc", "-c"], BASH.format(line=line)) == found


ZSH = """autoload -Uz compinit; compinit -D
eval "$(llmops completion zsh)"
compadd() {{ while [[ $1 == -* ]]; do [[ $1 == -S ]] && shift; [[ $1 == -- ]] && break; shift; done
    shift; print -l -- "$@" }}
words=({words} ''); CURRENT=${{#words}}; words[CURRENT]=(); PREFIX='{prefix}'
_llmops_complete"""


@pytest.mark.skipif(not shutil.which("zsh"), reason="zsh is not installed")
@pytest.mark.parametrize(
    "line", ["llmops run +experiment=mi", "llmops plan +experiment=hello --from "]
)
def test_zsh_completes(line: str, project: Path) -> None:
    *words, prefix = line.split(" ")
    script = ZSH.format(words=" ".join(words), prefix=prefix)
    assert answer(["zsh", "-f", "-c"], script) == sorted(LINES[line])


@pytest.mark.skipif(not shutil.which("fish"), reason="fish is not installed")
@pytest.mark.parametrize(
    "line", ["llmops run +experiment=mi", "llmops plan +experiment=hello --from "]
)
def test_fish_completes(line: str, project: Path) -> None:
    script = f"llmops completion fish | source; complete -C'{line}'"
    assert answer(["fish", "--no-config", "-c"], script) == sorted(LINES[line])


def test_every_shell_has_a_script(project: Path) -> None:
    assert set(SCRIPTS) == {"bash", "zsh", "fish"}
    assert answer(["bash", "-c"], "llmops completion bash | bash -n") == []


def test_a_press_of_tab_costs_less_than_a_tenth_of_a_second(project: Path) -> None:
    command = [sys.executable, "-m", "llmops", "_complete", "llmops run model.tuner.lora."]
    costs = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        costs.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(costs) < 0.1


def test_a_press_of_tab_imports_no_hydra_and_no_parser() -> None:
    code = (
        "import sys; from llmops.cli import main; main(['_complete', 'llmops run tuning.']);"
        "sys.exit(bool({'hydra', 'omegaconf', 'yaml', 'jsonschema'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("verb", VERBS)
def test_the_options_offered_are_those_of_the_help(verb: str) -> None:
    pages = [_help(verb), *(_help(verb, word) for word in complete.FOLLOWING.get(verb, ()))]
    told = {found for page in pages for found in re.findall(r"(?<![\w-])--[a-z-]+", page)}
    hydra = {"--cfg", "--info", "--hydra-help"}
    assert told - hydra - {"--help"} == set(complete.OPTIONS.get(verb, ())) - {"--multirun"} | (
        {"--multirun"} & told
    )


def _help(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "llmops", *words, "--help"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout
