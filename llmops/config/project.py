"""Where a project's config and workspace lie. Knows folders only: not what is in the YAML."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from llmops.errors import ConfigError

NO_GROUPS = {"knowledge"}  # folders of conf/ that no experiment is composed from


@dataclass(frozen=True)
class ConfFolder:
    """A folder of config files; ``label`` is how messages and provenance name it."""

    path: Path
    label: str


@dataclass(frozen=True)
class _Chosen:
    own: Path | None
    packaged: Path


_chosen: ContextVar[_Chosen | None] = ContextVar("llmops_conf_folders", default=None)


@contextmanager
def using(own: Path | None, packaged: Path) -> Iterator[None]:
    """Let every composition inside see these two config folders, e.g. those of another commit."""
    token = _chosen.set(_Chosen(own, packaged))
    try:
        yield
    finally:
        _chosen.reset(token)


def packaged_conf() -> Path:
    """Return the config that llmops brings: inside the wheel, or ``conf/`` of a checkout."""
    chosen = _chosen.get()
    if chosen is not None:
        return chosen.packaged
    package = Path(__file__).resolve().parent.parent
    wheel = package / "_conf"
    return wheel if wheel.is_dir() else package.parent / "conf"


def project_conf() -> Path | None:
    """Return the user's own config folder: ``LLMOPS_CONF``, else the nearest one above.

    Raises:
        ConfigError: If ``LLMOPS_CONF`` names no folder.
    """
    chosen = _chosen.get()
    if chosen is not None:
        return chosen.own
    named = os.environ.get("LLMOPS_CONF")
    if named:
        return _existing_folder(Path(named), "LLMOPS_CONF")
    here = Path.cwd().resolve()
    return next((found / "conf" for found in (here, *here.parents) if _holds_conf(found)), None)


def workspace() -> Path:
    """Return the folder that ``runs/`` and ``.llmops/`` lie in.

    ``LLMOPS_WORKSPACE``, else the folder that holds the project's config, else the current one.
    """
    named = os.environ.get("LLMOPS_WORKSPACE")
    if named:
        return Path(named).resolve()
    conf = project_conf()
    return conf.parent if conf else Path.cwd().resolve()


def conf_folders() -> tuple[ConfFolder, ...]:
    """Return the config folders in search order: the project's own shadows the packaged one."""
    packaged, project = packaged_conf(), project_conf()
    if project is None:
        return (ConfFolder(packaged, "llmops:conf"),)
    own = ConfFolder(project, project.name)
    if project.resolve() == packaged.resolve():
        return (own,)
    return (own, ConfFolder(packaged, "llmops:conf"))


def find_file(relative: str) -> Path | None:
    """Return the first file of this relative path in the config folders."""
    found = (folder.path / relative for folder in conf_folders())
    return next((path for path in found if path.is_file()), None)


def names(group: str, suffix: str = ".yaml") -> tuple[str, ...]:
    """Return the names of the files in a folder of the config, of all config folders, sorted."""
    return tuple(
        sorted(
            {
                path.name.removesuffix(suffix)
                for folder in conf_folders()
                for path in (folder.path / group).glob(f"*{suffix}")
            }
        )
    )


def groups() -> tuple[str, ...]:
    """Return the names of the config groups: the folders with YAML files in them, sorted."""
    found = {file.parent.name for folder in conf_folders() for file in folder.path.glob("*/*.yaml")}
    return tuple(sorted(found - NO_GROUPS))


def _holds_conf(folder: Path) -> bool:
    conf = folder / "conf"
    return (conf / "config.yaml").is_file() or (conf / "experiment").is_dir()


def _existing_folder(path: Path, variable: str) -> Path:
    if not path.is_dir():
        raise ConfigError(
            f"{variable} names {path}, which is no folder",
            hint=f"unset {variable}, or let it name a folder with experiment/*.yaml",
        )
    return path.resolve()
