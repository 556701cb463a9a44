"""A run's event files, read back with TensorBoard's own reader."""

from __future__ import annotations

import pytest
import yaml

from llmops import api
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
