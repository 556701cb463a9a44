"""What ``diff`` can compare: git refs, folders, experiment files, locks and finished runs.

Turns a word of the command line into a source, and a source into versions of experiments.
"""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from llmops.config import project
from llmops.config.compose import compose
from llmops.config.identity import config_digest
from llmops.config.provenance import provenance
from llmops.config.validate import validate
from llmops.errors import ConfigError, nearest
from llmops.lineage import lock as locks
from llmops.lineage.run_folder import RunFolder, all_runs, find_run
from llmops.plan.diff import Version, leaves_of
from llmops.plan.graph import build_graph
from llmops.plan.reference import Reference, of_config, of_lock, of_record
from llmops.review import trees
from llmops.review.trees import Tree
from llmops.steps import step_kinds

GIT_SECONDS = 60


@dataclass(frozen=True)
class Source:
    """One side of a comparison: a tree of experiments, one of them, or one version by itself."""

    label: str
    tree: Tree | None = None
    only: str | None = None  # of a tree: the one experiment that was asked for
    version: Version | None = None


def find(text: str, workspace: Path, stack: ExitStack) -> Source:
    """Return what ``text`` names; files that it needs go when ``stack`` closes.

    Raises:
        ConfigError: If it names nothing, with the nearest run.
    """
    path = Path(text)
    if path.is_dir():
        return _folder(path, text)
    if path.is_file():
        return _file(path, text)
    if run := _run(text, workspace):
        return _of_run(run, text)
    if commit := _commit(text):
        return Source(text, _at_commit(commit, text, stack))
    ids = [folder.path.name for folder in all_runs(workspace)]
    raise ConfigError(
        f"'{text}' is no folder, no file, no run and no git ref",
        hint=f"{nearest(text, ids)} e.g. main, HEAD~1, conf/experiment/so_python.yaml, "
        "runs/so_python.lock.yaml, a run's id".strip(),
    )


def working_tree() -> Source:
    """Return the config as it lies here."""
    return Source("working tree", trees.here())


def of_experiment(tree: Tree, name: str, *, strict: bool) -> Version:
    """Compose one experiment of a tree; ``strict``: it must also be valid.

    Raises:
        ConfigError: If it does not compose, or is not valid.
    """
    with project.using(tree.own, tree.packaged):
        composed = (validate if strict else compose)([f"+experiment={name}"])
        origins = provenance(composed)
    config = composed.config
    kinds = step_kinds(config["project"]["steps"])
    return Version(
        name=name,
        digest=config_digest(config),
        leaves=leaves_of(config),
        reference=of_config(build_graph(config["pipeline"], kinds), config, tree.label),
        config=config,
        written={key: origin.written for key, origin in origins.items() if origin.written},
        places={key: origin.set_by for key, origin in origins.items()},
    )


def experiment_called(tree: Tree, name: str) -> str | None:
    """Return the experiment file whose ``name:`` is this; the file's own name goes first."""
    if name in tree.experiments:
        return name
    for file in tree.experiments:
        if tree.read(f"experiment/{file}.yaml").value.get("name") == name:
            return file
    return None


# ---------------------------------------------------------------------- paths


def _folder(path: Path, text: str) -> Source:
    if (path / "run.json").is_file():
        return _of_run(RunFolder(path.resolve()), text)
    conf = path / "conf" if (path / "conf").is_dir() else path
    holds = (conf / "experiment").is_dir() or (conf / "config.yaml").is_file()
    if conf.name != "conf" and not holds:
        raise ConfigError(
            f"{text} holds no config", hint="name a project, its conf folder, or a run's folder"
        )
    return Source(text, trees.over(conf.resolve(), text))


def _file(path: Path, text: str) -> Source:
    if path.name.endswith(".lock.yaml"):
        held = locks.read_lock(path)
        return Source(text, version=_of_lock(held, text))
    whole = path.resolve()
    if whole.name == "config.yaml" and (whole.parent / "run.json").is_file():
        return _of_run(RunFolder(whole.parent), text)
    root = next((above for above in whole.parents if above.name == "experiment"), None)
    if root is None or whole.suffix != ".yaml":
        raise ConfigError(
            f"{text} is no experiment, lock or run",
            hint="an experiment file lies in the folder experiment of a config folder",
        )
    name = whole.relative_to(root).with_suffix("").as_posix()
    return Source(text, trees.over(root.parent, text), only=name)


def _of_lock(held: Mapping[str, Any], label: str) -> Version:
    return Version(
        name=str(held["experiment"]),
        digest=str(held["config_digest"]),
        leaves={},
        reference=of_lock(held, label),
    )


def _run(text: str, workspace: Path) -> RunFolder | None:
    try:
        return find_run(workspace, text)
    except ConfigError as exc:
        if exc.problem.startswith("several"):
            raise
        return None


def _of_run(run: RunFolder, label: str) -> Source:
    record = run.record()
    config = run.config()
    places = run.origins()
    version = Version(
        name=record["experiment"],
        digest=config_digest(config),
        leaves=leaves_of(config),
        reference=_finished(run, record),
        config=config,
        written={key: origin["written"] for key, origin in places.items() if "written" in origin},
        places={key: origin["set_by"] for key, origin in places.items()},
    )
    return Source(label, version=version)


def _finished(run: RunFolder, record: Mapping[str, Any]) -> Reference:
    if record["status"] not in ("succeeded", "refused"):
        raise ConfigError(
            f"run {record['run_id']} is '{record['status']}': it did not finish",
            hint="python -m llmops runs list",
        )
    return of_record(record, f"run {run.path.name}")


# ------------------------------------------------------------------------ git


def _commit(text: str) -> str | None:
    done = _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{text}^{{commit}}")
    return done.stdout.decode().strip() if done and done.returncode == 0 else None


def _at_commit(commit: str, label: str, stack: ExitStack) -> Tree:
    """Unpack the project's config folder as it was at a commit."""
    own = project.project_conf()
    if own is None:
        raise ConfigError(
            "there is no conf/ here", hint="go to a project's folder, or set LLMOPS_CONF"
        )
    folder = Path(stack.enter_context(TemporaryDirectory(prefix="llmops-diff-")))
    target = folder / own.name
    target.mkdir()
    done = _git("archive", "--format=tar", commit, "--", own.name, cwd=own.parent)
    if done is not None and done.returncode == 0:
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
            archive.extractall(folder, filter="data")
    elif done is None or b"did not match any files" not in done.stderr:
        why = done.stderr.decode("utf-8", "replace").strip() if done else "git cannot be run"
        raise ConfigError(f"the config of {label} cannot be read: {why}")
    return trees.over(target, label)


def _git(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[bytes] | None:
    where = cwd or (project.project_conf() or Path.cwd() / "conf").parent
    try:
        return subprocess.run(
            ["git", "-C", str(where), *arguments],
            capture_output=True,
            check=False,
            timeout=GIT_SECONDS,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError):
        return None
