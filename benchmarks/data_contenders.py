"""One preparation of one dataset, as a process of its own: ours, the notebook's, `datasets`'.

    python benchmarks/data_contenders.py ours /tmp/llmops-rows-300000 /tmp/out

Each reads the same two tables, joins them, drops rows without a title or an answer, rows over
20,000 characters and exact duplicates, renders the prompt, splits 80:20, writes JSONL and hashes
the files. Prints one line of JSON: rows, bytes, digest.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import sys
from importlib.abc import MetaPathFinder
from pathlib import Path

INSTRUCTION = (
    "Please answer the following Stackoverflow question on Python. Answer it like you are a "
    "developer answering Stackoverflow questions.\n\nStackoverflow question:"
)
LONGEST = 20_000
SEED = 42
DUCKDB_MEMORY = os.environ.get("DUCKDB_MEMORY", "4GB")  # the notebook's flow gets more
JOIN = (
    "SELECT q.title || ' ' || q.body AS input_text, a.body AS output_text "
    "FROM '{rows}/posts_questions.parquet' q JOIN '{rows}/posts_answers.parquet' a "
    "ON q.accepted_answer_id = a.id"
)


class WithoutPandas(MetaPathFinder):
    """Hides pandas: llmops does not depend on it, but pyarrow imports it wherever it finds it."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname == "pandas":
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)


def connect(memory: str, out: Path, threads: int = 2):
    import duckdb

    connection = duckdb.connect()
    connection.execute(f"SET memory_limit='{memory}'; SET threads={threads}")
    connection.execute(f"SET temp_directory='{out}/duckdb'; SET preserve_insertion_order=false")
    return connection


def ours(rows: Path, out: Path, memory: str = DUCKDB_MEMORY) -> dict:
    """The streaming pipeline; the environment changes what must not change the result."""
    sys.meta_path.insert(0, WithoutPandas())
    from llmops.adapters.warehouse.duckdb import BATCH_ROWS
    from llmops.data import buckets, stream
    from llmops.data.cleaning import Asked
    from llmops.data.settings import Columns, NearDuplicates, Rules, SplitSettings, Texts
    from llmops.prompts.prompt import Prompt

    limit = os.environ.get("MEMORY", "1GB")
    batch = int(os.environ.get("BATCH", BATCH_ROWS))
    expected = sum(path.stat().st_size for path in rows.glob("*.parquet")) * 3  # they are packed
    expected = int(os.environ.get("EXPECTED", expected))
    stream.AHEAD = int(os.environ.get("AHEAD", stream.AHEAD))
    buckets.BUCKET_BYTES = int(os.environ.get("BUCKET", buckets.BUCKET_BYTES))
    prompt = Prompt("so_python", INSTRUCTION, "{{ instruction }}\n{{ question }}")
    asked = Asked(
        Columns("input_text", "output_text"),
        Rules(1, LONGEST, 1, LONGEST, 0.5, 1),
        Texts("keep", "keep", "keep"),
        memory_limit=limit,
    )
    split = SplitSettings("hash", 0.8, 0.0, 0.2, SEED, ())
    near = NearDuplicates(0.85, 3, 64)  # not looked for: a row's own hash decides its side
    formats = ("text_bison",)
    wanted = stream.Wanted(
        prompt.render, prompt.around(), None, split, formats, "v1", near, expected_bytes=expected
    )
    to = stream.Output(out / "files", out / "quarantined.parquet", out / "spill")
    query = JOIN.format(rows=rows) + os.environ.get("ORDER", "")

    def batches():
        with connect(memory, out, int(os.environ.get("THREADS", "2"))) as connection:
            yield from connection.sql(query).to_arrow_reader(batch)

    made = stream.stream(batches(), asked, wanted, to, lambda done, total, note="": None)
    return {
        "rows": made.rows,
        "digest": made.version.digest,
        "files": [f.sha256 for f in made.files],
    }


def ours_in_1gb(rows: Path, out: Path) -> dict:
    """Ours with DuckDB's limit as in conf/warehouse/duckdb.yaml: larger joins spill to disk."""
    return ours(rows, out, "1GB")


def notebook(rows: Path, out: Path) -> dict:
    """The course's flow: everything into pandas, ``train_test_split``, ``to_json``."""
    from sklearn.model_selection import train_test_split

    with connect("18GB", out) as connection:
        frame = connection.sql(JOIN.format(rows=rows)).to_arrow_table().to_pandas()
    frame = frame[frame.input_text.notna() & frame.output_text.notna()]
    frame = frame[(frame.input_text.str.strip() != "") & (frame.output_text.str.strip() != "")]
    frame = frame[
        (frame.input_text.str.len() <= LONGEST) & (frame.output_text.str.len() <= LONGEST)
    ]
    frame = frame.drop_duplicates(subset=["input_text", "output_text"])
    frame["input_text_instruct"] = INSTRUCTION + "\n" + frame["input_text"]
    train, test = train_test_split(frame, test_size=0.2, random_state=SEED)
    paths = []
    for name, side in (("train", train), ("test", test)):
        text = side[["input_text_instruct", "output_text"]].to_json(orient="records", lines=True)
        paths.append(out / f"{name}.jsonl")
        paths[-1].write_text(text, encoding="utf-8")
    return {"rows": {"train": len(train), "test": len(test)}, "files": [_sha256(p) for p in paths]}


def hugging_face(rows: Path, out: Path) -> dict:
    """Hugging Face ``datasets``: the join in DuckDB, the rest batched maps and filters."""
    os.environ |= {"HF_HOME": str(out / "hf"), "HF_DATASETS_OFFLINE": "1"}
    joined = out / "joined.parquet"
    with connect(DUCKDB_MEMORY, out) as connection:
        connection.execute(f"COPY ({JOIN.format(rows=rows)}) TO '{joined}' (FORMAT parquet)")
    import datasets

    datasets.disable_progress_bars()
    found = datasets.load_dataset("parquet", data_files=str(joined), split="train")
    seen: set[bytes] = set()

    def wanted(batch):
        keep = []
        for question, answer in zip(batch["input_text"], batch["output_text"], strict=True):
            good = bool(question and answer and question.strip() and answer.strip())
            good = good and len(question) <= LONGEST and len(answer) <= LONGEST
            if good:
                key = hashlib.sha256(f"{len(question)}:{question}{answer}".encode()).digest()
                good = key not in seen
                seen.add(key)
            keep.append(good)
        return keep

    found = found.filter(wanted, batched=True)
    found = found.map(
        lambda batch: {
            "input_text_instruct": [f"{INSTRUCTION}\n{text}" for text in batch["input_text"]]
        },
        batched=True,
        remove_columns=["input_text"],
    )
    sides = found.train_test_split(test_size=0.2, seed=SEED)
    paths = []
    for name in ("train", "test"):
        paths.append(out / f"{name}.jsonl")
        sides[name].to_json(paths[-1])
    return {
        "rows": {name: len(sides[name]) for name in sides},
        "files": [_sha256(p) for p in paths],
    }


def limit(rows: Path, out: Path) -> dict:
    """What the machine must do at least: join and scan, encode, hash and write, no more."""
    import polars as pl

    names = ["input_text", "output_text"]
    encoded = pl.concat_str(pl.struct(names).struct.json_encode(), pl.lit("\n"))
    total, number = hashlib.sha256(), 0
    with connect(DUCKDB_MEMORY, out) as connection, (out / "all.jsonl").open("wb") as file:
        for batch in connection.sql(JOIN.format(rows=rows)).to_arrow_reader(2048):
            lines = pl.from_arrow(batch).select(encoded.str.join("")).item()
            block = lines.encode()
            total.update(block)
            file.write(block)
            number += batch.num_rows
    return {"rows": {"all": number}, "files": [total.hexdigest()]}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


CONTENDERS = {
    "ours": ours,
    "ours_in_1gb": ours_in_1gb,
    "notebook": notebook,
    "datasets": hugging_face,
    "limit": limit,
}


if __name__ == "__main__":
    if _cap := os.environ.get("ADDRESS_SPACE_GB"):
        resource.setrlimit(resource.RLIMIT_AS, (int(_cap) << 30, int(_cap) << 30))
    _name, _rows, _out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    shutil.rmtree(_out, ignore_errors=True)
    _out.mkdir(parents=True)
    print(json.dumps(CONTENDERS[_name](_rows, _out)))
