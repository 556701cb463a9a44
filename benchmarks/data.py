"""Preparing a dataset: our one pass against the notebook's flow and Hugging Face `datasets`.

    python benchmarks/data.py 100000 300000 1000000 5000000 same

Every contender is a process of its own (`data_contenders.py`) over the same rows; they run in
turn, each with nothing left to write or remove of the one before, and DuckDB may use DUCKDB_MEMORY
in each: 4GB, in which the join of a million rows fits. Above NOTEBOOK_UP_TO rows ours runs with the
1GB of conf/warehouse/duckdb.yaml too. Memory is the process's peak. Where the notebook's flow would
need more than NOTEBOOK_GB it is run once under that limit, to show where it stops. From ALONE_FROM
rows on ours runs alone, once, in 1GB, if the disk has room.
`same` runs ours 20 times with other settings each time and compares the digests.
The rows lie in LLMOPS_BENCH_ROWS, by default /tmp; CONTENDERS=ours,notebook measures those alone.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import median

from harness import OUT, ROUNDS, Sample, Summary, alternate, measure, publish, table

ROWS = Path(os.environ.get("LLMOPS_BENCH_ROWS", "/tmp"))
NOTEBOOK_UP_TO = 300_000  # it takes more than 30 KB of memory a row
NOTEBOOK_GB = int(os.environ.get("NOTEBOOK_GB", "16"))
ALONE_FROM = 5_000_000
DISK_BYTES_A_ROW = 9_000  # the tables, the spill, and the files
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


def written(rows: int) -> None:
    """Write the rows unless they are there; elsewhere, for a child's peak counts its parent's."""
    script = Path(__file__).parent / "data_rows.py"
    subprocess.run([sys.executable, str(script), str(rows), str(folder(rows))], check=True)


def contender(name: str, rows: int) -> Sample:
    shutil.rmtree(OUT / "data", ignore_errors=True)
    os.sync()
    command = [sys.executable, "-W", "ignore", str(SCRIPT), name, str(folder(rows))]
    return measure([*command, str(OUT / "data")], cwd=Path.cwd())


def compare(rows: int, rounds: int) -> dict[str, Summary]:
    """Measure all contenders over ``rows`` rows in turn; the notebook only where it fits."""
    names = ["ours", "datasets", "limit"]
    names.insert(1, "notebook" if rows <= NOTEBOOK_UP_TO else "ours_in_1gb")
    if only := os.environ.get("CONTENDERS"):
        names = [name for name in names if name in only.split(",")]
    contenders = {name: lambda name=name: contender(name, rows) for name in names}
    return alternate(contenders, rounds)


def notebook_stops(rows: int) -> str:
    """Run the notebook's flow with bounded memory; say how it ends."""
    command = [sys.executable, "-W", "ignore", str(SCRIPT), "notebook", str(folder(rows))]
    done = subprocess.run(
        [*command, str(OUT / "data")],
        env={**os.environ, "ADDRESS_SPACE_GB": str(NOTEBOOK_GB)},
        capture_output=True,
        text=True,
        check=False,
    )
    last = (done.stderr.strip().splitlines() or ["killed"])[-1]
    return "finished" if done.returncode == 0 else f"stopped: {last[:120]}"


def alone(rows: int) -> Sample | None:
    """Measure ours once, or return None where the disk is too small."""
    room = shutil.disk_usage(ROWS).free
    if room < rows * DISK_BYTES_A_ROW:
        print(f"\n{rows:,} rows need {rows * DISK_BYTES_A_ROW / 1e9:.0f} GB, {ROWS} has less")
        return None
    written(rows)
    return contender("ours_in_1gb", rows)


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


def ratios(summaries: dict[str, Summary], quantity: str) -> dict[str, float]:
    """Return how many times ours each contender takes: the median of the paired rounds."""
    ours = [getattr(sample, quantity) for sample in summaries["ours"].samples]
    return {
        name: median(
            getattr(sample, quantity) / mine
            for sample, mine in zip(summary.samples, ours, strict=True)
        )
        for name, summary in summaries.items()
    }


def main() -> None:
    sizes = [int(text) for text in sys.argv[1:] if text.isdecimal()] or [100_000, 300_000]
    rounds = int(os.environ.get("ROUNDS", ROUNDS))
    figures: dict[str, object] = {}
    for rows in sizes:
        if rows >= ALONE_FROM:
            if sample := alone(rows):
                print(f"\n{rows:,} joined rows, ours alone: {sample}", flush=True)
                figures[str(rows)] = {"ours": sample}
            continue
        written(rows)
        summaries = compare(rows, rounds)
        print(f"\n{rows:,} joined rows, {rounds} rounds in turn")
        table(summaries)
        times = {quantity: ratios(summaries, quantity) for quantity in ("wall", "cpu")}
        for quantity, found in times.items():
            told = {name: f"{ratio:.2f}" for name, ratio in found.items()}
            print(f"times the {quantity} seconds of ours: {told}", flush=True)
        figures[str(rows)] = {"summaries": summaries, "times": times}
        if rows > NOTEBOOK_UP_TO:
            ended = notebook_stops(rows)
            print(f"notebook with {NOTEBOOK_GB} GB: {ended}", flush=True)
            figures[f"{rows} notebook"] = ended
    if "same" in sys.argv:
        written(sizes[0])
        distinct = digests(sizes[0])
        print(f"digests over {len(SETTINGS)} runs with other settings: {len(distinct)}")
        figures["digests"] = len(distinct)
    publish("data", figures, ["duckdb", "pyarrow", "polars", "pandas", "datasets", "scikit-learn"])


if __name__ == "__main__":
    main()
