"""Search with Optuna as a Hydra sweeper: ``hydra/sweeper=optuna``.

Registered in this process only, so that no other Hydra application finds it. A study is kept in
memory and seeded: the same command asks for the same trials, and members that ran before answer at
once, so repeating a search resumes it. Besides ``compose`` and ``sweep`` the only module that
knows Hydra; knows nothing of what a member does.
"""

from __future__ import annotations

import importlib
import math
import sys
import types
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper

from llmops.errors import ConfigError, MissingExtra, unknown_name

if TYPE_CHECKING:
    import optuna

NAME = "optuna"
DIGITS = 6  # of a real number that a search asks for; more would only be noise to read
SAMPLERS = ("tpe", "random", "gp")
DEFAULTS: Mapping[str, Any] = {
    "trials": 20,  # members in all
    "at_once": 1,  # members that are asked for, and launched, together
    "sampler": "tpe",
    "seed": 42,
    "direction": "minimize",
    "startup_trials": 10,  # random ones before tpe or gp models the figures
}


class OptunaSweeper(Sweeper):
    """Asks a study for members, has them launched, and tells it their figures."""

    def __init__(
        self,
        trials: int,
        at_once: int,
        sampler: str,
        seed: int,
        direction: str,
        startup_trials: int,
    ) -> None:
        self.trials = trials
        self.at_once = at_once
        self.sampler = sampler
        self.seed = seed
        self.direction = direction
        self.startup_trials = startup_trials
        self.launcher: Any = None
        self.loader: Any = None

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        """Prepare the launcher that the config chose."""
        self.loader = hydra_context.config_loader
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Run the search.

        A member's figure is what its job returns, a number; None for a member that gave none. A
        job that answers ``STOP`` ends the search.
        """
        import optuna

        parsed = OverridesParser.create(self.loader).parse_overrides(arguments)
        space = {over.get_key_element(): _space(over) for over in parsed if _varies(over)}
        fixed = [str(over.input_line) for over in parsed if not _varies(over)]
        study = _study(self)
        done = 0
        while done < self.trials:
            trials = [study.ask(space) for _ in range(min(self.at_once, self.trials - done))]
            batch = [
                [*fixed, *(f"{key}={_text(value)}" for key, value in trial.params.items())]
                for trial in trials
            ]
            returned = self.launcher.launch(batch, initial_job_idx=done)
            figures = [job.return_value for job in returned]
            for trial, figure in zip(trials, figures, strict=True):
                if isinstance(figure, int | float) and math.isfinite(figure):
                    study.tell(trial, float(figure))
                else:
                    study.tell(trial, state=optuna.trial.TrialState.FAIL)
            done += len(trials)
            if STOP in figures:
                break


STOP = "stop"  # what a job returns to end the search

PLUGINS = "hydra_plugins"  # Hydra takes plugins from this name space only
MODULE = f"{PLUGINS}.llmops"
OptunaSweeper.__module__ = MODULE


def register() -> None:
    """Make the sweeper known to this process; doing it again is harmless."""
    _enter_name_space()
    Plugins.instance().register(OptunaSweeper)
    ConfigStore.instance().store(
        group="hydra/sweeper",
        name=NAME,
        node={"_target_": f"{MODULE}.{OptunaSweeper.__name__}", **DEFAULTS},
    )


def _enter_name_space() -> None:
    """Let Hydra find the class by its name, without a package that other programs would find."""
    try:
        parent = importlib.import_module(PLUGINS)
    except ImportError:
        parent = sys.modules[PLUGINS] = types.ModuleType(PLUGINS)
        parent.__path__ = []
    module = types.ModuleType(MODULE)
    module.OptunaSweeper = OptunaSweeper  # type: ignore[attr-defined]
    sys.modules[MODULE] = module
    parent.llmops = module  # type: ignore[attr-defined]


def check_installed() -> None:
    """Refuse a search without Optuna.

    Raises:
        MissingExtra: If it is not installed.
    """
    from importlib.util import find_spec

    if find_spec("optuna") is None:
        raise MissingExtra(
            "hydra/sweeper=optuna needs the package 'optuna'", hint="pip install 'llmops[sweep]'"
        )


def corners(overrides: Sequence[Override]) -> list[list[str]]:
    """Return members that together hold each value of a choice and both ends of an interval.

    So that what a search may ask for is checked before it starts: first every key's first value,
    then one key changed at a time.

    Raises:
        ConfigError: If an override cannot be searched over.
    """
    values = {over.get_key_element(): _examples(over) for over in overrides}
    first = {key: found[0] for key, found in values.items()}
    made = [first]
    made += [{**first, key: value} for key, found in values.items() for value in found[1:]]
    return [[f"{key}={value}" for key, value in member.items()] for member in made]


def _examples(over: Override) -> list[str]:
    if not _varies(over):
        return [over.get_value_element_as_str()]
    distribution = _space(over)
    if hasattr(distribution, "choices"):
        return [_text(choice) for choice in distribution.choices]
    return list(dict.fromkeys([_text(distribution.low), _text(distribution.high)]))


def _varies(over: Override) -> bool:
    return bool(over.is_sweep_override())


def _space(over: Override) -> Any:
    """Return an override's values as one of Optuna's distributions.

    ``a,b`` and ``choice(a,b)`` are categories, ``range(1,5)`` is numbers with a step (the end
    excluded), ``interval(1e-5,1e-2)`` a range of real numbers; ``tag(log, interval(...))`` is
    searched on a logarithmic scale, ``int(interval(1,100))`` in whole numbers.
    """
    from optuna import distributions

    value: Any = over.value()
    log = "log" in getattr(value, "tags", ())
    if isinstance(value, ChoiceSweep):
        return distributions.CategoricalDistribution([_plain(item) for item in value.list])
    if isinstance(value, RangeSweep):
        low, high, step = value.start or 0, value.stop or 0, value.step
        if isinstance(low, int) and isinstance(high, int) and isinstance(step, int):
            last = low + (high - 1 - low) // step * step
            return distributions.IntDistribution(low, last, step=step)
        steps = math.ceil((float(high) - float(low)) / float(step)) - 1
        return distributions.FloatDistribution(low, low + steps * step, step=step)
    if isinstance(value, IntervalSweep):
        if isinstance(value.start, int) and isinstance(value.end, int):
            return distributions.IntDistribution(value.start, value.end, log=log)
        ends = float(value.start or 0), float(value.end or 0)
        return distributions.FloatDistribution(*ends, log=log)
    raise ConfigError(
        f"{over.input_line}: a search cannot go over this",
        hint="use a,b  range(1,5)  interval(1e-5,1e-2)  tag(log, interval(1e-5,1e-2))",
    )


def _plain(item: Any) -> Any:
    """Return a choice as Optuna takes it: a scalar, or anything else as Hydra writes it."""
    if item is None or isinstance(item, bool | int | float):
        return item
    return Override._get_value_element_as_str(item)


def _text(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.{DIGITS}g}" if isinstance(value, float) else str(value)


def _study(settings: OptunaSweeper) -> optuna.Study:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    directions = {one.name.lower(): one for one in optuna.study.StudyDirection}
    if settings.direction not in ("minimize", "maximize"):
        known = ("minimize", "maximize")
        raise unknown_name("direction", settings.direction, known, where="hydra.sweeper.direction")
    chosen = directions[settings.direction]
    with warnings.catch_warnings():  # it calls what it has had for years experimental
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.create_study(direction=chosen, sampler=_sampler(settings))


def _sampler(settings: OptunaSweeper) -> Any:
    from optuna import samplers

    name, seed, startup = settings.sampler, settings.seed, settings.startup_trials
    if name == "tpe":
        # among members asked for together, one that has no figure yet counts as a bad one
        return samplers.TPESampler(
            seed=seed, n_startup_trials=startup, constant_liar=settings.at_once > 1
        )
    if name == "random":
        return samplers.RandomSampler(seed=seed)
    if name == "gp":
        return samplers.GPSampler(seed=seed, n_startup_trials=startup)
    raise unknown_name("sampler", name, SAMPLERS, where="hydra.sweeper.sampler")
