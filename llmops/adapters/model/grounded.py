"""A generator whose chats carry retrieved passages: any generator, and what it is asked about.

Retrieves by the question itself, without the prompt around it, and holds the answer's citations
against the passages. The generator that it wraps knows nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from llmops.grounding.citing import Style, cited, grounded, question_of
from llmops.ports.model import Chat, GenerationSettings, Generator, Passage, Response, TokenScore
from llmops.ports.progress import Progress
from llmops.prompts.prompt import Prompt

Retrieve = Callable[[str], tuple[Passage, ...]]


class GroundedGenerator:
    """Answers with the passages that fit each question; see ``ports.model.Generator``."""

    def __init__(self, inner: Generator, prompt: Prompt, retrieve: Retrieve, style: Style) -> None:
        self.inner, self.prompt, self.retrieve, self.style = inner, prompt, retrieve, style
        self.can_score = inner.can_score

    def generate(
        self, chats: Sequence[Chat], settings: GenerationSettings, progress: Progress
    ) -> Iterator[Response]:
        """Yield one response a chat, in order, with its citations resolved."""
        passages = [self._passages(chat) for chat in chats]
        asked = [
            grounded(chat, found, self.style) for chat, found in zip(chats, passages, strict=True)
        ]
        for response, found in zip(
            self.inner.generate(asked, settings, progress), passages, strict=True
        ):
            yield cited(response, found)

    def stream(self, chat: Chat, settings: GenerationSettings) -> Iterator[str | Response]:
        """Yield the answer's text in pieces, and at last the response with its citations."""
        found = self._passages(chat)
        for piece in self.inner.stream(grounded(chat, found, self.style), settings):
            yield cited(piece, found) if isinstance(piece, Response) else piece

    def score(self, pairs: Iterable[tuple[Chat, str]], progress: Progress) -> Iterator[TokenScore]:
        """Yield the likelihood of each reference answer, given the passages too."""
        asked = (
            (grounded(chat, self._passages(chat), self.style), answer) for chat, answer in pairs
        )
        return self.inner.score(asked, progress)

    def _passages(self, chat: Chat) -> tuple[Passage, ...]:
        return self.retrieve(question_of(self.prompt, chat[-1].text))
