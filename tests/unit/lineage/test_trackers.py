"""A run in MLflow and TensorBoard, read back with their own readers."""

from __future__ import annotations

import pytest
import yaml

from llmops import api
from llmops.errors import BackendError
from tests.fakes.run_folder import RUN_ID, make_run

CONFIG = {
    "tuning": {"max_steps": 40, "epochs": None},
    "store": {"kind": "folder", "path": ".llmops/store"},
}


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    made = make_run(tmp_path)
    (made.folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    monkeypatch.setenv("LLMOPS_WORKSPACE", str(tmp_path))
    return tmp_path


def test_tensorboard_reads_the_training_curve(workspace):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = api.export_to_tensorboard(RUN_ID, workspace / "board")
    reader = EventAccumulator(str(folder))
    reader.Reload()
    losses = reader.Scalars("tuning/train_loss")
    assert [point.step for point in losses] == list(range(1, 41))
    assert losses[0].value == pytest.approx(3.385, abs=1e-4)
    assert reader.Scalars("test/tuned/loss")[0].value < 3.3


@pytest.mark.filterwarnings("ignore")  # MLflow's own, of SQLAlchemy and pydantic
def test_mlflow_reads_parameters_figures_and_tags_back_and_a_second_export_finds_them(workspace):
    from mlflow import MlflowClient

    uri = f"sqlite:///{workspace}/mlflow.db"
    identity = api.export_to_mlflow(RUN_ID, uri)
    assert api.export_to_mlflow(RUN_ID, uri) == identity
    client = MlflowClient(tracking_uri=uri)
    run = client.get_run(identity)
    assert run.data.params["tuning.max_steps"] == "40"
    assert run.data.metrics["test/tuned/loss"] < 3.3
    assert run.data.tags["llmops.dataset_version"] == "v1-3f9c21ab"
    assert run.info.status == "FINISHED"
    curve = client.get_metric_history(identity, "tuning/train_loss")
    assert [point.step for point in curve] == list(range(1, 41))


def test_a_server_that_is_away_is_told_as_such(workspace, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(BackendError, match="MLflow at http://127"):
        api.export_to_mlflow(RUN_ID, "http://127.0.0.1:9")
