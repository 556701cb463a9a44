"""The folder of a sweep, ``runs/sweeps/<id>/``: what was asked, its members, what came of each.

    sweep.json          what was asked, the chosen member, the outcome
    members/<id>.json   one member; written by the process that runs it, whole or not at all
    stop                there if no further member is to start, and why
    lock                held by the process that runs the sweep

A sweep's id is its experiment and the digest of what was asked, so that the same command finds
the same folder. A member's id is its number and the digest of its overrides.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from llmops.artifacts import digest
from llmops.errors import ConfigError, LlmopsError, Refused, nearest
from llmops.files import disk_errors, read_text, write_text
from llmops.lineage.record import tuned_loss
from llmops.processes import still_running, this_process

SCHEMA = 2
SETTING = "LLMOPS_WORKSPACE"
ENDED = ("succeeded", "refused")  # what is not done again; a refusal is a result
LOCK_WAIT_S = 60.0


@dataclass(frozen=True)
class Member:
    """One member. ``status`` is ``waiting``, ``running``, or a run's; ``died`` if its process did.

    ``money`` is what it may cost or did cost, null if nobody knows; ``value`` is the figure that
    the sweep decides by.
    """

    id: str
    number: int
    overrides: tuple[str, ...]
    status: str = "waiting"
    config_digest: str | None = None
    experiment: str | None = None
    run_id: str | None = None
    step: str | None = None
    exit_code: int | None = None
    problem: str | None = None
    hint: str | None = None
    seconds: float | None = None
    cached_steps: int | None = None
    steps: int | None = None
    money: float | None = None
    value: float | None = None
    tuned_loss: float | None = None
    process: Mapping[str, Any] | None = None
    written: str = ""


@dataclass(frozen=True)
class SweepFolder:
    """A sweep's folder; every file in it is whole."""

    path: Path

    @property
    def id(self) -> str:
        """The sweep's id."""
        return self.path.name

    def asked(self) -> dict[str, Any]:
        """Return ``sweep.json``.

        Raises:
            ConfigError: If it cannot be read.
            BackendError: If the system refuses for now.
        """
        try:
            return _object(self.path / "sweep.json")
        except (OSError, ValueError) as exc:
            raise ConfigError(
                f"{self.path} holds no readable sweep ({exc})",
                hint="python -m llmops sweeps list",
            ) from exc

    def note(self, **changes: Any) -> dict[str, Any]:
        """Change entries of ``sweep.json`` and return it."""
        document = {**self.asked(), **changes}
        self._write("sweep.json", document)
        return document

    def write(self, member: Member) -> Member:
        """Write one member's file, with the moment; returns it so."""
        now = replace(member, written=datetime.now(UTC).isoformat(timespec="milliseconds"))
        self._write(f"members/{member.id}.json", asdict(now))
        return now

    def members(self) -> list[Member]:
        """Return the members by number; one whose process is gone is ``died``.

        A file that cannot be read is left out: its member is run again.
        """
        found = []
        for path in (self.path / "members").glob("*.json"):
            with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
                found.append(_member(_object(path), path.stem))
        if not found:
            found = _members_of_first_release(self.asked())
        return sorted(found, key=lambda member: (member.number, member.id))

    def stop(self, why: str) -> None:
        """Let no further member start; the first reason stays."""
        if self.stopped() is None:
            with disk_errors(self.path, setting=SETTING):
                write_text(self.path / "stop", why)

    def stopped(self) -> str | None:
        """Return why no further member may start, or None."""
        try:
            return read_text(self.path / "stop")
        except FileNotFoundError:
            return None

    def go_on(self) -> None:
        """Let members start again."""
        (self.path / "stop").unlink(missing_ok=True)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Hold the sweep: one process at a time runs it; a killed one lets go.

        Raises:
            Refused: If another process runs it.
        """
        from filelock import FileLock, Timeout

        try:
            with FileLock(self.path / "lock", timeout=0):
                self.note(process=this_process())
                yield
        except Timeout as exc:
            process = self.asked().get("process") or {}
            raise Refused(
                f"sweep {self.id} is being run by process {process.get('pid', 'unknown')}",
                hint=f"watch it: python -m llmops sweeps show {self.id}",
            ) from exc

    @contextlib.contextmanager
    def ledger(self) -> Iterator[None]:
        """Hold what members may change only one at a time: numbers and money."""
        from filelock import FileLock

        with FileLock(self.path / "ledger", timeout=LOCK_WAIT_S):
            yield

    def _write(self, name: str, value: Mapping[str, Any]) -> None:
        with disk_errors(self.path, setting=SETTING):
            text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
            write_text(self.path / name, text + "\n")


def sweep_id(experiment: str, identity: object) -> str:
    """Return the id of a sweep: the same for the same experiment and what was asked of it."""
    return f"{experiment}-{digest(identity)[:10]}"


def member_id(number: int, overrides: Sequence[str]) -> str:
    """Return a member's id: its number, for people, and the digest of its overrides."""
    return f"{number:03}-{digest(list(overrides))[:8]}"


def open_sweep(workspace: Path, name: str, asked: Mapping[str, Any]) -> SweepFolder:
    """Open the folder of a sweep, or make it and write what was asked.

    Raises:
        BackendError: If the disk refuses.
    """
    folder = SweepFolder(workspace / "runs" / "sweeps" / name)
    with disk_errors(workspace / "runs", setting=SETTING):
        (folder.path / "members").mkdir(parents=True, exist_ok=True)
    try:
        folder.asked()
    except ConfigError:  # new, or torn by a crash of another program
        now = datetime.now(UTC).isoformat(timespec="seconds")
        folder._write("sweep.json", {"schema": SCHEMA, "id": name, "started": now, **asked})
    return folder


def all_sweeps(workspace: Path) -> list[SweepFolder]:
    """Return the sweeps of a workspace, the one that began last first."""
    found = [SweepFolder(path.parent) for path in (workspace / "runs/sweeps").glob("*/sweep.json")]
    return sorted(found, key=_began, reverse=True)


def find_sweep(workspace: Path, name: str) -> SweepFolder:
    """Find a sweep by its id or the beginning of it.

    Raises:
        ConfigError: If none or several fit, with the nearest id.
    """
    known = {sweep.id: sweep for sweep in all_sweeps(workspace)}
    fitting = [name] if name in known else [each for each in known if each.startswith(name)]
    if len(fitting) == 1:
        return known[fitting[0]]
    if fitting:
        raise ConfigError(f"several sweeps start with '{name}'", hint=", ".join(sorted(fitting)))
    raise ConfigError(
        f"there is no sweep '{name}' under {workspace / 'runs' / 'sweeps'}",
        hint=f"{nearest(name, known)} python -m llmops sweeps list".strip(),
    )


def failed(member: Member, error: LlmopsError) -> Member:
    """Return the member as one that did not get as far as a run's end, or whose run failed."""
    return replace(
        member,
        status="failed",
        step=None,
        exit_code=error.exit_code,
        problem=error.problem,
        hint=error.hint or None,
    )


def finished(member: Member, record: Mapping[str, Any], exit_code: int) -> Member:
    """Return the member with what its run's record says."""
    error = record.get("error") or {}
    actual = ((record.get("estimates") or {}).get("total") or {}).get("actual") or {}
    return replace(
        member,
        status=record["status"],
        experiment=record["experiment"],
        run_id=record["run_id"],
        config_digest=record["config_digest"],
        step=None,
        exit_code=exit_code,
        problem=error.get("problem"),
        hint=error.get("hint") or None,
        seconds=record["seconds"],
        cached_steps=sum(step["status"] == "cached" for step in record["steps"]),
        steps=len(record["steps"]),
        money=(actual.get("money") or {}).get("value"),
        tuned_loss=tuned_loss(record),
    )


def _began(sweep: SweepFolder) -> str:
    try:
        asked = sweep.asked()
    except ConfigError:
        return ""
    return str(asked.get("started") or f"{sweep.id[:4]}-{sweep.id[4:6]}-{sweep.id[6:8]}")


_FIELDS = frozenset(Member.__dataclass_fields__)


def _object(path: Path) -> dict[str, Any]:
    found = json.loads(read_text(path))
    if not isinstance(found, dict):
        raise ValueError("it is no JSON object")
    return found


def _member(document: Mapping[str, Any], stem: str) -> Member:
    known = {name: value for name, value in document.items() if name in _FIELDS}
    known.setdefault("id", stem)
    known.setdefault("number", 0)
    member = Member(**{**known, "overrides": tuple(document["overrides"])})
    if member.status == "running" and still_running(member.process) is False:
        return replace(
            member,
            status="died",
            exit_code=5,
            problem="its process was killed",
            hint="was the machine short of memory? resume the sweep",
        )
    return member


def _members_of_first_release(asked: Mapping[str, Any]) -> list[Member]:
    """Read the members that release 0.1.0 collected in ``sweep.json``."""
    return [
        _member({**member, "number": number}, member_id(number, member["overrides"]))
        for number, member in enumerate(asked.get("members") or (), 1)
    ]
