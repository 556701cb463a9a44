"""A user's project in a temporary folder: its own step kinds, pipelines and experiments.

The step kinds are an installed package as far as Python can tell: a module and a dist-info folder
with an entry point, on ``PYTHONPATH``.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

STEPS = '''
"""Steps that count, wait, fail and die, for tests of engines."""
import json, os, signal, time
from dataclasses import dataclass
from pathlib import Path
from llmops.errors import DataError
from llmops.plan.kinds import Outcome, Port, StepKind, leaf

@dataclass(frozen=True)
class Settings:
    text: str = leaf("with.text")

@dataclass(frozen=True)
class AnswerSettings:
    text: float = leaf("with.text")
    seed: int = leaf("seed")

def note(work, what):
    with open("did.txt", "a") as file:
        file.write(f"{work.step} {what} {os.getpid()}\\n")

def write(work, text):
    work.outputs["out"].write_text(json.dumps({"text": text}))
    return Outcome(facts={"length": len(text)})

def say(work):
    note(work, "said")
    return write(work, work.settings.text)

def pass_on(work):
    note(work, "passed")
    text = json.loads(work.inputs["in"].read_text())["text"]
    return write(work, text + work.settings.text)

def slow(work):
    note(work, "began")
    for number in range(200):
        work.outputs["out"].write_text("half a fi")
        work.progress(number, 200, "waiting")
        time.sleep(0.1)
    return write(work, "done")

def refuse(work):
    raise DataError("no row is good", hint="look at the rows")

def crash(work):
    raise ZeroDivisionError("a bug")

def die(work):
    note(work, "died")
    os.kill(os.getpid(), signal.SIGKILL)

def fill_disk(work):
    with work.outputs["out"].open("wb") as file:
        while True:
            file.write(b"x" * 65536)
    return Outcome()

def halves(work):
    import pyarrow as pa, pyarrow.parquet as pq
    for side, count in (("train", 40), ("validation", 30), ("test", 20)):
        rows = [{"row_key": f"{side}{i:03}", "group": f"g{i}"} for i in range(count)]
        pq.write_table(pa.Table.from_pylist(rows), work.outputs[side])
    return Outcome(rows={"train": 40, "validation": 30, "test": 20})

def answer(work):
    """Answer with the loss that `with.text` gives, and a little luck by the config's seed."""
    import random
    import pyarrow as pa, pyarrow.parquet as pq
    asked = pq.read_table(work.inputs["test"]).to_pylist()
    note(work, "answered-" + asked[0]["row_key"][:-3])
    quality, seed = work.settings.text, work.settings.seed
    luck = random.Random(f"{seed} {quality}").gauss(0, 0.01)
    rows = []
    for name, loss in (("untuned", 3.0), ("tuned", float(quality) + luck)):
        for row in asked:
            wobble = random.Random(row["row_key"]).random()
            own = random.Random(f"{name} {row['row_key']} {quality} {seed}").random() * 0.1
            rows.append({**row, "contestant": name, "text": "a", "reference": "a",
                         "nll": loss + wobble + own, "nll_tokens": 1})
    pq.write_table(pa.Table.from_pylist(rows), work.outputs["responses"])
    return Outcome(rows={"responses": len(rows)})

SIDES = tuple(Port(side, "parquet") for side in ("train", "validation", "test"))
OUT = (Port("out", "json"),)
IN = (Port("in", "json", optional=True),)
KINDS = tuple(
    StepKind(run.__name__, 1, run, Settings, takes=IN, gives=OUT)
    for run in (say, pass_on, slow, refuse, crash, die, fill_disk)
) + (
    StepKind("halves", 1, halves, Settings, gives=SIDES),
    StepKind("answer", 1, answer, AnswerSettings, takes=(Port("test", "parquet"),),
             gives=(Port("responses", "parquet"),)),
)
'''

EXPERIMENT = """\
# @package _global_
# An experiment for tests.
#   python -m llmops run +experiment={name}
defaults:
  - override /pipeline: {name}
  - override /warehouse: null
  - override /dataset: null
  - override /prompt: null
  - override /split: null
  - override /model: null
  - override /tuning: null
  - override /predict: null
  - override /evaluation: null
  - override /safety: null
  - override /gate: null
  - override /deploy: null

name: {name}
version: v1
project:
  steps: [toy]
"""


MEASURED_STEPS = """\
  halves: {use: halves, with: {text: x}}
  answer: {use: answer, with: {text: 2.5}, takes: {test: halves.test}}
  evaluate: {use: evaluate, takes: {responses: answer.responses}}
  gate: {use: gate, takes: {metrics: evaluate.metrics}}
"""
MEASURED = """
predict: {contestants: [untuned, tuned]}
evaluation: {metrics: [loss], bootstrap_samples: 200}
gate: {max_leakage: null, safety: false}
"""


class ToyProject:
    """A project at ``root``; commands run in it as a user would run them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.site = root / "site"
        (root / "conf" / "experiment").mkdir(parents=True)
        (root / "conf" / "pipeline").mkdir()
        info = self.site / "toy-1.0.dist-info"
        info.mkdir(parents=True)
        (self.site / "toy_steps.py").write_text(STEPS)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[llmops.steps]\ntoy = toy_steps\n")

    def chain(self, name: str, *uses: str) -> None:
        """Write an experiment whose steps s0, s1, ... pass one text along."""
        steps = [
            f"  s{i}:\n    use: {use}\n    with: {{text: {use}{i}}}\n"
            + (f"    takes: {{in: s{i - 1}.out}}\n" if i else "")
            for i, use in enumerate(uses)
        ]
        header = "# A chain of steps, for tests.\n#   python -m llmops plan\n"
        pipeline = f"{header}name: {name}\nsteps:\n{''.join(steps)}"
        (self.root / "conf" / "pipeline" / f"{name}.yaml").write_text(pipeline)
        experiment = EXPERIMENT.format(name=name)
        (self.root / "conf" / "experiment" / f"{name}.yaml").write_text(experiment)

    def measured(self, name: str) -> None:
        """Write an experiment that answers and measures; ``answer``'s ``with.text`` is its loss."""
        header = "# Steps that are measured, for tests.\n#   python -m llmops plan\n"
        pipeline = f"{header}name: {name}\nsteps:\n{MEASURED_STEPS}"
        (self.root / "conf" / "pipeline" / f"{name}.yaml").write_text(pipeline)
        text = EXPERIMENT.format(name=name)
        for group in ("split", "predict", "evaluation", "gate"):
            text = text.replace(f"  - override /{group}: null\n", "")
        (self.root / "conf" / "experiment" / f"{name}.yaml").write_text(text + MEASURED)

    def component(self, name: str, function: str) -> None:
        """Compile a KFP component into ``conf/components/NAME.yaml``."""
        source = self.root / f"{name}.py"
        source.write_text(
            "from kfp import compiler, dsl\nfrom kfp.dsl import *\n\n"
            "@dsl.component(base_image='python:3.11', install_kfp_package=False)\n"
            f"{function}\n"
            f"compiler.Compiler().compile({name}, 'conf/components/{name}.yaml')\n"
        )
        (self.root / "conf" / "components").mkdir(exist_ok=True)
        subprocess.run([sys.executable, str(source)], cwd=self.root, check=True)

    def container(self, name: str, text: str) -> None:
        """Write a compiled component with an image of its own: ``conf/components/NAME.yaml``."""
        (self.root / "conf" / "components").mkdir(exist_ok=True)
        (self.root / "conf" / "components" / f"{name}.yaml").write_text(text)

    def pipeline(self, name: str, steps: str) -> None:
        """Write an experiment of the given steps (YAML)."""
        header = "# Steps, for tests.\n#   python -m llmops plan\n"
        pipeline = f"{header}name: {name}\nsteps:\n{steps}"
        (self.root / "conf" / "pipeline" / f"{name}.yaml").write_text(pipeline)
        experiment = EXPERIMENT.format(name=name)
        (self.root / "conf" / "experiment" / f"{name}.yaml").write_text(experiment)

    @property
    def environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("LLMOPS_")}
        return kept | {"PYTHONPATH": str(self.site), "PYTHONWARNINGS": "default"}

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "llmops", *arguments]

    def llmops(self, *arguments: str, **options) -> subprocess.CompletedProcess[str]:
        """Run ``python -m llmops ARGUMENTS`` in the project."""
        return subprocess.run(
            self.command(*arguments),
            cwd=self.root,
            env=self.environment,
            capture_output=True,
            text=True,
            **options,
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # tests that a script left behind
            signal.signal(signal.SIGINT, signal.default_int_handler)  # else it is inherited
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.root,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def record(self, done: subprocess.CompletedProcess[str]) -> dict:
        return json.loads(done.stdout)

    def did(self) -> list[str]:
        """What the steps noted, in order: ``s0 said``, ``s1 passed``, ..."""
        path = self.root / "did.txt"
        lines = path.read_text().splitlines() if path.exists() else []
        return [" ".join(line.split()[:2]) for line in lines]

    def wait_until_did(self, what: str, seconds: float = 30) -> int:
        """Wait for a note and return the process id of the step that made it."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            path = self.root / "did.txt"
            for line in path.read_text().splitlines() if path.exists() else []:
                if line.startswith(what):
                    return int(line.split()[2])
            time.sleep(0.05)
        raise AssertionError(f"no step noted '{what}' within {seconds} s")


def gone(pid: int, seconds: float = 5) -> bool:
    """Say whether the process has ended within ``seconds``."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        if (
            Path(f"/proc/{pid}/status").exists()
            and "Z (zombie)" in Path(f"/proc/{pid}/status").read_text()
        ):
            return True
        time.sleep(0.05)
    return False


def end_group(process: subprocess.Popen[str]) -> None:
    """End a process started by ``ToyProject.start``, whatever became of it."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
