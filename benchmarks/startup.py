"""CPU seconds until llmops answers, against a bare ``import hydra``.

    python benchmarks/startup.py

Five alternating runs of each command; user and system time of the whole process. Prints a table of
medians and ratios and writes ``benchmarks/out/startup.json``.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
from pathlib import Path

RUNS = 5
BASE = "import hydra"
COMMANDS = {
    BASE: ["-c", "import hydra"],
    "llmops --help": ["-m", "llmops", "--help"],
    "llmops validate +experiment=so_python": ["-m", "llmops", "validate", "+experiment=so_python"],
}
REACH = {"llmops --help": 0.1, "llmops validate +experiment=so_python": 0.6}
OUT = Path(__file__).resolve().parent / "out" / "startup.json"


def cpu_seconds(arguments: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime)


def measured() -> dict[str, list[float]]:
    for arguments in COMMANDS.values():  # once before, so that bytecode is written
        cpu_seconds(arguments)
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(RUNS):
        for name, arguments in COMMANDS.items():
            seconds[name].append(cpu_seconds(arguments))
    return seconds


def main() -> None:
    seconds = measured()
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    print(f"{'command':<40}{'CPU s':>7}{'least':>7}{'most':>7}{'ratio':>7}{'reach':>7}")
    for name, median in medians.items():
        ratio, reach = median / medians[BASE], REACH.get(name)
        low, high = min(seconds[name]), max(seconds[name])
        shown = f"{reach:.1f}" if reach else "-"
        print(f"{name:<40}{median:>7.3f}{low:>7.3f}{high:>7.3f}{ratio:>7.2f}{shown:>7}")
    OUT.parent.mkdir(exist_ok=True)
    machine = {"processor": platform.machine(), "cores": os.cpu_count()}
    found = {"machine": machine, "python": platform.python_version(), "cpu_seconds": seconds}
    OUT.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
