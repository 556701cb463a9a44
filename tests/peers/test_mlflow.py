"""Runs in MLflow: a real server that nobody here wrote, and a local SQLite store."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import time
from pathlib import Path

import httpx
import pytest
import yaml

from llmops import api
from llmops.adapters.registry.files import FileRegistry
from llmops.api.announcing import Listeners
from llmops.errors import BackendError
from llmops.lineage.run_folder import RunFolder
from llmops.ports.model import ModelReference
from tests.fakes.run_folder import RUN_ID, make_run

MLFLOW = Path(__file__).parents[2] / ".venv-peers" / "mlflow" / "bin" / "mlflow"
CONFIG = {
    "tuning": {"max_steps": 40, "epochs": None},
    "store": {"kind": "folder", "path": ".llmops/store"},
}
NOTIFY = {"when": ["failed"], "webhook": None, "command": None, "lineage": []}
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # MLflow's own, of SQLAlchemy and pydantic
]


@contextlib.contextmanager
def server(folder):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [MLFLOW, "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/server.db"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            assert process.poll() is None, "MLflow's server did not start"
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{address}/health").status_code == 200:
                    break
            time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module", params=["sqlite", "server"])
def uri(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("mlflow")
    if request.param == "sqlite":
        yield f"sqlite:///{folder}/mlflow.db"
        return
    if not MLFLOW.exists():
        pytest.skip("MLflow's server is not installed: `make peers` does so, where it can be had")
    with server(folder) as address:
        yield address


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("workspace")
    made = make_run(root)
    (made.folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    registry = FileRegistry(root / ".llmops" / "registry")
    model = ModelReference("local", "SmolLM2", tuned="so_python-1a2b", adapter="ab" * 32)
    registry.register("so_python", model, labels={}, run_id=RUN_ID)
    registry.set_alias("so_python", "champion", 1, reason="it is good")
    return made


@pytest.fixture(autouse=True)
def workspace(made, monkeypatch):
    monkeypatch.setenv("LLMOPS_WORKSPACE", str(made.folder.parents[2]))


@pytest.fixture(scope="module")
def client(uri):
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri, registry_uri=uri)


@pytest.fixture
def exported(uri, client):
    return client.get_run(api.export_to_mlflow(RUN_ID, uri))


def test_parameters_figures_and_tags_are_read_back(exported, client):
    assert exported.data.params["tuning.max_steps"] == "40"
    assert exported.data.metrics["test/tuned/loss"] < 3.3
    assert exported.data.tags["llmops.dataset_version"] == "v1-3f9c21ab"
    assert exported.info.status == "FINISHED"
    curve = client.get_metric_history(exported.info.run_id, "tuning/train_loss")
    assert [point.step for point in curve] == list(range(1, 41))


def test_the_dataset_is_an_input_by_its_version(exported):
    (found,) = exported.inputs.dataset_inputs
    assert (found.dataset.name, found.dataset.digest) == ("so_python", "v1-3f9c21ab")


def test_the_registered_model_is_a_version_made_by_the_run_and_holds_its_alias(exported, client):
    version = client.get_model_version_by_alias("so_python", "champion")
    assert version.run_id == exported.info.run_id
    assert version.tags["llmops.version"] == "1"


def test_a_second_export_finds_the_first_and_doubles_nothing(exported, uri, client):
    assert api.export_to_mlflow(RUN_ID, uri) == exported.info.run_id
    again = client.get_run(exported.info.run_id)
    assert len(again.inputs.dataset_inputs) == 1
    assert len(client.search_model_versions("name = 'so_python'")) == 1
    assert len(client.get_metric_history(exported.info.run_id, "tuning/train_loss")) == 40


def test_the_loss_is_there_while_tuning_goes_on(made, uri, client, tmp_path):
    folder = tmp_path / "live"
    shutil.copytree(made.folder, folder)
    config = {**CONFIG, "notify": {**NOTIFY, "mlflow": uri}}
    record = {**made.run, "run_id": "20261124-090000-1234", "status": "running", "finished": None}
    listeners = Listeners(RunFolder(folder), config, made.store)
    listeners.started(record)
    tuning = {"step": "tune", "event": "progress", "total": 40, "note": "loss 3.37"}
    listeners.event({**tuning, "done": 2, "loss": 3.37})
    listeners.event({**tuning, "done": 5, "loss": 3.325})
    found = None
    deadline = time.monotonic() + 60
    while not (found and "tuning/train_loss" in found.data.metrics):
        assert time.monotonic() < deadline, "the loss never came"
        time.sleep(0.05)
        found = _run(client, record["run_id"])
    assert found.info.status == "RUNNING"
    listeners.ended({**made.run, "run_id": record["run_id"]})
    ended = client.get_run(found.info.run_id)
    assert ended.info.status == "FINISHED"
    curve = client.get_metric_history(found.info.run_id, "tuning/train_loss")
    assert sorted(point.step for point in curve) == list(range(1, 41))


def test_a_server_that_is_away_is_told_as_such(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(BackendError, match="MLflow at http://127"):
        api.export_to_mlflow(RUN_ID, "http://127.0.0.1:9")


def _run(client, run_id):
    experiment = client.get_experiment_by_name("so_python")
    if experiment is None:
        return None
    asked = f"tags.`llmops.run_id` = '{run_id}'"
    found = client.search_runs([experiment.experiment_id], filter_string=asked)
    return found[0] if found else None
