"""Generation speed: batches against one row at a time, through the same generator.

    python benchmarks/generation.py [--runs 5] [--rows 48] [--batch-rows 48]

The same questions, greedy, the same number of new tokens at most; each run in a fresh process, the
two in turn. One by one answers the first six questions only: its speed does not depend on how many
there are. Loading is not timed, and one short answer beforehand warms up.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

from tuning import INSTRUCTION, OUT, model, rows

from llmops.adapters.catalog import model_cache

NEW_TOKENS = 48
ONE_BY_ONE_ROWS = 6


def measure(batch_rows, count):
    from llmops.adapters.model.local_generator import open_generator
    from llmops.ports.model import GenerationSettings, Message, ModelReference

    reference = ModelReference(provider="local", base="")
    generator = open_generator(model(), reference, None, model_cache())
    chats = [(Message("user", INSTRUCTION + question),) for question, _ in rows(count)]
    if batch_rows == 1:
        chats = chats[:ONE_BY_ONE_ROWS]
    list(generator.generate(chats[:1], GenerationSettings(4), quiet))
    settings = GenerationSettings(NEW_TOKENS, batch_rows=batch_rows)
    started = time.perf_counter()
    answers = list(generator.generate(chats, settings, quiet))
    seconds = time.perf_counter() - started
    tokens = sum(answer.output_tokens for answer in answers)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    print(json.dumps({"tokens": tokens, "rate": tokens / seconds, "peak_mb": peak}))


def quiet(done, total, note=""):
    """Report progress to nobody."""


def fresh(batch_rows, count):
    options = ["--measure", "--batch-rows", str(batch_rows), "--rows", str(count)]
    command = [sys.executable, "-W", "ignore", __file__, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--rows", type=int, default=48)
    parser.add_argument("--batch-rows", type=int, default=48)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.batch_rows, arguments.rows)
        return
    batches, single = [], []
    for _ in range(arguments.runs):
        batches.append(fresh(arguments.batch_rows, arguments.rows))
        single.append(fresh(1, arguments.rows))
        print(f"{batches[-1]['rate']:8.0f} {single[-1]['rate']:8.0f} tokens/s", file=sys.stderr)
    report({f"{arguments.batch_rows} at a time": batches, "one by one": single})


def report(results):
    batches, single = results.values()
    pairs = zip(batches, single, strict=True)
    ratio = statistics.median(many["rate"] / one["rate"] for many, one in pairs)
    print(f"{'':<16}{'tokens/s':>10}{'lowest':>10}{'highest':>10}{'peak MB':>10}")
    for what, runs in results.items():
        each = [run["rate"] for run in runs]
        peak = max(run["peak_mb"] for run in runs)
        middle = statistics.median(each)
        print(f"{what:<16}{middle:10.0f}{min(each):10.0f}{max(each):10.0f}{peak:10.0f}")
    print(f"batches are {ratio:.1f} times one by one (median of the pairs)")
    OUT.mkdir(exist_ok=True)
    machine = {"processor": platform.processor(), "cores": len(os.sched_getaffinity(0))}
    text = json.dumps({"machine": machine, "ratio": ratio, "runs": results}, indent=1)
    Path(OUT / "generation.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
