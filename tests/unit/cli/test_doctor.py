from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmops import cli
from llmops.cli import doctor


@pytest.fixture(autouse=True)
def _workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LLMOPS_CONF", "LLMOPS_WORKSPACE", "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LLMOPS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def findings(capsys: pytest.CaptureFixture[str], *overrides: str) -> dict[str, dict[str, str]]:
    cli.main(["doctor", "--json", *overrides])
    return {found["what"]: found for found in json.loads(capsys.readouterr().out)}


def test_a_machine_that_works_ends_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("ok   python ")
    assert "fail" not in shown


def test_a_model_that_is_not_there_says_how_to_get_it(capsys: pytest.CaptureFixture[str]) -> None:
    model = findings(capsys)["model"]
    assert model["state"] == "warn"
    assert "models pull" in model["todo"]


def test_a_damaged_lock_is_found(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "mine.lock.yaml").write_text("{")
    assert findings(capsys)["lock"]["state"] == "fail"
    assert cli.main(["doctor"]) == 3


def test_a_config_that_does_not_compose_is_a_finding(capsys: pytest.CaptureFixture[str]) -> None:
    assert findings(capsys, "model=nonsense")["config"]["state"] == "fail"


def test_a_full_disk_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "LEAST_BYTES", 1 << 60)
    disk = findings(capsys)["disk"]
    assert disk["state"] == "warn"
    assert "LLMOPS_WORKSPACE" in disk["todo"]


def test_services_of_this_machine_alone_need_no_network(capsys: pytest.CaptureFixture[str]) -> None:
    assert findings(capsys)["services"]["found"].startswith("none")


def test_a_service_that_does_not_answer_and_credentials_that_are_not_there_are_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(doctor, "SERVICES", {("warehouse", "duckdb"): "nowhere.invalid"})
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    found = findings(capsys)
    assert found["service"]["state"] == "fail"
    assert "nowhere.invalid does not answer" in found["service"]["found"]
    assert "gcloud auth" in found["credentials"]["todo"]


@pytest.mark.parametrize(
    ("requirement", "problem"),
    [
        ("pytest>=1", ""),
        ("pytest<1", "is not <1"),
        ("no-such-package-of-ours>=1", "no-such-package-of-ours is missing"),
    ],
)
def test_a_package_is_compared_with_its_pin(requirement: str, problem: str) -> None:
    assert problem in doctor._unmet(requirement)
    assert bool(doctor._unmet(requirement)) == bool(problem)
