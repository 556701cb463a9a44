"""Questions and answers as Stack Overflow has them in shape, not in sense: rows for benchmarks.

    python benchmarks/data_rows.py 300000 /tmp/llmops-rows-300k

Writes ``posts_questions.parquet`` and ``posts_answers.parquet``: about 3 KB a joined row, of which
1% are exact duplicates and 0.5% lack a title or an answer. The same number gives the same files.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

SEED = 7
CHUNK_ROWS = 20_000
WORDS = 30_000
SHARED = 300  # (question, answer) pairs that duplicates are drawn from, the same in every chunk
MARKUP = (
    *("the", "to", "a", "I", "is", "in", "and", "of", "for", "it", "with", "this", "that", "not"),
    *("</p>\n\n<p>", "<code>", "</code>", "</code></pre>\n\n<p>", "</p>\n\n<pre><code>import os\n"),
    *(
        "self.value =",
        "def f(x):\n    return x",
        "&lt;div&gt;",
        "&amp;",
        '"key"',
        "\n",
        "\t",
        "C:\\",
    ),
    *("http://example.com/a/b?c=1", "don\u2019t", "caf\u00e9", "\u65e5\u672c\u8a9e", "\U0001f600"),
)


def vocabulary() -> np.ndarray:
    """Return words, the frequent ones first."""
    draw = np.random.RandomState(SEED)
    syllables = [a + b for a in "bcdfghklmnprstvw" for b in ("a", "e", "i", "o", "u", "en", "ar")]
    made = {"".join(draw.choice(syllables, draw.randint(1, 5))) for _ in range(2 * WORDS)}
    return np.array([*MARKUP, *sorted(made)[:WORDS]], dtype=object)


def texts(draw: np.random.RandomState, words: np.ndarray, rows: int, median: int) -> list[str]:
    """Return texts whose lengths in words are spread as real posts' are: log-normal."""
    lengths = np.clip(draw.lognormal(np.log(median), 0.8, rows), 3, 4000).astype(int)
    total = int(lengths.sum())
    frequent = draw.random_sample(total) < 0.5
    picked = np.where(
        frequent,
        draw.randint(0, len(MARKUP), total),
        (draw.random_sample(total) ** 3 * (len(words) - 1)).astype(int),
    )
    tokens, ends = words[picked].tolist(), np.cumsum(lengths).tolist()
    return [" ".join(tokens[end - size : end]) for size, end in zip(lengths, ends, strict=True)]


def chunk(number: int, rows: int, words: np.ndarray) -> Iterator[pa.Table]:
    """Yield one chunk's questions, then its answers."""
    draw, shared = np.random.RandomState(SEED + 1 + number), np.random.RandomState(SEED)
    titles, bodies, answers = (texts(draw, words, rows, m) for m in (9, 150, 130))
    twins = [texts(shared, words, SHARED, m) for m in (9, 150, 130)]
    for row in np.flatnonzero(draw.random_sample(rows) < 0.01):
        twin = draw.randint(SHARED)
        titles[row], bodies[row], answers[row] = (column[twin] for column in twins)
    lacking = draw.random_sample(rows)
    ids = np.arange(number * CHUNK_ROWS, number * CHUNK_ROWS + rows)
    accepted = ids + 10**9
    yield pa.table(
        {
            "id": ids,
            "title": pa.array(
                [t if d > 0.002 else None for t, d in zip(titles, lacking, strict=True)]
            ),
            "body": [f"<p>{body}</p>" for body in bodies],
            "accepted_answer_id": accepted,
            "tags": [f"python|tag{n % 50}" for n in ids.tolist()],
            "creation_date": pa.array(
                (1_577_836_800 + ids * 60) * 10**6, pa.timestamp("us", "UTC")
            ),
        }
    )
    order = draw.permutation(rows)
    yield pa.table(
        {
            "id": accepted,
            "body": pa.array(
                [
                    None if d > 0.997 else f"<p>{a}</p>"
                    for a, d in zip(answers, lacking, strict=True)
                ]
            ),
            "creation_date": pa.array(
                (1_577_836_900 + ids * 60) * 10**6, pa.timestamp("us", "UTC")
            ),
        }
    ).take(order)


def write(rows: int, folder: Path) -> None:
    """Write both tables unless they are there."""
    if (folder / "done").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    words, writers = vocabulary(), {}
    names = ("posts_questions", "posts_answers")
    for number, start in enumerate(range(0, rows, CHUNK_ROWS)):
        made = chunk(number, min(CHUNK_ROWS, rows - start), words)
        for name, table in zip(names, made, strict=True):
            if name not in writers:
                writers[name] = pq.ParquetWriter(
                    folder / f"{name}.parquet", table.schema, compression="zstd"
                )
            writers[name].write_table(table)
    for writer in writers.values():
        writer.close()
    (folder / "done").touch()


if __name__ == "__main__":
    write(int(sys.argv[1]), Path(sys.argv[2]))
