"""Rules for engines whose tasks run on other machines: what is on this one, they do not see.

Each rule is asked by ``rules``; see there for what it may read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from llmops.config.knowledge import ENGINES_ELSEWHERE
from llmops.config.schemas import Mistake

Config = Mapping[str, Any]


def tasks_reach_the_store(config: Config) -> Iterator[Mistake]:
    """Tasks on other machines share a bucket."""
    if _elsewhere(config) and config["store"]["kind"] == "folder":
        yield Mistake(
            ("store", "kind"),
            f"a store that the tasks of engine.kind '{config['engine']['kind']}' reach",
            "'folder', on this machine",
            "choose store=gcs, or store=bucket store.url=s3://...",
        )


def tasks_reach_the_rows(config: Config) -> Iterator[Mistake]:
    """Tables and files of this machine are none that another one can read."""
    uses = _uses(config)
    if not _elsewhere(config):
        return
    warehouse = config.get("warehouse") or {}
    own_tables = warehouse.get("kind") == "duckdb" and not warehouse["sample"]
    if own_tables and uses & {"ingest", "prepare"}:  # the sample fills itself wherever it is asked
        yield Mistake(
            ("warehouse", "kind"),
            f"a warehouse that the tasks of engine.kind '{config['engine']['kind']}' reach",
            "'duckdb' with tables of this machine",
            "choose warehouse=bigquery, or run the steps that read it with engine=local first",
        )
    if "read_files" in uses:
        yield Mistake(
            ("pipeline", "steps"),
            f"steps that engine.kind '{config['engine']['kind']}' can run: files of this machine "
            "are not there",
            "'read_files'",
            "run the experiment with engine=local up to that step first, or load the files",
        )


def tasks_keep_the_registry(config: Config) -> Iterator[Mistake]:
    """A registry in files would be gone with the container that wrote it."""
    in_files = config["deploy"]["registry"]["kind"] == "files"
    if _elsewhere(config) and "deploy" in _uses(config) and in_files:
        yield Mistake(
            ("deploy", "registry", "kind"),
            f"a registry that the tasks of engine.kind '{config['engine']['kind']}' reach",
            "'files', on this machine",
            "choose deploy=store, or deploy=vertex",
        )


def vertex_has_a_place(config: Config) -> Iterator[Mistake]:
    """Jobs of Vertex AI belong to a project and a region."""
    if config["engine"]["kind"] != "vertex":
        return
    environment = config.get("env") or {}
    for name in ("project", "region"):
        if not environment.get(name):
            yield Mistake(
                ("env", name),
                f"the {name} in which engine=vertex runs jobs",
                "null",
                f"choose env=prod, or say env.{name}=...",
            )


def _elsewhere(config: Config) -> bool:
    return config["engine"]["kind"] in ENGINES_ELSEWHERE


def _uses(config: Config) -> set[str]:
    return {step.get("use") for step in config["pipeline"]["steps"].values()}
