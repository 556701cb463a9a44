"""What a sweep is asked to do, checked: its members, what decides, and what they may cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from llmops.api.leaderboard import Decides, decides
from llmops.api.opening import adjusted, adjustments, graph_of
from llmops.api.planning import EVERYTHING, check_budget, plan_members
from llmops.config.identity import config_digest
from llmops.config.remembered import checked
from llmops.errors import ConfigError
from llmops.lineage.sweep import Member, member_id, sweep_id
from llmops.plan.build import Selection
from llmops.plan.side import Side, has_validation_rows, readers
from llmops.secrecy import masked
from llmops.steps import step_kinds

if TYPE_CHECKING:
    from llmops.config.compose import Composed
    from llmops.config.sweep import HydraArguments


@dataclass(frozen=True)
class SweepOptions:
    """How to run a sweep, beside its members.

    ``score_on`` is the side that members are judged by; None for validation where every member
    has validation rows, and test otherwise. ``metric`` and ``contestant`` are what decides; None
    for the gate's first rule and its contestant.
    """

    limit: int | None = None
    selection: Selection = EVERYTHING
    budget: float | None = None
    score_on: Side | None = None
    metric: str | None = None
    contestant: str | None = None
    fail_fast: bool = False


@dataclass(frozen=True)
class Prepared:
    """A sweep that was checked: its id, its members (none yet of a search), how to decide."""

    id: str
    hydra: HydraArguments
    argv: tuple[str, ...]
    members: tuple[Member, ...]
    by: Decides | None
    score_on: Side
    reads_test: bool
    notes: tuple[str, ...]


def prepare(hydra: HydraArguments, options: SweepOptions) -> Prepared:
    """Compose and check every member.

    Raises:
        ConfigError: If a member's config is wrong, or nothing it evaluates can decide.
    """
    search = hydra.sweeper != "basic"
    composed = _checked_members(hydra, search=search)
    side = options.score_on or _default_side(composed)
    notes = []
    if options.score_on is None and side == "test" and _reads_test(composed[0]):
        notes.append(
            "a member has no validation rows, so members are scored on test rows: the chosen "
            "one's figure is a little too good"
        )
    configs = [member_config(one.config, options.limit, side) for one in composed]
    by = decides(configs[0], options.metric, options.contestant)
    members = () if search else _members(composed, configs)
    identity = {
        "members": [config_digest(config) for config in configs],
        "search": [list(hydra.overrides)] if search else [],
        "selection": asdict(options.selection),
        "decides": [side, by and asdict(by)],
    }
    names = sorted({str(config["name"]) for config in configs})
    name = names[0] if len(names) == 1 else "several"
    argv = (*_with_multirun(hydra.flags), *_directed(hydra, by))
    return Prepared(
        sweep_id(name, identity),
        hydra,
        argv,
        members,
        by,
        side,
        _reads_test(composed[0]),
        tuple(notes),
    )


def _checked_members(hydra: HydraArguments, *, search: bool) -> list[Composed]:
    from llmops.config.sweep import members, search_members
    from llmops.config.validate import validate_each

    listed = search_members(hydra.overrides) if search else members(hydra.overrides)
    return validate_each(listed, wiring=graph_of)


def _members(
    composed: Sequence[Composed], configs: Sequence[Mapping[str, Any]]
) -> tuple[Member, ...]:
    return tuple(
        Member(
            member_id(number, one.overrides),
            number,
            one.overrides,
            config_digest=config_digest(config),
            experiment=config["name"],
        )
        for number, (one, config) in enumerate(zip(composed, configs, strict=True), 1)
    )


def _with_multirun(flags: Sequence[str]) -> list[str]:
    return list(flags) if "--multirun" in flags else ["--multirun", *flags]


def _directed(hydra: HydraArguments, by: Decides | None) -> list[str]:
    """Add the direction of the metric to a search that was not told one."""
    key = "hydra.sweeper.direction"
    if hydra.sweeper != "optuna" or hydra.chosen(key) is not None:
        return list(hydra.overrides)
    if by is None:
        raise ConfigError(
            "a search needs a figure, and this experiment evaluates nothing",
            hint="list the members instead: run -m KEY=A,B without hydra/sweeper",
        )
    better = "minimize" if by.definition.better == "lower" else "maximize"
    return [*hydra.overrides, f"{key}={better}"]


def _default_side(composed: Sequence[Composed]) -> Side:
    return "validation" if all(has_validation_rows(one.config) for one in composed) else "test"


def _reads_test(composed: Composed) -> bool:
    config = composed.config
    return bool(readers(config["pipeline"], step_kinds(config["project"]["steps"])))


def member_config(config: Mapping[str, Any], limit: int | None, side: Side) -> Mapping[str, Any]:
    """Return the config that a member runs by."""
    return adjusted(config, adjustments(config, limit, side))


def first_document(prepared: Prepared, options: SweepOptions) -> dict[str, Any]:
    """Return what ``sweep.json`` holds as the sweep begins."""
    return {
        "flags": list(_with_multirun(prepared.hydra.flags)),
        "overrides": [masked(text) for text in prepared.hydra.overrides],
        "options": asdict(options),
        "sweeper": prepared.hydra.sweeper,
        "score_on": prepared.score_on,
        "decides": prepared.by and asdict(prepared.by),
        "notes": list(prepared.notes),
        "status": "running",
        "final": None,
    }


def check_budget_of_all(prepared: Prepared, options: SweepOptions) -> None:
    """Refuse a sweep whose members together may cost more than the budget, before any starts.

    What a search asks for is known only as it goes: there each member is checked as it starts.
    """
    if not prepared.members:
        return
    budgets = [
        (checked(member.overrides).config.get("env") or {}).get("budget")
        for member in prepared.members
    ]
    if options.budget is None and not any(budget is not None for budget in budgets):
        return
    plans = plan_members(
        prepared.hydra.overrides,
        limit=options.limit,
        selection=options.selection,
        against="store",
        score_on=prepared.score_on,
    )
    check_budget(plans, options.budget)
