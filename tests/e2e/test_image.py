"""What the Dockerfile installs can do a task's work. The image itself is not built: that needs a
container engine. Its steps run here in an empty folder and a fresh virtual environment.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from llmops import api

ROOT = Path(__file__).parents[2]
LINE = re.compile(r"^(?P<word>FROM|COPY|RUN|ENV|WORKDIR) (?P<rest>.+)$", re.MULTILINE)


def stage(name: str) -> list[tuple[str, str]]:
    """Return the lines of one stage of the Dockerfile."""
    text = (ROOT / "Dockerfile").read_text("utf-8")
    lines = [(found["word"], found["rest"]) for found in LINE.finditer(text)]
    starts = [i for i, (word, rest) in enumerate(lines) if word == "FROM" and rest.endswith(name)]
    ends = [i for i, (word, _) in enumerate(lines) if word == "FROM" and i > starts[0]]
    return lines[starts[0] + 1 : ends[0] if ends else None]


def test_both_stages_install_with_the_pinned_versions():
    for name in ("slim", "full"):
        installs = [rest for word, rest in stage(name) if word == "RUN" and "install" in rest]
        assert installs
        assert all("--constraint constraints.txt" in rest for rest in installs)
    assert not any("local" in rest for word, rest in stage("slim") if word == "RUN")


@pytest.fixture(scope="module")
def container(tmp_path_factory) -> dict[str, str]:
    """The environment of a container: what the steps of the stage ``slim`` made, and no more."""
    root = tmp_path_factory.mktemp("image")
    folder, venv = root / "llmops", root / "venv"
    folder.mkdir()
    kept = {name: os.environ[name] for name in os.environ if not name.startswith("LLMOPS_")}
    interpreter = Path(sys.base_prefix) / "bin"
    path = f"{venv}/bin:{interpreter}:/usr/local/bin:/usr/bin:/bin"
    environment = kept | {"VIRTUAL_ENV": str(venv), "PATH": path}
    environment.pop("PYTHONPATH", None)
    for word, rest in stage("slim"):
        if word == "COPY":
            copy(rest.split(), folder)
        elif word == "RUN":
            subprocess.run(["sh", "-ec", rest], cwd=folder, env=environment, check=True)
    shutil.rmtree(folder)  # what runs is what was installed
    return environment


def copy(words: list[str], folder: Path) -> None:
    *sources, target = words
    for source in sources:
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, folder / target)
        else:
            shutil.copy(ROOT / source, folder)


@pytest.mark.slow
def test_a_tasks_command_does_a_step_in_what_the_image_holds(container, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = tmp_path / "store"
    made = api.run(["+experiment=hello", f"store.path={store}"])
    (store / "index").rename(tmp_path / "forgotten")  # so that the task has something to do
    pipeline = tmp_path / "hello.yaml"
    api.compile_pipeline(["+experiment=hello", f"store.path={store}"], pipeline)
    executors = yaml.safe_load(pipeline.read_text("utf-8"))["deploymentSpec"]["executors"]
    task = executors["exec-say-hello"]["container"]
    (config,) = {p for p in store.glob("objects/*/*") if b'"schema_version"' in p.read_bytes()}
    out = tmp_path / "out.json"
    given = {"config_uri": str(config), "run_id": made.record["run_id"]}
    executor_input = {
        "inputs": {"parameterValues": given},
        "outputs": {
            "artifacts": {
                f"out_{name}": {"artifacts": [{"name": name, "uri": str(out), "metadata": {}}]}
                for name in made.record["steps"][0]["outputs"]
            },
            "outputFile": str(tmp_path / "executor_output.json"),
        },
    }
    words = [w.replace("{{$}}", json.dumps(executor_input)) for w in task["command"] + task["args"]]
    work = tmp_path / "workspace"
    work.mkdir()
    done = subprocess.run(words, cwd=work, env=container, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    (reference,) = made.record["steps"][0]["outputs"].values()
    assert json.loads(out.read_text("utf-8"))["sha256"] == reference["sha256"]
    (report,) = store.glob(f"runs/{made.record['run_id']}/say_hello.json")
    assert json.loads(report.read_text("utf-8"))["status"] == "done"
