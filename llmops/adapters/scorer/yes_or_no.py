"""A causal language model on this machine that says how likely it answers Yes, and not No.

Any architecture that transformers knows, by its own code: nothing is tuned or generated here. Knows
no policy and no threshold.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from llmops.adapters.model.device import choose_device
from llmops.adapters.model.quiet import quietly
from llmops.adapters.model.weights import PULL, find
from llmops.errors import BackendError
from llmops.ports.model import Chat

WORDS = ("Yes", "No")


class YesOrNo:
    """The model in memory; one caller at a time."""

    def __init__(self, config: Mapping[str, Any], cache: Path) -> None:
        """Load the model of a ``model`` section of kind ``local`` out of the cache.

        Raises:
            BackendError: If it is not there, cannot be loaded, or has no words for Yes and No.
        """
        folder = find(config, cache).folder
        self.device = choose_device(config)
        self._lock = threading.Lock()
        try:
            with quietly():
                self._load(folder)
        except (OSError, ValueError, KeyError, RuntimeError) as exc:
            raise BackendError(f"{folder} cannot be loaded: {exc}", hint=PULL) from exc
        first = [self.tokenizer(word, add_special_tokens=False).input_ids[0] for word in WORDS]
        if first[0] == first[1]:
            raise BackendError(
                f"{folder} has one token for the beginnings of Yes and No",
                hint="choose a guard model that answers with either",
            )
        self.words = torch.tensor(first, device=self.device.name)

    def _load(self, folder: Path) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=self.device.dtype, use_safetensors=True, local_files_only=True
        )
        self.model = model.requires_grad_(False).to(self.device.name).eval()

    def likelihoods(self, chats: Sequence[Chat]) -> list[float | None]:
        """Return for each chat the probability of Yes among Yes and No, in [0, 1].

        Null where the likeliest next token is neither, or the chat does not fit: no verdict.
        """
        with self._lock, torch.inference_mode():
            return [self._likelihood(chat) for chat in chats]

    def _likelihood(self, chat: Chat) -> float | None:
        turns = [{"role": message.role, "content": message.text} for message in chat]
        text = self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        ids = self.tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
        if ids.shape[1] > self.model.config.max_position_embeddings:
            return None
        logits = self.model(ids.to(self.device.name), logits_to_keep=1).logits[0, -1].float()
        if logits.argmax() not in self.words:
            return None
        yes, no = logits[self.words].tolist()
        return 1 / (1 + math.exp(no - yes))
