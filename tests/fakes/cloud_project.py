"""A toy project whose runs go to a fake engine elsewhere: store, credentials and servers included.

The store is a bucket that fsspec reaches: here a folder, known by its URL alone.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fastapi import FastAPI

from tests.fakes.faults import Faults, serve
from tests.fakes.identity import Identity, add_identity, key_file
from tests.fakes.kubeflow import Kubeflow
from tests.fakes.pipelines import Machines
from tests.fakes.toy_project import ToyProject
from tests.fakes.vertex_pipelines import VertexPipelines


@dataclass
class Elsewhere:
    """A project and the engine that its runs go to; ``overrides`` choose it."""

    project: ToyProject
    engine: str
    overrides: tuple[str, ...]
    machines: Machines
    service: VertexPipelines | Kubeflow | None
    faults: Faults | None
    identity: Identity | None = None

    def enter(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Work in the project from this process, as a command started there would."""
        for name in list(os.environ):
            if name.startswith("LLMOPS_"):
                monkeypatch.delenv(name)
        monkeypatch.chdir(self.project.root)
        monkeypatch.syspath_prepend(str(self.project.site))
        monkeypatch.setenv("PYTHONPATH", str(self.project.site))

    def did(self) -> list[str]:
        """Return what the steps noted, in order, wherever they ran."""
        files = [self.project.root / "did.txt", *self.machines.folder.glob("*/did.txt")]
        found = sorted((f for f in files if f.exists()), key=lambda f: f.stat().st_mtime)
        lines = [line for file in found for line in file.read_text("utf-8").splitlines()]
        return [" ".join(line.split()[:2]) for line in lines]


COMMON = ("engine.image=registry.invalid/llmops-python:1", "engine.poll_s=0.05")


@contextlib.contextmanager
def elsewhere(engine: str, root: Path) -> Iterator[Elsewhere]:
    """Yield a project below ``root`` whose runs go to ``engine``: local, vertex or kubeflow."""
    project = ToyProject(root / "project")
    store = f"store.url=file://{root / 'store'}"
    machines = Machines(root / "machines", {"PYTHONPATH": str(project.site)})
    try:
        if engine == "local":
            yield Elsewhere(project, engine, ("store=bucket", store), machines, None, None)
        elif engine == "vertex":
            yield from _vertex(project, store, machines, root)
        else:
            yield from _kubeflow(project, store, machines)
    finally:
        machines.stop()


def _vertex(project: ToyProject, store: str, machines: Machines, root: Path) -> Iterator[Elsewhere]:
    identity, service, app = Identity(), VertexPipelines(machines), FastAPI()
    add_identity(app, identity)
    app.include_router(service.router())
    with serve(app) as server:
        overrides = (
            "engine=vertex",
            *COMMON,
            "store=bucket",
            store,
            "env=prod",
            "env.budget=null",
            "env.project=shop-project",
            f"+env.endpoints.vertex={server.url}",
            "env.credentials.kind=service_account_file",
            f"+env.credentials.file={key_file(root, server.url)}",
        )
        yield Elsewhere(project, "vertex", overrides, machines, service, server.faults, identity)


def _kubeflow(project: ToyProject, store: str, machines: Machines) -> Iterator[Elsewhere]:
    service, app = Kubeflow(machines), FastAPI()
    app.include_router(service.router())
    with serve(app) as server:
        overrides = ("engine=kubeflow", *COMMON, "store=bucket", store, f"engine.host={server.url}")
        yield Elsewhere(project, "kubeflow", overrides, machines, service, server.faults)
