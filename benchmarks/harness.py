"""What every benchmark here shares: fresh processes, alternating order, medians, the machine.

A command is measured whole: wall time, and the CPU time of the process and of every descendant
that it waited for. What is compared runs in turn, first one first, then the other one first, so
that neither always profits from the other's warm caches.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

ROUNDS = 5
OUT = Path(__file__).parent / "out"


@dataclass(frozen=True)
class Sample:
    """One measured process: seconds of wall and CPU time, and the largest process in megabytes."""

    wall: float
    cpu: float
    megabytes: float


@dataclass(frozen=True)
class Summary:
    """Medians of the samples, with all of them."""

    wall: float
    cpu: float
    megabytes: float
    samples: tuple[Sample, ...]


def measure(command: Sequence[str], *, cwd: Path, env: Mapping[str, str] | None = None) -> Sample:
    """Run ``command`` to its end and return what it took.

    Raises:
        RuntimeError: If it fails, with what it printed.
    """
    log = OUT / "last_command.log"
    log.parent.mkdir(exist_ok=True)
    with log.open("wb") as output:
        started = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}: see {log}")
    scale = 1 << 20 if sys.platform == "darwin" else 1 << 10
    return Sample(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / scale)


def alternate(
    contenders: Mapping[str, Callable[[], Sample]], rounds: int = ROUNDS
) -> dict[str, Summary]:
    """Measure each contender ``rounds`` times, in turn, after one round that does not count."""
    for contender in contenders.values():
        contender()
    samples: dict[str, list[Sample]] = {name: [] for name in contenders}
    for number in range(rounds):
        order = list(contenders.items())
        for name, contender in order if number % 2 == 0 else reversed(order):
            samples[name].append(contender())
    return {name: _summary(found) for name, found in samples.items()}


def publish(name: str, figures: Mapping[str, Any], packages: Sequence[str] = ()) -> None:
    """Print the figures with the machine, and write them to ``benchmarks/out/<name>.json``."""
    report = {"benchmark": name, "machine": machine(packages), **figures}
    OUT.mkdir(exist_ok=True)
    (OUT / f"{name}.json").write_text(json.dumps(report, indent=1, default=asdict) + "\n", "utf-8")
    print(f"machine: {report['machine']}")


def table(summaries: Mapping[str, Summary]) -> None:
    """Print the medians, one line a contender, with the range of the wall times."""
    print(f"{'':38s} {'wall s':>8s} {'CPU s':>8s} {'MB':>6s}   wall s, all")
    for name, summary in summaries.items():
        walls = " ".join(f"{sample.wall:.2f}" for sample in summary.samples)
        print(
            f"{name:38s} {summary.wall:8.3f} {summary.cpu:8.3f} {summary.megabytes:6.0f}   {walls}"
        )


def machine(packages: Sequence[str] = ()) -> str:
    """Return one line: processor, cores, memory, system, Python and the named packages."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    versions = [f"{name} {version(name)}" for name in packages]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parts = [
        _processor(),
        f"{cores} cores",
        f"{memory:.0f} GB",
        platform.platform(terse=True),
        f"Python {platform.python_version()}",
        *versions,
    ]
    return ", ".join(parts)


def _summary(samples: Sequence[Sample]) -> Summary:
    return Summary(
        wall=median(sample.wall for sample in samples),
        cpu=median(sample.cpu for sample in samples),
        megabytes=median(sample.megabytes for sample in samples),
        samples=tuple(samples),
    )


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
