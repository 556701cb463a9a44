"""Hit every file operation of every workload with every fault that fits it, and judge what is left.

    python -m tests.faults.campaign                          # all of it: thousands of injections
    python -m tests.faults.campaign --seed 2                 # other draws where not all is done
    python -m tests.faults.campaign --only run:kill:17       # one again, as a failure told it

Each injection works in a fresh copy of the workload's project: the fault strikes, what is left is
judged, then the same command runs again undisturbed and has to end in the same bytes.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tests.faults import invariants
from tests.faults.injection import FAULTS, Ended, Fault, operate
from tests.faults.workloads import GC, WORKLOADS, Workload, in_this_process

PROMISED = (0, 3, 5)  # done; refused; a backend failed
KILLED = -9
REMEMBERED = (Path(".llmops", "composed"), Path(".llmops", "store", "scratch", "report"))
AGE_S = 600
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None  # where fsync costs nothing


@dataclass(frozen=True)
class Bench:
    """A workload's project, its operations and the results of an undisturbed run."""

    workload: Workload
    project: Path
    operations: tuple[str, ...]
    results: dict[str, Any]


def bench(workload: Workload, folder: Path) -> Bench:
    """Prepare a workload and run it once, undisturbed."""
    if workload.starts_threads:
        bench(WORKLOADS["run"], folder)  # warms what both need, and starts none
    project = folder / workload.name / "project"
    project.mkdir(parents=True)
    workload.prepare(project)
    _warm(workload, project)
    with _copy(project) as (copy, log):
        ended = operate(workload.work, copy, log, Fault())
        assert ended.code == 0, ended.said
        return Bench(workload, project, ended.operations, workload.results(copy))


def _warm(workload: Workload, project: Path) -> None:
    """Do the work once, so that forks find everything imported, composed and drawn."""
    with _copy(project) as (copy, log):
        modules = log.with_suffix(".modules")
        if not workload.starts_threads:
            with contextlib.chdir(copy), contextlib.redirect_stdout(io.StringIO()):
                workload.work()
        elif (pid := os.fork()) == 0:
            _work_and_tell(workload, copy, modules)
        else:
            os.waitpid(pid, 0)
            for name in modules.read_text("ascii").split():
                with contextlib.suppress(Exception):
                    import_module(name)
        for folder in REMEMBERED:
            if (copy / folder).exists():
                shutil.copytree(copy / folder, project / folder)


def _work_and_tell(workload: Workload, folder: Path, modules: Path) -> None:
    """Do the work in a fork and write down which modules it needed."""
    try:
        os.chdir(folder)
        with contextlib.redirect_stdout(io.StringIO()):
            workload.work()
        modules.write_text("\n".join(sorted(set(sys.modules) - {"__main__"})), "ascii")
    finally:
        os._exit(0)


def injections(ready: Bench, kinds: Sequence[str] = FAULTS) -> Iterator[Fault]:
    """Yield every fault that fits an operation of the workload."""
    for kind in kinds:
        for at, operation in enumerate(ready.operations, 1):
            if Fault(kind, at).fits(operation):
                yield Fault(kind, at)


def inject(ready: Bench, fault: Fault) -> list[str]:
    """Let one fault strike, run again, and return what is wrong."""
    with _copy(ready.project) as (copy, log):
        struck = operate(ready.workload.work, copy, log, fault)
        wrong = [*_message(struck, fault), *invariants.violations(copy)]
        wrong += ready.workload.lost(copy, struck.said)
        again = operate(ready.workload.work, copy, log, Fault())
        if again.code:
            return [*wrong, f"the second run ended with {again.code}: {again.said[-2000:]}"]
        wrong += invariants.violations(copy)
        if ready.workload.results(copy) != ready.results:
            wrong.append("the second run ended in other results than an undisturbed one")
        _age(copy)
        cleared = operate(GC, copy, log, Fault())
        if cleared.code:
            wrong.append(f"gc ended with {cleared.code}: {cleared.said[-2000:]}")
        wrong += [f"left behind: {name}" for name in invariants.left_behind(copy)]
        return wrong


def _age(workspace: Path) -> None:
    """Let the folders of runs be old enough for ``runs gc`` to see that nothing works in them."""
    for path in (workspace / "runs").rglob("*"):
        os.utime(path, (time.time() - AGE_S,) * 2, follow_symlinks=False)


def _message(struck: Ended, fault: Fault) -> list[str]:
    if fault.kind in ("kill", "short"):
        return [] if struck.code == KILLED else [f"was not killed: {struck.code}"]
    wrong = []
    if struck.code not in PROMISED:
        wrong.append(f"ended with {struck.code}: {struck.said[-2000:]}")
    if "this is a bug" in struck.said:
        wrong.append(f"was called a bug: {struck.said[-2000:]}")
    if struck.code and "error:" not in struck.said and "hint:" not in struck.said:
        wrong.append(f"ended with {struck.code} and no message: {struck.said[-500:]}")
    return wrong


class _copy:
    """A copy of a project in a folder of its own, and a place for the log beside it."""

    def __init__(self, project: Path) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="llmops-fault-", dir=MEMORY))
        self.project = project

    def __enter__(self) -> tuple[Path, Path]:
        copy = self.folder / "project"
        shutil.copytree(self.project, copy, symlinks=True)
        return copy, self.folder / "said.log"

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


# ------------------------------------------------------------ the whole campaign


def main(argv: Sequence[str]) -> int:
    """Run the campaign and return 1 if anything was wrong."""
    arguments = _arguments(argv)
    started = time.monotonic()
    done = wrong = 0
    for name in _names(arguments.only):
        # A process for each: what one workload leaves running is not there when another forks.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
            told = alone.submit(_campaign, name, arguments).result()
        print(told.text, flush=True)
        done, wrong = done + told.done, wrong + told.wrong
    seconds = time.monotonic() - started
    print(f"{done} injections, {wrong} wrong, seed {arguments.seed}, {seconds:.0f} s")
    return int(wrong > 0)


@dataclass(frozen=True)
class Told:
    """What came of a workload: how many injections, how many of them wrong, and the text of it."""

    done: int
    wrong: int
    text: str


def _campaign(name: str, arguments: argparse.Namespace) -> Told:
    in_this_process()
    folder = Path(tempfile.mkdtemp(prefix="llmops-campaign-"))
    try:
        ready = bench(WORKLOADS[name], folder)
        faults = _chosen(ready, arguments)
        failed = list(_all(ready, faults, arguments.processes))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    operations, done, wrong = len(ready.operations), len(faults), len(failed)
    lines = [f"{name:12s} {operations:5d} operations {done:6d} injections {wrong:4d} wrong"]
    for fault, found in failed:
        operation = ready.operations[fault.at - 1]
        lines += [f"  --only {name}:{fault.kind}:{fault.at}  ({operation})"]
        lines += [f"    {line}" for line in found]
    return Told(done, wrong, "\n".join(lines))


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.campaign")
    parser.add_argument("--only", help="WORKLOAD or WORKLOAD:FAULT:NUMBER")
    parser.add_argument("--most", type=int, help="at most so many of each workload, drawn by seed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    return parser.parse_args(argv)


def _names(only: str | None) -> list[str]:
    return [only.partition(":")[0]] if only else list(WORKLOADS)


def _chosen(ready: Bench, arguments: argparse.Namespace) -> list[Fault]:
    if arguments.only and ":" in arguments.only:
        _, kind, at = arguments.only.split(":")
        return [Fault(kind, int(at))]
    every = list(injections(ready))
    if ready.workload.many:
        every = one_each(every, arguments.seed)
    return drawn(every, arguments.most, arguments.seed)


def one_each(faults: Sequence[Fault], seed: int) -> list[Fault]:
    """Return one of each operation's faults, drawn by the seed, in the order of operations."""
    fitting: dict[int, list[Fault]] = {}
    for fault in faults:
        fitting.setdefault(fault.at, []).append(fault)
    draw = random.Random(seed)
    return [draw.choice(fitting[at]) for at in sorted(fitting)]


def drawn(faults: list[Fault], most: int | None, seed: int) -> list[Fault]:
    """Return at most so many of the faults, drawn by the seed, in their order."""
    if most is None or most >= len(faults):
        return faults
    chosen = set(random.Random(seed).sample(range(len(faults)), most))
    return [fault for number, fault in enumerate(faults) if number in chosen]


_READY: Bench | None = None


def _all(
    ready: Bench, faults: Sequence[Fault], processes: int
) -> Iterator[tuple[Fault, list[str]]]:
    global _READY
    _READY = ready  # forks find it here: everything is imported and composed already
    with get_context("fork").Pool(processes) as pool:
        for fault, lines in zip(faults, pool.imap(_one, faults, chunksize=4), strict=True):
            if lines:
                yield fault, lines


def _one(fault: Fault) -> list[str]:
    assert _READY is not None
    return inject(_READY, fault)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
