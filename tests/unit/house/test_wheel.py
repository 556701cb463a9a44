"""The wheel carries all that a user without a checkout needs."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (built,) = target.glob("*.whl")
    return built


def test_the_wheel_holds_every_config_file(wheel: Path) -> None:
    conf = ROOT / "conf"
    wanted = {
        f"llmops/_conf/{file.relative_to(conf)}"
        for pattern in ("*.yaml", "*.sql")
        for file in conf.rglob(pattern)
    }
    assert len(wanted) >= 20
    assert wanted <= set(zipfile.ZipFile(wheel).namelist())


def test_the_wheel_holds_what_init_writes(wheel: Path) -> None:
    wanted = {str(file.relative_to(ROOT)) for file in ROOT.glob("llmops/cli/scaffold/**/*.in")}
    assert len(wanted) >= 10
    assert wanted <= set(zipfile.ZipFile(wheel).namelist())


def test_an_experiment_validates_from_the_wheel_alone(wheel: Path, tmp_path: Path) -> None:
    unpacked = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(unpacked)
    project = tmp_path / "project"
    project.mkdir()
    done = subprocess.run(
        [sys.executable, "-P", "-m", "llmops", "validate", "+experiment=so_python"],
        cwd=project,
        env={"PYTHONPATH": str(unpacked), "LLMOPS_WORKSPACE": str(project)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("so_python")
