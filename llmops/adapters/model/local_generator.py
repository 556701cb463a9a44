"""Answer chats and score reference answers with the local model, tuned or not.

One base model in memory serves every contestant of a process. Rows of like length are worked on
together; answers come back in the order of the questions. Knows no prompt, metric or file of rows.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from llmops.adapters.model.background import in_background
from llmops.adapters.model.base import BaseModel, shared_base
from llmops.adapters.model.batching import ChatEncoder, Encoded, by_length, collate
from llmops.adapters.model.decoding import (
    Choose,
    Completion,
    complete,
    greedy,
    growing,
    sampler,
)
from llmops.adapters.model.fused import answer_nll
from llmops.errors import BackendError, DataError
from llmops.ports.model import Chat, GenerationSettings, ModelReference, Response, TokenScore
from llmops.ports.progress import Progress

SCORE_WINDOW_ROWS = 512  # pairs read ahead, to put those of like length together
SCORE_BATCH_ROWS = 8
HALF_A_CHARACTER = "\ufffd"  # what a text ends with while its last character lacks a token


def open_generator(
    config: Mapping[str, Any], reference: ModelReference, adapter: Path | None, cache: Path
) -> LocalGenerator:
    """Open the base model of the ``model`` config group, with the adapter in a folder if given.

    Raises:
        BackendError: If the model or the adapter is missing or damaged, or the reference names
            another base than the cached one.
    """
    base = shared_base(config, cache)
    if reference.base_sha256 not in (None, base.cached.sha256):
        raise BackendError(
            f"the model was tuned on other base weights ({str(reference.base_sha256)[:12]}...) "
            f"than the cached ones ({base.cached.sha256[:12]}...)",
            hint="tune again on this base: --force tune",
        )
    if reference.adapter and adapter is None:
        raise BackendError(
            f"the adapter {reference.adapter[:12]}... of the tuned model was not found",
            hint="run the experiment again with --force tune",
        )
    with base.lock:
        return LocalGenerator(base, base.load_adapter(adapter) if adapter else None)


class LocalGenerator:
    """A generator over the process's base model and at most one adapter."""

    can_score = True

    def __init__(self, base: BaseModel, adapter: str | None) -> None:
        self.base = base
        self.adapter = adapter
        self.encoder = ChatEncoder(base.tokenizer)
        self.context = int(base.model.config.max_position_embeddings)

    def generate(
        self, chats: Sequence[Chat], settings: GenerationSettings, progress: Progress
    ) -> Iterator[Response]:
        """Yield one response a chat, in order; see ``ports.model.Generator``."""
        prompts = [self.encoder.prompt(chat) for chat in chats]
        room = self.context - settings.max_new_tokens
        fits = [i for i, prompt in enumerate(prompts) if len(prompt) <= room]
        done: dict[int, Response] = {
            i: _too_long(len(prompt), room)
            for i, prompt in enumerate(prompts)
            if len(prompt) > room
        }
        for batch in by_length([len(prompts[i]) for i in fits], settings.batch_rows):
            rows = [fits[i] for i in batch]
            completions = self._complete([prompts[i] for i in rows], settings)
            for row, completion in zip(rows, completions, strict=True):
                done[row] = self._response(len(prompts[row]), completion)
            progress(len(done), len(chats), "answers")
        yield from (done[i] for i in range(len(chats)))

    def stream(self, chat: Chat, settings: GenerationSettings) -> Iterator[str | Response]:
        """Yield the answer in pieces, then the whole response; see ``ports.model.Generator``.

        The work is done by a thread of its own, which holds the model until the answer is whole
        or the iterator is closed, so that the pieces may be taken by any thread.
        """
        prompt = self.encoder.prompt(chat)
        room = self.context - settings.max_new_tokens
        if len(prompt) > room:
            yield _too_long(len(prompt), room)
        else:
            yield from in_background(lambda: self._pieces(prompt, settings))

    def _pieces(
        self, prompt: tuple[int, ...], settings: GenerationSettings
    ) -> Generator[str | Response, None, None]:
        said = ""
        completion = Completion((), stopped=False)
        with self.base.using(self.adapter):
            self.base.model.eval()
            for completion in growing(
                self.base,
                prompt,
                _choice([prompt], settings),
                end=self.encoder.end,
                max_new_tokens=settings.max_new_tokens,
            ):
                text = self._text(completion)
                if len(text) > len(said) and not text.endswith(HALF_A_CHARACTER):
                    yield text[len(said) :]
                    said = text
        response = self._response(len(prompt), completion)
        if len(response.text) > len(said):
            yield response.text[len(said) :]
        yield response

    def score(self, pairs: Iterable[tuple[Chat, str]], progress: Progress) -> Iterator[TokenScore]:
        """Yield the likelihood of each reference answer, in order; see ``Generator``."""
        source, scored = iter(pairs), 0
        while window := list(islice(source, SCORE_WINDOW_ROWS)):
            examples = [self.encoder.example(chat, answer) for chat, answer in window]
            for place, example in enumerate(examples, scored):
                self._demand_room(place, example)
            scores: dict[int, TokenScore] = {}
            for rows in by_length([len(one) for one in examples], SCORE_BATCH_ROWS):
                scores |= zip(rows, self._score([examples[i] for i in rows]), strict=True)
                progress(scored + len(scores), None, "references scored")
            scored += len(window)
            yield from (scores[i] for i in range(len(window)))

    def _complete(
        self, prompts: Sequence[tuple[int, ...]], settings: GenerationSettings
    ) -> list[Completion]:
        with self.base.using(self.adapter):
            self.base.model.eval()
            return complete(
                self.base,
                prompts,
                _choice(prompts, settings),
                end=self.encoder.end,
                max_new_tokens=settings.max_new_tokens,
            )

    def _response(self, prompt_tokens: int, completion: Completion) -> Response:
        reason = "stop" if completion.stopped else "length"
        # The end-of-text token is generated and paid for as well.
        tokens = len(completion.ids) + completion.stopped
        return Response(self._text(completion), reason, prompt_tokens, tokens)

    def _text(self, completion: Completion) -> str:
        return str(self.base.tokenizer.decode(list(completion.ids), skip_special_tokens=True))

    def _score(self, examples: Sequence[Encoded]) -> list[TokenScore]:
        batch = collate(examples, pad=self.base.pad, device=self.base.device.name)
        with self.base.using(self.adapter), torch.inference_mode():
            self.base.model.eval()
            hidden = self.base.hidden(batch.ids, batch.positions, batch.layout)
            losses = answer_nll(hidden[batch.at], self.base.head, batch.targets).double()
            sums = losses.new_zeros(len(examples)).index_add_(0, batch.owners, losses)
        return [
            TokenScore(float(nll), len(example.answer))
            for nll, example in zip(sums.tolist(), examples, strict=True)
        ]

    def _demand_room(self, place: int, example: Encoded) -> None:
        if len(example) > self.context:
            raise DataError(
                f"pair {place} has {len(example)} tokens, the model reads {self.context}",
                hint="lower dataset.rules.max_answer_characters or max_question_characters",
            )


def _choice(prompts: Sequence[tuple[int, ...]], settings: GenerationSettings) -> Choose:
    if not settings.temperature:
        return greedy
    # A row's chance follows from its prompt and the seed, not from its place among other rows.
    generators = [
        torch.Generator().manual_seed(_row_seed(prompt, settings.seed)) for prompt in prompts
    ]
    return sampler(generators, temperature=settings.temperature, top_p=settings.top_p)


def _row_seed(prompt: tuple[int, ...], seed: int) -> int:
    return int.from_bytes(sha256(f"{seed}:{prompt}".encode()).digest()[:8]) >> 1


def _too_long(tokens: int, room: int) -> Response:
    return Response(
        text="",
        finish_reason="error",
        prompt_tokens=tokens,
        output_tokens=0,
        error=f"the prompt has {tokens} tokens, the model has room for {room}",
    )
