"""Sweeps: which members one has, and handing it to Hydra's launchers and sweepers.

Besides ``compose`` and ``search`` the only module that knows Hydra. Knows nothing of what a member
does.
"""

from __future__ import annotations

import functools
import math
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from llmops.config import project, search
from llmops.config.compose import (
    HYDRA_VERSION_BASE,
    canonical,
    loader_session,
    register_plugins,
)
from llmops.errors import ConfigError
from llmops.processes import share_of_cores, usable_cores

Job = Callable[[list[str]], Any]
MAX_MEMBERS = 1000

# Hydra's flags that would read config, or run code, past the checks of ``documents``.
_REFUSED_FLAGS = {
    "config_path": "--config-path",
    "config_name": "--config-name",
    "config_dir": "--config-dir",
    "experimental_rerun": "--experimental-rerun",
}
# Hydra makes folders and log files by default; a run of llmops makes its own. Later ones win.
_NO_FILES = (
    "hydra.output_subdir=null",
    "hydra.run.dir=.",
    "hydra.job.chdir=false",
    "hydra/job_logging=none",
    "hydra/hydra_logging=none",
)


@dataclass(frozen=True)
class HydraArguments:
    """A command line as Hydra sees it.

    ``informs`` says that a flag asks Hydra only to print something, as ``--cfg job`` does.
    """

    flags: tuple[str, ...]
    overrides: tuple[str, ...]
    multirun: bool
    informs: bool

    @property
    def sweeper(self) -> str:
        """The sweeper that decides the members: ``basic``, ``optuna``, or one of a plugin."""
        return self.chosen("hydra/sweeper") or "basic"

    def chosen(self, key: str) -> str | None:
        """Return what an override sets ``key`` to, e.g. ``hydra/launcher``; None if none does."""
        found = [text.lstrip("+").partition("=") for text in self.overrides]
        return next((value for name, _, value in reversed(found) if name == key), None)


def normalise(argv: Sequence[str]) -> HydraArguments:
    """Tell flags from overrides, in whatever order they come.

    Raises:
        ConfigError: If a flag is unknown, or is one that llmops does not accept.
    """
    parser = get_args_parser()
    parser.error = _usage  # type: ignore[method-assign]
    given = parser.parse_intermixed_args(list(argv))
    for name, flag in _REFUSED_FLAGS.items():
        if getattr(given, name) is not None:
            raise ConfigError(
                f"{flag} is not accepted",
                hint="put files into conf/ of the project, or let LLMOPS_CONF name a folder",
            )
    flags: list[str] = []
    for action in parser._actions:
        value = getattr(given, action.dest, None)
        if action.option_strings and value not in (None, False, []):
            flags += [action.option_strings[-1], *([] if value is True else [str(value)])]
    return HydraArguments(
        flags=tuple(flags),
        overrides=canonical(given.overrides),
        multirun=bool(given.multirun),
        informs=bool(
            given.help or given.hydra_help or given.cfg or given.info or given.shell_completion
        ),
    )


def members(overrides: Sequence[str]) -> list[list[str]]:
    """Return the overrides of each member of a basic sweep, in Hydra's order.

    Raises:
        ConfigError: If an override cannot be parsed or swept.
    """
    try:
        with loader_session() as loader:
            parsed = OverridesParser.create(loader).parse_overrides(list(canonical(overrides)))
            own = [override for override in parsed if not override.is_hydra_override()]
            _refuse_too_many(math.prod(map(_choices, own)))
            batches = BasicSweeper.split_arguments(own, None)
    except HydraException as exc:
        raise ConfigError(str(exc).splitlines()[0], hint="e.g. split=group,random_80_20") from exc
    return [list(member) for batch in batches for member in batch]


def search_members(overrides: Sequence[str]) -> list[list[str]]:
    """Return members that together hold what a search over ``overrides`` may ask for.

    Each value of a choice and both ends of an interval; see ``search.corners``.

    Raises:
        ConfigError: If an override cannot be parsed or searched over.
        MissingExtra: If Optuna is not installed.
    """
    search.check_installed()
    try:
        with loader_session() as loader:
            parsed = OverridesParser.create(loader).parse_overrides(list(canonical(overrides)))
            own = [override for override in parsed if not override.is_hydra_override()]
            return search.corners(own)
    except (HydraException, ValueError) as exc:
        raise ConfigError(
            str(exc).splitlines()[0], hint="e.g. tuning.max_steps=20,40 seed=range(1,4)"
        ) from exc


def launch(argv: Sequence[str], job: Job) -> None:
    """Let Hydra run ``job`` once a member, by whatever sweeper and launcher ``argv`` names.

    ``job`` gets the member's overrides; what it returns is the sweeper's objective. It should keep
    its own errors: one that it raises ends the launch after the other members have run.

    Raises:
        ConfigError: If Hydra refuses the command line.
    """
    arguments = normalise(argv)
    register_plugins()
    search.register()
    main = _decorated(job)
    with tempfile.TemporaryDirectory(prefix="llmops-sweep-") as folder:
        quiet = (*_NO_FILES, f"hydra.sweep.dir='{folder}'", "hydra.sweep.subdir=.")
        with _command_line([*arguments.flags, *quiet, *arguments.overrides]):
            try:
                main()
            except HydraException as exc:
                raise ConfigError(str(exc)) from exc
            except SystemExit as exc:
                if exc.code:
                    raise ConfigError("Hydra refused the command line; see above") from exc


def _choices(override: Override) -> int:
    """Count an override's values without making them: a range can have any number."""
    if not override.is_sweep_override():
        return 1
    if override.is_range_sweep():
        swept: Any = override.value()
        steps = abs(float(swept.stop) - float(swept.start)) / abs(float(swept.step))
        return min(math.ceil(steps), MAX_MEMBERS + 1)
    return sum(1 for _ in override.sweep_iterator())


def _refuse_too_many(count: int) -> None:
    if count > MAX_MEMBERS:
        raise ConfigError(
            f"the sweep has more than {MAX_MEMBERS} members",
            hint="name fewer values, or run it in parts",
        )


def _decorated(job: Job) -> Callable[[], None]:
    main: Callable[[], None] = hydra.main(
        version_base=HYDRA_VERSION_BASE,
        config_path=str(project.packaged_conf()),
        config_name="config",
    )(functools.partial(_member, job))
    return main


def _member(job: Job, _: object) -> Any:
    """Run one member; importable, as launchers of processes need it.

    Members that run beside each other on one machine share its cores out among themselves.
    """
    hydra_config = HydraConfig.get()
    at_once = members_at_once(hydra_config.launcher.get("n_jobs", 1))
    with share_of_cores(Path(hydra_config.sweep.dir), at_once):
        return job(list(hydra_config.overrides.task))


def members_at_once(jobs: int | None) -> int:
    """Return how many members joblib's ``n_jobs`` runs at a time: -1 is one a core, -2 one less."""
    if jobs is None or jobs == 0:
        return 1
    return jobs if jobs > 0 else max(1, usable_cores() + 1 + jobs)


@contextmanager
def _command_line(arguments: Sequence[str]) -> Iterator[None]:
    """Let Hydra see these arguments, and raise its errors instead of printing them."""
    before, report = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv = ["llmops", *arguments]
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        sys.argv = before
        if report is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = report


def _usage(message: str) -> NoReturn:
    raise ConfigError(message, hint="python -m llmops run --help")
