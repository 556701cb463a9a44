"""One member of a sweep, in whatever process the launcher runs it: claimed, run, and noted."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llmops.api.leaderboard import Decides, figure_of
from llmops.api.past import show
from llmops.api.running import run
from llmops.api.sweep_plan import SweepOptions, member_config
from llmops.config.identity import config_digest
from llmops.config.remembered import checked
from llmops.errors import ConfigError, Interrupted, LlmopsError, Refused
from llmops.files import write_text
from llmops.lineage.sweep import ENDED, Member, SweepFolder, failed, finished, member_id
from llmops.plan.build import Plan
from llmops.plan.side import Side
from llmops.processes import still_running, this_process
from llmops.secrecy import masked

PARENT_POLL_S = 0.5
GRACE_S = 30.0  # for a member to note that it was interrupted
WATCHER = "llmops sweep watcher"
INTERRUPTED = "it was interrupted"
OVER_BUDGET = "the budget of the sweep is used up"
_at_work = threading.Lock()  # held while this process runs a member


@dataclass(frozen=True)
class Task:
    """What every member is told; it crosses to the processes of a launcher."""

    folder: Path
    options: SweepOptions
    score_on: Side
    by: Decides | None
    parent: Mapping[str, Any]  # the sweep's process


def run_member(task: Task, overrides: Sequence[str]) -> float | str | None:
    """Run one member, unless it ran before, and note what came of it; its errors stay its own.

    Returns:
        The figure that a search learns from; None if there is none; ``stop`` to end a search.
    """
    from llmops.config.search import STOP

    folder = SweepFolder(task.folder)
    if folder.stopped() is not None:
        return STOP
    with _ends_with(task.parent):
        member = _claim(folder, task, tuple(overrides))
        if member.status in ENDED:
            return member.value
        member = _attempt(folder, task, member)
    if member.status == "failed" and task.options.fail_fast:
        folder.stop(f"member {member.id} failed, and --fail-fast was given")
    return member.value


def _claim(folder: SweepFolder, task: Task, overrides: tuple[str, ...]) -> Member:
    """Return this member's entry: as it ended before, or as one that starts now."""
    with folder.ledger():
        members = folder.members()
        found = next((one for one in members if one.overrides == overrides), None)
        digest = _digest(overrides, task)
        if found is not None and has_ended(found, digest):
            return found
        number = found.number if found else 1 + max((one.number for one in members), default=0)
        started = Member(
            found.id if found else member_id(number, overrides),
            number,
            overrides,
            status="running",
            config_digest=digest,
            process=this_process(),
        )
        return folder.write(started)


def _digest(overrides: Sequence[str], task: Task) -> str | None:
    try:
        config = checked(overrides).config
        return config_digest(member_config(config, task.options.limit, task.score_on))
    except LlmopsError:  # told when it runs
        return None


def _attempt(folder: SweepFolder, task: Task, member: Member) -> Member:
    progress = _Progress(folder, member)
    try:
        made = run(
            member.overrides,
            limit=task.options.limit,
            selection=task.options.selection,
            score_on=task.score_on,
            promote="nothing",
            on_plan=functools.partial(_reserve, folder, task, progress),
            on_start=progress.started,
            on_event=progress.event,
        )
    except Interrupted as exc:
        folder.stop(INTERRUPTED)
        return folder.write(replace(failed(progress.member, exc), status="interrupted"))
    except LlmopsError as exc:
        return folder.write(failed(progress.member, exc))
    except Exception as exc:  # noqa: BLE001 - a bug in one member must not end the others
        log = folder.path / "members" / f"{member.id}.log"
        write_text(log, masked(traceback.format_exc()))
        bug = LlmopsError(f"{type(exc).__name__}: {exc}", hint=f"this is a bug; see {log}")
        return folder.write(failed(progress.member, bug))
    figure = figure_of(made.record, task.by).get("value")
    return folder.write(
        replace(finished(progress.member, made.record, made.exit_code), value=figure)
    )


class _Progress:
    """Writes what a member does into its file, once a step."""

    def __init__(self, folder: SweepFolder, member: Member) -> None:
        self.folder = folder
        self.member = member

    def started(self, run_folder: Path) -> None:
        self._write(run_id=run_folder.name, experiment=run_folder.parent.name)

    def event(self, event: Mapping[str, Any]) -> None:
        if event["event"] == "start":
            self._write(step=event["step"])

    def reserved(self, money: float | None) -> None:
        self._write(money=money)

    def _write(self, **changes: Any) -> None:
        self.member = self.folder.write(replace(self.member, **changes))


def _reserve(folder: SweepFolder, task: Task, progress: _Progress, plan: Plan) -> None:
    """Put aside what this member may cost, if the sweep's budget still allows it.

    Raises:
        Refused: If it does not; no further member starts then.
    """
    money = plan.estimate.total.money if plan.estimate else None
    budget = task.options.budget
    with folder.ledger():
        if budget is not None and money is not None:
            others = [one for one in folder.members() if one.id != progress.member.id]
            spent = sum(one.money or 0.0 for one in others)
            if money.value is None or spent + money.value > budget:
                folder.stop(OVER_BUDGET)
                lacks = "; ".join(money.unknown) or f"{money.value:,.2f} more"
                raise Refused(
                    f"the members so far may cost {spent:,.2f} of {budget:,.2f}, and this one: "
                    f"{lacks}",
                    hint="raise or drop --budget; what has run is kept",
                )
        progress.reserved(money.value if money else None)


@contextlib.contextmanager
def _ends_with(parent: Mapping[str, Any]) -> Iterator[None]:
    """End this process, which a launcher keeps for members, when the sweep's process is gone.

    In the sweep's own process there is nothing to watch; from another machine it is not seen. A
    member at work is interrupted first and notes it.
    """
    if parent == this_process() or still_running(parent) is None:
        yield
        return
    if not any(thread.name == WATCHER for thread in threading.enumerate()):
        threading.Thread(target=_watch, args=(parent,), daemon=True, name=WATCHER).start()
    with _at_work:
        yield


def _watch(parent: Mapping[str, Any]) -> None:
    while still_running(parent) is not False:
        time.sleep(PARENT_POLL_S)
    os.kill(os.getpid(), signal.SIGTERM)
    _at_work.acquire(timeout=GRACE_S)
    os._exit(128 + signal.SIGTERM)  # a pool's process would wait for its next member for ever


def has_ended(member: Member, digest: str | None) -> bool:
    """Say whether a member ran to its end with the config of this digest, and its run is there."""
    if member.status not in ENDED or member.config_digest != digest or member.run_id is None:
        return False
    try:
        return bool(show(member.run_id).record["config_digest"] == digest)
    except ConfigError:  # its folder is gone
        return False
