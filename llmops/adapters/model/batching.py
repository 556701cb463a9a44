"""From chats to token batches: encoding, truncation, length-sorted batches, the shared layout.

Knows the tokenizer's chat template and nothing of gradients or generation.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from llmops.adapters.model.attention import SharedPrefix, causal_mask, shared_prefix
from llmops.errors import ConfigError
from llmops.ports.model import Chat, Message


@dataclass(frozen=True)
class Encoded:
    """A prompt and its answer as token ids; a whole answer ends with the end-of-text token."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    truncated: bool = False

    @property
    def ids(self) -> tuple[int, ...]:
        """Prompt and answer."""
        return self.prompt + self.answer

    def __len__(self) -> int:
        return len(self.prompt) + len(self.answer)


@dataclass(frozen=True)
class Batch:
    """A layout's tokens, and where in it the next token is one of an answer.

    ``at[i]`` is the position, in the layout's order, whose hidden state predicts ``targets[i]``;
    ``owners[i]`` is that answer's row. ``tokens`` counts what the rows hold without sharing.
    """

    ids: Tensor  # (1, prefix + rows * length)
    positions: Tensor  # like ids
    layout: SharedPrefix
    at: Tensor
    targets: Tensor
    owners: Tensor
    tokens: int


class ChatEncoder:
    """Renders chats with the tokenizer's own template and encodes them."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.end = int(tokenizer.eos_token_id)

    def prompt(self, chat: Chat) -> tuple[int, ...]:
        """Return the tokens after which the model is to answer."""
        return self._ids(self._render(chat, open_turn=True))

    def example(self, chat: Chat, answer: str, *, max_tokens: int | None = None) -> Encoded:
        """Encode a prompt and its answer up to the end-of-text token, cut at ``max_tokens``.

        Raises:
            ConfigError: If the template renders a finished chat unlike an open one.
        """
        opened = self._render(chat, open_turn=True)
        closed = self._render((*chat, Message("assistant", answer)), open_turn=False)
        if not closed.startswith(opened):
            raise ConfigError(
                "the model's chat template does not end a prompt where the answer begins",
                hint="choose a model whose template supports a generation prompt",
            )
        prompt, rest = self._ids(opened), self._up_to_end(self._ids(closed[len(opened) :]))
        if max_tokens is None or len(prompt) + len(rest) <= max_tokens:
            return Encoded(prompt, rest)
        return Encoded(prompt, rest[: max(0, max_tokens - len(prompt))], truncated=True)

    def _render(self, chat: Chat, *, open_turn: bool) -> str:
        turns = [{"role": message.role, "content": message.text} for message in chat]
        return str(
            self.tokenizer.apply_chat_template(
                turns, tokenize=False, add_generation_prompt=open_turn
            )
        )

    def _ids(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer(text, add_special_tokens=False).input_ids)

    def _up_to_end(self, ids: tuple[int, ...]) -> tuple[int, ...]:
        """Drop what the template writes after the end-of-text token: it is never generated."""
        last = max((i for i, token in enumerate(ids) if token == self.end), default=None)
        return ids if last is None else ids[: last + 1]


def by_length(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Return batches of indices, shortest rows first, so that little is padding."""
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], i))
    return [order[start : start + size] for start in range(0, len(order), size)]


def epoch_batches(lengths: Sequence[int], size: int, *, seed: int, epoch: int) -> list[list[int]]:
    """Return one epoch's batches: rows of like length together, batches in random order.

    Rows of equal length change partners from epoch to epoch. The same arguments give the same
    batches, so a resumed run finds its place by counting.
    """
    draw = random.Random(f"{seed}:{epoch}")
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], draw.random()))
    batches = [order[start : start + size] for start in range(0, len(order), size)]
    draw.shuffle(batches)
    return batches


def steps_of_epochs(lengths: Sequence[int], size: int, *, seed: int) -> Iterator[list[int]]:
    """Yield batches for ever, epoch after epoch."""
    epoch = 0
    while True:
        yield from epoch_batches(lengths, size, seed=seed, epoch=epoch)
        epoch += 1


def collate(examples: Sequence[Encoded], *, pad: int, device: str = "cpu") -> Batch:
    """Lay out examples as one sequence behind their shared prefix.

    The prefix ends before the last prompt token of any row, so that every row keeps the position
    that predicts its first answer token.
    """
    shortest = min(len(example.prompt) for example in examples)
    prefix = shared_prefix([example.prompt for example in examples], most=shortest - 1)
    length = max(len(example) for example in examples) - prefix
    ids = list(examples[0].prompt[:prefix])
    at: list[int] = []
    targets: list[int] = []
    owners: list[int] = []
    for row, example in enumerate(examples):
        own = example.ids[prefix:]
        first = len(ids) + len(example.prompt) - prefix - 1
        ids += [*own, *[pad] * (length - len(own))]
        at += range(first, first + len(example.answer))
        targets += example.answer
        owners += [row] * len(example.answer)
    own_positions = torch.arange(prefix, prefix + length).repeat(len(examples))
    return Batch(
        ids=torch.tensor([ids], device=device),
        positions=torch.cat([torch.arange(prefix), own_positions])[None].to(device),
        layout=SharedPrefix(
            prefix, len(examples), length, causal_mask(length, prefix, torch.device(device))
        ),
        at=torch.tensor(at, dtype=torch.long, device=device),
        targets=torch.tensor(targets, dtype=torch.long, device=device),
        owners=torch.tensor(owners, dtype=torch.long, device=device),
        tokens=sum(len(example) for example in examples),
    )
