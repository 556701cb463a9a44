"""List, query, compare and site over many synthetic runs, as whole commands.

    .venv/bin/python benchmarks/past.py [RUNS ..., default 1000 10000]

``list, first`` reads every record; ``list, again`` reads none of them. Where Chromium is installed,
says also after how many milliseconds the site's index is laid out, and an empty page beside it.
"""

from __future__ import annotations

import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness import Sample, measure, publish

from tests.fakes.many_runs import write_runs

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')
TIMED = """<script>addEventListener("load", () => {
  document.body.getBoundingClientRect();
  document.documentElement.dataset.opened = performance.now();
})</script></body>"""
EMPTY = "<!doctype html><html><body><p>nothing</p></body></html>"
TIMES = 5


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
    if CHROMIUM:
        page = (folder / "public" / "index.html").read_text("utf-8")
        opened = {name: _opened(folder, text) for name, text in (("index", page), ("empty", EMPTY))}
        print(
            f"  laid out after {opened['index']:.0f} ms, an empty page after {opened['empty']:.0f}"
        )
    return found


def _opened(folder: Path, page: str) -> float:
    """Return after how many milliseconds a page is laid out, the median of ``TIMES``."""
    path = folder / "timed.html"
    path.write_text(POLICY.sub("", page).replace("</body>", TIMED), "utf-8")
    return statistics.median(_opened_once(path) for _ in range(TIMES))


def _opened_once(path: Path) -> float:
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking")
    with tempfile.TemporaryDirectory() as profile:
        command = [str(CHROMIUM), *flags, f"--user-data-dir={profile}", "--dump-dom", path.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    found = re.search(r'data-opened="([0-9.]+)"', done.stdout)
    assert found, "the page did not say when it was laid out"
    return float(found[1])


def _llmops(folder: Path, *arguments: str) -> Sample:
    command = [sys.executable, "-m", "llmops", *arguments]
    return measure(command, cwd=folder, env={"LLMOPS_WORKSPACE": str(folder)})


if __name__ == "__main__":
    main()
