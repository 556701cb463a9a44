"""A tuning run that is killed goes on from its checkpoint and ends with the same bytes."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from llmops.adapters.model import checkpoint
from llmops.adapters.model.checkpoint import Checkpoint
from llmops.adapters.model.local_tuner import open_tuner
from llmops.ports.model import TuningRequest
from tests.unit.model import tiny_llama

STEPS = 14
RUN = """
import json, sys, time
from pathlib import Path
from tests.unit.model.test_resume import tune
def slow(done, total, note="", *, loss=None):
    print(done, flush=True)
    time.sleep(float(sys.argv[2]) if total else 0)
tune(Path(sys.argv[1]), "killed", slow)
"""


def tune(folder, name, progress):
    for part in ("out", "scratch"):
        (folder / name / part).mkdir(parents=True, exist_ok=True)
    request = TuningRequest(
        train=folder / "train.parquet",
        validation=folder / "validation.parquet",
        system=None,
        max_steps=STEPS,
        epochs=None,
        max_examples=None,
        seed=42,
        output=folder / name / "out",
        scratch=folder / name / "scratch",
        key="0" * 64,
    )
    config = tiny_llama.model_config(lora=_dropout())
    return open_tuner(config, folder).tune(request, progress)


def _dropout():
    return {"rank": 4, "alpha": 8, "dropout": 0.1, "modules": ["q_proj", "up_proj"]}


@pytest.fixture
def folder(tmp_path):
    tiny_llama.install(tmp_path)
    tiny_llama.write_examples(tmp_path / "train.parquet", 40)
    tiny_llama.write_examples(tmp_path / "validation.parquet", 8, 100)
    return tmp_path


def kill_after(folder, step):
    """Tune in a process of its own and kill it once it has told of ``step``."""
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", RUN, str(folder), "0.2"],
        stdout=subprocess.PIPE,
        text=True,
    )
    for line in process.stdout:
        if line.strip() == str(step):
            break
    process.kill()
    process.wait(20)
    process.stdout.close()


@pytest.mark.slow
def test_a_killed_run_ends_with_the_bytes_and_the_curve_of_an_undisturbed_one(folder):
    undisturbed = tune(folder, "undisturbed", lambda *_, **__: None)
    kill_after(folder, step=8)
    told = []
    resumed = tune(
        folder, "killed", lambda done, total, note="", *, loss=None: told.append((done, total))
    )
    first = min(done for done, total in told if total)
    assert first == 7  # the checkpoint of step 6 was found: steps 1 to 6 were not done again
    assert resumed == undisturbed
    for path in (folder / "undisturbed" / "out").iterdir():
        assert path.read_bytes() == (folder / "killed" / "out" / path.name).read_bytes()


def test_a_finished_run_leaves_no_checkpoint(folder):
    tune(folder, "done", lambda *_, **__: None)
    assert list((folder / "done" / "scratch").iterdir()) == []


@pytest.mark.slow
def test_a_checkpoint_of_other_data_is_not_gone_on_from(folder):
    kill_after(folder, step=8)
    tiny_llama.write_examples(folder / "train.parquet", 41)
    told = []
    tune(folder, "killed", lambda done, total, note="", *, loss=None: told.append((done, total)))
    assert (1, STEPS) in told


def _some_state(step):
    return Checkpoint(step, {"weight.0": torch.full((2, 3), float(step))}, {"tokens": step})


def test_the_newest_checkpoint_is_read(tmp_path):
    for step in (3, 6):
        checkpoint.write(tmp_path, _some_state(step), belongs_to="run")
    found = checkpoint.read(tmp_path, belongs_to="run")
    assert (found.step, found.state) == (6, {"tokens": 6})
    assert torch.equal(found.tensors["weight.0"], torch.full((2, 3), 6.0))


def test_a_damaged_checkpoint_is_as_none(tmp_path):
    checkpoint.write(tmp_path, _some_state(3), belongs_to="run")
    (path,) = tmp_path.glob("checkpoint-*/state.safetensors")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert checkpoint.read(tmp_path, belongs_to="run") is None


def test_a_checkpoint_half_written_is_never_read(tmp_path):
    checkpoint.write(tmp_path, _some_state(3), belongs_to="run")
    partial = tmp_path / "checkpoint.partial"
    partial.mkdir()
    (partial / "state.json").write_text(json.dumps({"belongs_to": "run", "step": 6}), "utf-8")
    assert checkpoint.read(tmp_path, belongs_to="run").step == 3


def test_a_checkpoint_holds_no_pickle(tmp_path):
    checkpoint.write(tmp_path, _some_state(3), belongs_to="run")
    suffixes = {path.suffix for path in tmp_path.rglob("*") if path.is_file()}
    assert suffixes == {".safetensors", ".json"}
