"""Counts tokens: by a tokenizer of this machine, or by an estimate that says so.

Knows no row; ``tokenizers`` is imported only where a ``tokenizer.json`` is named.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from llmops.data.settings import Tokens
from llmops.errors import ConfigError, MissingExtra

BYTES_A_TOKEN = 4  # of the estimate: about what English prose and code come to


class Counter:
    """Counts the tokens of texts."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokenizer = None if tokens.tokenizer is None else _open(Path(tokens.tokenizer))
        self.method = "estimate" if self._tokenizer is None else Path(str(tokens.tokenizer)).name

    def count(self, texts: pa.Array) -> npt.NDArray[np.int64]:
        """Return tokens a text; 0 for a null."""
        if self._tokenizer is None:
            sizes = pc.fill_null(pc.binary_length(texts), 0).to_numpy(zero_copy_only=False)
            estimated: npt.NDArray[np.int64] = -(-sizes.astype(np.int64) // BYTES_A_TOKEN)
            return estimated
        encoded = self._tokenizer.encode_batch_fast(
            [text or "" for text in texts.to_pylist()], add_special_tokens=False
        )
        return np.array([len(one.ids) for one in encoded], np.int64)


def _open(path: Path) -> Any:
    try:
        from tokenizers import Tokenizer
    except ModuleNotFoundError as exc:
        raise MissingExtra(
            "dataset.tokens.tokenizer needs the package 'tokenizers'",
            hint="pip install 'llmops[local]', or set dataset.tokens.tokenizer=null",
        ) from exc
    if not path.is_file():
        raise ConfigError(
            f"dataset.tokens.tokenizer: there is no file {path}",
            hint="name a tokenizer.json, or set it to null for an estimate",
        )
    try:
        return Tokenizer.from_file(str(path))
    except Exception as exc:
        raise ConfigError(
            f"dataset.tokens.tokenizer: {path} is no tokenizer.json ({exc})",
            hint="name a tokenizer.json, or set it to null for an estimate",
        ) from exc
