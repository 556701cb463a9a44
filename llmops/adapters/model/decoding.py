"""Generate token by token for a batch of prompts, with room for keys and values set aside once.

The prompts' shared prefix is computed once; a row that has ended leaves the batch. Works on token
ids; knows no text, chat or settings file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from llmops.adapters.model.attention import SharedPrefix, grouped_attention
from llmops.adapters.model.base import BaseModel
from llmops.adapters.model.batching import Encoded, collate

SHRINK_AT = 0.75  # drop ended rows when at most this share of a batch is still open

Choose = Callable[[Tensor, Sequence[int]], Tensor]
"""From logits (rows, vocabulary) and the rows' places, the next token ids (rows,)."""


@dataclass(frozen=True)
class Completion:
    """One answer's tokens, without the end-of-text token; ``stopped`` says that it came."""

    ids: tuple[int, ...]
    stopped: bool


@dataclass
class Memory:
    """Keys and values by layer, (rows, key heads, capacity, size); ``used`` columns are filled.

    ``mask`` is (rows, 1, capacity): minus infinity at a row's padding. A token's column says
    nothing of its position, which is part of the keys.
    """

    capacity: int
    mask: Tensor
    used: int = 0
    keys: dict[int, Tensor] = field(default_factory=dict)
    values: dict[int, Tensor] = field(default_factory=dict)

    def fill(self, layer: int, key: Tensor, value: Tensor) -> None:
        """Keep a prompt's states: (rows, key heads, tokens, size)."""
        for store, states in ((self.keys, key), (self.values, value)):
            rows, heads, tokens, size = states.shape
            store[layer] = states.new_zeros(rows, heads, self.capacity, size)
            store[layer][:, :, :tokens] = states

    def keep(self, rows: Tensor) -> None:
        """Forget all rows but these."""
        self.mask = self.mask[rows]
        for store in (self.keys, self.values):
            for layer, states in store.items():
                store[layer] = states[rows]


@dataclass(frozen=True)
class Prefill:
    """The layout of the prompts; fills the memory on the way."""

    prompts: SharedPrefix
    memory: Memory

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """See ``attention.Layout``."""
        self.memory.fill(layer, self.prompts.keys(key), self.prompts.keys(value))
        return self.prompts.attend(layer, query, key, value, scale)


@dataclass(frozen=True)
class NextToken:
    """The layout of one new token a row, laid out as a sequence of rows."""

    memory: Memory

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """See ``attention.Layout``."""
        column, seen = self.memory.used, self.memory.used + 1
        keys, values = self.memory.keys[layer], self.memory.values[layer]
        keys[:, :, column] = key[0].transpose(0, 1)
        values[:, :, column] = value[0].transpose(0, 1)
        out = grouped_attention(
            query[0].transpose(0, 1).unsqueeze(2),
            keys[:, :, :seen],
            values[:, :, :seen],
            self.memory.mask[:, :, :seen],
            scale,
        )
        return out.transpose(1, 2).reshape(1, len(keys), out.shape[1], -1)


def complete(
    base: BaseModel,
    prompts: Sequence[tuple[int, ...]],
    choose: Choose,
    *,
    end: int,
    max_new_tokens: int,
) -> list[Completion]:
    """Complete every prompt until ``end`` comes or ``max_new_tokens`` are out."""
    state = _Batch(base, prompts, end, max_new_tokens)
    for _ in _growing(state, choose, max_new_tokens):
        pass
    return state.completions()


def growing(
    base: BaseModel,
    prompt: tuple[int, ...],
    choose: Choose,
    *,
    end: int,
    max_new_tokens: int,
) -> Iterator[Completion]:
    """Yield the completion of one prompt as it is after each token."""
    state = _Batch(base, [prompt], end, max_new_tokens)
    for _ in _growing(state, choose, max_new_tokens):
        yield state.completions()[0]


@torch.inference_mode()
def _growing(state: _Batch, choose: Choose, max_new_tokens: int) -> Iterator[None]:
    logits = state.prefill()
    for _ in range(max_new_tokens):
        state.accept(choose(logits, state.open))
        yield
        if not state.open or len(state.answers[state.open[0]]) == max_new_tokens:
            break
        logits = state.next_logits()


class _Batch:
    """A batch on its way: which rows are still open and what each has said."""

    def __init__(
        self, base: BaseModel, prompts: Sequence[tuple[int, ...]], end: int, new_tokens: int
    ) -> None:
        self.base, self.end = base, end
        # The whole prompt but its last token needs no answer position: any answer will do here.
        self.laid_out = collate(
            [Encoded(prompt, (end,)) for prompt in prompts], pad=base.pad, device=base.device.name
        )
        self.open = list(range(len(prompts)))
        self.answers: list[list[int]] = [[] for _ in prompts]
        self.stopped = [False] * len(prompts)
        self.lengths = torch.tensor([len(p) for p in prompts], device=base.device.name)
        self.in_memory = list(self.open)
        self.memory = self._memory(new_tokens)

    def _memory(self, new_tokens: int) -> Memory:
        layout = self.laid_out.layout
        used = layout.prefix + layout.length
        mask = torch.zeros(layout.rows, 1, used + new_tokens, device=self.lengths.device)
        columns = torch.arange(used, device=self.lengths.device)
        padding = columns[None] >= self.lengths[:, None]
        mask[:, 0, :used].masked_fill_(padding, float("-inf"))
        return Memory(used + new_tokens, mask, used)

    def prefill(self) -> Tensor:
        """Read the prompts; return the logits of each first answer token."""
        layout = Prefill(self.laid_out.layout, self.memory)
        hidden = self.base.hidden(self.laid_out.ids, self.laid_out.positions, layout)
        return self._logits(hidden[self.laid_out.at])

    def accept(self, tokens: Tensor) -> None:
        """Take the chosen token of every open row; close the rows that end."""
        for row, token in zip(list(self.open), tokens.tolist(), strict=True):
            if token == self.end:
                self.stopped[row] = True
                self.open.remove(row)
            else:
                self.answers[row].append(token)

    def next_logits(self) -> Tensor:
        """Feed each open row's last token; return the logits of the one after it."""
        self._shrink()
        said = [self.answers[row] for row in self.in_memory]
        device = self.lengths.device
        ids = torch.tensor([[words[-1] if words else self.end for words in said]], device=device)
        spoken = torch.tensor([len(words) - 1 for words in said], device=device)
        positions = (self.lengths[self.in_memory] + spoken).clamp_(min=0)
        hidden = self.base.hidden(ids, positions[None], NextToken(self.memory))
        self.memory.used += 1
        open_rows = set(self.open)
        at = [i for i, row in enumerate(self.in_memory) if row in open_rows]
        return self._logits(hidden if len(at) == len(hidden) else hidden[at])

    def completions(self) -> list[Completion]:
        """Return what every row said, in the order of the prompts."""
        return [
            Completion(tuple(ids), stopped)
            for ids, stopped in zip(self.answers, self.stopped, strict=True)
        ]

    def _logits(self, hidden: Tensor) -> Tensor:
        return (hidden @ self.base.head.t()).float()

    def _shrink(self) -> None:
        if len(self.open) <= SHRINK_AT * len(self.in_memory):
            open_rows = set(self.open)
            kept = [i for i, row in enumerate(self.in_memory) if row in open_rows]
            self.memory.keep(torch.tensor(kept, device=self.lengths.device))
            self.in_memory = [self.in_memory[i] for i in kept]


def greedy(logits: Tensor, _: Sequence[int]) -> Tensor:
    """Choose the likeliest token."""
    return logits.argmax(-1)


def sampler(generators: Sequence[torch.Generator], *, temperature: float, top_p: float) -> Choose:
    """Return a choice by chance among the likeliest tokens whose shares reach ``top_p``.

    Each row draws from its own generator, so that its answer does not depend on its neighbours.
    """

    def choose(logits: Tensor, rows: Sequence[int]) -> Tensor:
        shares, tokens = torch.softmax(logits / temperature, -1).sort(-1, descending=True)
        before = shares.cumsum(-1) - shares
        shares = shares.masked_fill(before >= top_p, 0.0).cpu()
        picks = [
            torch.multinomial(shares[i], 1, generator=generators[row]) for i, row in enumerate(rows)
        ]
        return tokens.gather(1, torch.stack(picks).to(tokens.device))[:, 0]

    return choose
