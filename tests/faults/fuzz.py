"""Feed the config loader or the reader of JSON Lines with bytes that coverage guides.

    make fuzz                                            # both, a minute each
    python -m tests.faults.fuzz rows -max_total_time=60  # one; the rest is libFuzzer's

A crash is anything but one of llmops' own errors. libFuzzer writes the bytes to a file whose name
it tells; given that file, it tries them again. Runs on Linux, with the extra ``fuzz``.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["llmops.config.documents", "llmops.data.own_files"]):
    from llmops.config.documents import read
    from llmops.data.own_files import read_files

from llmops.errors import DataError

FOLDER = Path(tempfile.gettempdir(), "llmops-fuzz")
SEEDS = {
    "config": (
        b"# @package _global_\nname: a\nversion: v1\n",
        b"list: [1, 2.5, null, 'x']\nkey: ${secret:NAME}\n",
        b"defaults:\n  - override /model: null\n",
    ),
    "rows": (
        b'{"prompt": "a", "response": "b"}\n',
        b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}',
        b'{"contents": [{"role": "user", "parts": [{"text": "a"}]}]}',
        b'{"instruction": "a", "output": "b", "tags": ["x"]}',
    ),
}
LONGEST_BYTES = 2_000


def config(content: bytes) -> None:
    """Read a config file: a document, or its problems."""
    path = FOLDER / "fuzzed.yaml"
    path.write_bytes(content)
    document = read(path, "conf/fuzzed.yaml")
    assert document.usable or document.problems


def rows(content: bytes) -> None:
    """Read JSON Lines: rows, at most one a line, or an error that names the line."""
    path = FOLDER / "fuzzed.jsonl"
    path.write_bytes(content)
    try:
        found = sum(batch.num_rows for batch in read_files([path]))
    except DataError as error:
        if "fuzzed.jsonl, line" not in error.problem:
            raise AssertionError("an error without its line") from error
    else:
        assert found <= content.count(b"\n") + 1


TARGETS: Mapping[str, Callable[[bytes], None]] = {"config": config, "rows": rows}


def main(argv: Sequence[str]) -> None:
    """Fuzz the target that the first argument names; does not return."""
    program, name, *options = argv
    corpus = FOLDER / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(SEEDS[name]):
        (corpus / f"seed-{number}").write_bytes(seed)
    tries_again = any(not option.startswith("-") for option in options)
    given = options if tries_again else [f"-max_len={LONGEST_BYTES}", *options, str(corpus)]
    atheris.Setup([program, *given], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv)
