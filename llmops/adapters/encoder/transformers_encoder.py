"""Encode texts with a transformer on this machine: the mean of its last layer, at length 1.

That is how the sentence-transformers models of this shape are meant to be read (Reimers and
Gurevych 2019); a model that pools otherwise gives other vectors. Needs no sentence-transformers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from llmops.adapters.encoder.files import find
from llmops.adapters.model.batching import by_length
from llmops.adapters.model.quiet import quietly
from llmops.errors import BackendError
from llmops.ports.progress import Progress
from llmops.processes import usable_cores

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BATCH_TEXTS = 64


def open_encoder(config: Mapping[str, Any], cache: Path) -> TransformersEncoder:
    """Open the encoder of the ``encoder`` config group from the cache.

    Raises:
        BackendError: If it is missing, damaged, or of an architecture that transformers lacks.
    """
    from transformers import AutoModel, AutoTokenizer

    cached = find(config, cache)
    torch.set_num_threads(usable_cores())
    try:
        with quietly():
            tokenizer = AutoTokenizer.from_pretrained(cached.folder, local_files_only=True)
            model = AutoModel.from_pretrained(
                cached.folder, local_files_only=True, use_safetensors=True, dtype=torch.float32
            )
    except (OSError, ValueError, KeyError) as exc:
        raise BackendError(f"{cached.source} cannot be opened as an encoder: {exc}") from exc
    return TransformersEncoder(model.eval(), tokenizer, int(config["max_tokens"]), cached.source)


class TransformersEncoder:
    """An encoder over one model; a text is read up to ``max_tokens`` tokens."""

    def __init__(self, model: Any, tokenizer: Any, max_tokens: int, source: str) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens
        self.dimensions = int(model.config.hidden_size)
        self.description = f"{source}, mean of the last layer, {max_tokens} tokens a text"

    def encode(self, texts: Sequence[str], progress: Progress) -> NDArray[np.float32]:
        """Return a row of length 1 for each text; see ``ports.model.Encoder``."""
        import numpy as np

        vectors = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        with quietly():
            ids = [self._ids(text) for text in texts]
        done = 0
        for rows in by_length([len(one) for one in ids], BATCH_TEXTS):
            vectors[rows] = self._pooled([ids[row] for row in rows])
            done += len(rows)
            progress(done, len(texts), "texts encoded")
        return vectors

    def _ids(self, text: str) -> list[int]:
        readable = text.encode("utf-8", "replace").decode("utf-8")  # no lone surrogates
        found: list[int] = self.tokenizer(readable, truncation=True, max_length=self.max_tokens)[
            "input_ids"
        ]
        return found

    def _pooled(self, batch: Sequence[list[int]]) -> NDArray[np.float32]:
        padded = self.tokenizer.pad({"input_ids": list(batch)}, return_tensors="pt")
        mask = padded["attention_mask"]
        with torch.inference_mode():
            hidden = self.model(input_ids=padded["input_ids"], attention_mask=mask)[0]
            weights = mask.unsqueeze(-1).to(hidden.dtype)
            mean = (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)
            unit: NDArray[np.float32] = torch.nn.functional.normalize(mean, dim=1).numpy()
        return unit
