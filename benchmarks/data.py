"""Preparing a dataset: our one pass against the notebook's flow and Hugging Face `datasets`.

    python benchmarks/data.py 100000 300000 1000000

Every contender is a process of its own (`data_contenders.py`) over the same rows; they run in
turn. Memory is the process's peak. `same` runs ours 20 times with other settings each time and
compares the digests. The rows lie in LLMOPS_BENCH_ROWS, by default /tmp; CONTENDERS=ours,notebook
measures those alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from data_rows import write
from harness import OUT, ROUNDS, Sample, Summary, alternate, measure, publish, table

ROWS = Path(os.environ.get("LLMOPS_BENCH_ROWS", "/tmp"))
NOTEBOOK_UP_TO = 300_000  # it takes 30 KB of memory a row
LIMIT_MB = 1000
SCRIPT = Path(__file__).parent / "data_contenders.py"
SETTINGS = [
    {
        "THREADS": str(1 + number % 3),
        "BATCH": str((512, 2048, 8192, 20000)[number % 4]),
        "EXPECTED": str((0, 10**9, 10**11)[number % 3]),
        "MEMORY": ("150MB", "512MB", "1GB", "4GB", "1GB")[number % 5],
        "AHEAD": str(1 + number % 4),
        "ORDER": ("", " ORDER BY q.id", " ORDER BY q.id DESC", " ORDER BY a.body")[number // 5],
    }
    for number in range(20)
]


def folder(rows: int) -> Path:
    return ROWS / f"llmops-rows-{rows}"


def contender(name: str, rows: int) -> Sample:
    command = [sys.executable, "-W", "ignore", str(SCRIPT), name, str(folder(rows))]
    return measure([*command, str(OUT / "data")], cwd=Path.cwd())


def compare(rows: int, rounds: int) -> dict[str, Summary]:
    """Measure all contenders over ``rows`` rows in turn; the notebook only where it fits."""
    names = ["ours", "datasets", "limit"]
    if rows <= NOTEBOOK_UP_TO:
        names.insert(1, "notebook")
    if only := os.environ.get("CONTENDERS"):
        names = [name for name in names if name in only.split(",")]
    contenders = {name: lambda name=name: contender(name, rows) for name in names}
    return alternate(contenders, rounds)


def digests(rows: int) -> set[str]:
    """Run ours with every setting that must not matter; return the digests."""
    found = set()
    command = [sys.executable, str(SCRIPT), "ours", str(folder(rows)), str(OUT / "data")]
    for settings in SETTINGS:
        done = subprocess.run(
            command, env={**os.environ, **settings}, capture_output=True, text=True, check=True
        )
        found.add(json.dumps(json.loads(done.stdout)["files"]))
    return found


def ratios(summaries: dict[str, Summary]) -> dict[str, float]:
    """Return how many times ours each contender takes: the median of the paired rounds."""
    ours = [sample.wall for sample in summaries["ours"].samples]
    return {
        name: sorted(s.wall / o for s, o in zip(summary.samples, ours, strict=True))[len(ours) // 2]
        for name, summary in summaries.items()
    }


def main() -> None:
    sizes = [int(text) for text in sys.argv[1:] if text.isdecimal()] or [100_000, 300_000]
    rounds = int(os.environ.get("ROUNDS", ROUNDS))
    figures: dict[str, object] = {}
    for rows in sizes:
        write(rows, folder(rows))
        summaries = compare(rows, rounds)
        print(f"\n{rows:,} joined rows, {rounds} rounds in turn")
        table(summaries)
        told = {name: f"{ratio:.1f}" for name, ratio in ratios(summaries).items()}
        print(f"times the wall time of ours: {told}", flush=True)
        figures[str(rows)] = {"summaries": summaries, "ratios": ratios(summaries)}
    if "same" in sys.argv:
        write(sizes[0], folder(sizes[0]))
        found = digests(sizes[0])
        print(f"digests over {len(SETTINGS)} runs with other settings: {len(found)}")
        figures["digests"] = len(found)
    publish("data", figures, ["duckdb", "pyarrow", "polars", "pandas", "datasets", "scikit-learn"])


if __name__ == "__main__":
    main()
