"""List, query, compare and site over many synthetic runs, as whole commands.

    .venv/bin/python benchmarks/past.py [RUNS ..., default 1000 10000]

``list, first`` reads every record; ``list, again`` reads none of them.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness import Sample, measure, publish

from tests.fakes.many_runs import write_runs


def main() -> None:
    counts = [int(text) for text in sys.argv[1:]] or [1000, 10_000]
    figures = {}
    for count in counts:
        folder = Path(tempfile.mkdtemp(prefix="llmops-benchmark-"))
        try:
            figures[str(count)] = _measured(folder, count)
        finally:
            shutil.rmtree(folder)
    publish("past", figures, ("duckdb", "jinja2"))


def _measured(folder: Path, count: int) -> dict[str, Sample]:
    write_runs(folder, count)
    for path in folder.glob("runs/*/*"):
        (path / "config.yaml").write_text("tuning: {max_steps: 40}\n")
    llmops = partial(_llmops, folder)
    first = llmops("runs", "list", "--json")
    names = [path.name for path in sorted(folder.glob("runs/so_python/*"))[:2]]
    found = {
        "list, first": first,
        "list, again": llmops("runs", "list", "--json"),
        "query": llmops("runs", "query", "SELECT experiment, count(*) FROM runs GROUP BY 1"),
        "compare": llmops("runs", "compare", *names, "--json"),
        "site": llmops("site", "--out", "public"),
    }
    index = (folder / "public" / "index.html").stat().st_size
    print(f"{count} runs; index.html {index / 1e6:.2f} MB")
    for name, sample in found.items():
        took = f"{sample.wall:7.2f} s  {sample.cpu:7.2f} CPU s  {sample.megabytes:5.0f} MB"
        print(f"  {name:14s} {took}")
    return found


def _llmops(folder: Path, *arguments: str) -> Sample:
    command = [sys.executable, "-m", "llmops", *arguments]
    return measure(command, cwd=folder, env={"LLMOPS_WORKSPACE": str(folder)})


if __name__ == "__main__":
    main()
