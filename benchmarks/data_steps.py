"""The peak memory of each data step by itself, against `dataset.memory_limit`.

    python benchmarks/data_steps.py 100000

Each step (validate, transform, split with near-duplicates) is a process of its own over the joined
rows of `data_rows.py`; its memory is the process's peak. LLMOPS_BENCH_ROWS as for `data.py`.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

from data import folder, written
from data_contenders import INSTRUCTION, JOIN, LONGEST, SEED, connect
from harness import OUT, measure, publish

LIMITS = ("256MB", "1GB")
CONFIG = {
    "columns": {"question": "input_text", "answer": "output_text"},
    "rules": {
        "min_question_characters": 1,
        "max_question_characters": LONGEST,
        "min_answer_characters": 1,
        "max_answer_characters": LONGEST,
        "max_bad_fraction": 0.5,
        "min_rows": 1,
    },
    "near_duplicates": {"threshold": 0.85, "shingle_words": 3, "permutations": 64},
    "prompt": {
        "name": "so_python",
        "instruction": INSTRUCTION,
        "template": "{{ instruction }}\n{{ question }}",
    },
    "split": {
        "method": "group",
        "train": 0.8,
        "validation": 0.0,
        "test": 0.2,
        "seed": SEED,
        "by": ["question", "answer", "near_duplicate"],
    },
    "formats": ["text_bison"],
    "version": "v1",
    "licence": "CC0-1.0",
    "source_terms": "none",
    "acknowledged_terms": ["none"],
}


def step(name: str, place: Path, limit: str) -> None:
    """Run one step over what the step before left in ``place``."""
    import msgspec

    from llmops.plan.kinds import Adapters, Work
    from llmops.steps import split, transform, validate

    kind = {"validate": validate, "transform": transform, "split": split}[name].KIND
    takes = {"validate": "rows", "transform": "validated", "split": "examples"}[name]
    given = {field.name: field for field in dataclasses.fields(kind.settings)}
    values = {key: value for key, value in CONFIG.items() if key in given}
    for default in ("texts", "personal", "tokens"):
        if default in given:
            values[default] = {}
    if "expectations" in given:
        values["expectations"] = []
    outputs = {port.name: place / port.name for port in kind.gives}
    if name == "validate":
        outputs["rows"] = place / "validated"
    kind.run(
        Work(
            step=name,
            key="0" * 64,
            run_id="benchmark",
            settings=msgspec.convert(values | {"memory_limit": limit}, kind.settings),
            inputs={kind.takes[0].name: place / takes},
            digests={},
            outputs=outputs,
            adapters=Adapters(*[None] * len(dataclasses.fields(Adapters))),
            progress=lambda done, total, note="": None,
            scratch=place / "scratch",
        )
    )


def join(place: Path, rows: Path) -> None:
    """Write the joined rows to ``place``."""
    with connect("1GB", place) as connection:
        joined = JOIN.format(rows=rows)
        connection.execute(f"COPY ({joined}) TO '{place}/rows' (FORMAT parquet)")


def main() -> None:
    rows = int(sys.argv[1])
    written(rows)
    place = OUT / "steps"
    place.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, __file__, "join", str(place), str(folder(rows))]
    measure(command, cwd=Path.cwd())  # not in this process, whose peak each child would begin with
    figures = {}
    for limit in LIMITS:
        for name in ("validate", "transform", "split"):
            command = [sys.executable, "-W", "ignore", __file__, name, str(place), limit]
            sample = measure(command, cwd=Path.cwd())
            figures[f"{name} {limit}"] = sample
            print(f"{rows:,} rows, memory_limit {limit}, {name}: {sample}", flush=True)
    publish("data_steps", figures, ["pyarrow", "polars"])


if __name__ == "__main__":
    if sys.argv[1].isdecimal():
        main()
    elif sys.argv[1] == "join":
        join(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        step(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
