"""What the log keeps of one answer and of one feedback, and what privacy leaves out.

Texts are masked before they are written, or only their keyed digests are kept, or nothing. Knows
no file and no route.
"""

from __future__ import annotations

import hmac
import io
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, Literal

import orjson

from llmops.data import personal

Privacy = Literal["content", "digests", "none"]
TAG_HEX = 8  # characters of an id that prove who gave it
ID = re.compile(r"ans_[0-9a-f]{24}_[0-9a-f]{8}")


@dataclass(frozen=True)
class Keeping:
    """How texts are kept: ``mask`` names kinds of personal data, ``region`` telephone numbers'."""

    privacy: Privacy
    mask: tuple[str, ...]
    region: str
    key: bytes

    def text(self, name: str, text: str) -> dict[str, Any]:
        """Return the fields that tell of a text: its length, and what privacy allows."""
        fields: dict[str, Any] = {f"{name}_characters": len(text)}
        if self.privacy == "content":
            fields[name] = self.masked(text)
        elif self.privacy == "digests":
            fields[f"{name}_digest"] = keyed_digest(text, self.key)
        return fields

    def masked(self, text: str) -> str:
        """Return a text with its personal data and secrets replaced by their kinds."""
        kinds = dict.fromkeys(personal.likely(text, self.mask), "")
        if not kinds:
            return text
        return personal.mask(text, personal.find(text, kinds, self.region))


@dataclass(frozen=True)
class AnswerRecord:
    """One answer; times are UTC, seconds and tokens plain numbers, money in ``currency``.

    ``route`` is the command or path that was asked, ``client`` the name of the token. ``action`` is
    the gravest thing that the policy did, ``blocked_by`` the layers that blocked.
    """

    id: str
    route: str
    client: str
    session: str | None
    model: str
    version: int | None
    model_digest: str
    prompt_sha256: str
    question: str
    answer: str
    finish_reason: str
    blocked: bool
    action: str
    blocked_by: Sequence[str]
    scores: Mapping[str, float | None]
    latency_s: float
    prompt_tokens: int
    output_tokens: int
    cost: float | None
    currency: str | None
    error: str | None = None


class _Chance:
    """Random bytes of the system, many fetched at a time; a fork has its own."""

    AT_ONCE = 4096

    def __init__(self) -> None:
        self.forget()
        os.register_at_fork(after_in_child=self.forget)

    def forget(self) -> None:
        self._bytes = io.BytesIO()

    def draw(self, size: int) -> bytes:
        """Return ``size`` bytes that were never returned before."""
        found = self._bytes.read(size)
        if len(found) == size:
            return found
        fresh = io.BytesIO(os.urandom(self.AT_ONCE))
        found = fresh.read(size)
        self._bytes = fresh
        return found


_chance = _Chance()


def new_id(key: bytes) -> str:
    """Return a fresh id of an answer: its moment, chance, and a tag that only ``key`` can give."""
    body = f"{time.time_ns() // 1_000_000:012x}{_chance.draw(6).hex()}"
    return f"ans_{body}_{_tag(body, key)}"


def is_ours(identity: str, key: bytes) -> bool:
    """Say whether this log gave the id."""
    if not ID.fullmatch(identity):
        return False
    _, body, tag = identity.split("_")
    return hmac.compare_digest(tag, _tag(body, key))


def answer_line(record: AnswerRecord, keeping: Keeping) -> bytes:
    """Return the log's line of an answer."""
    line: dict[str, Any] = {"kind": "answer", "time": _now(), **vars(record)}
    question, answer = line.pop("question"), line.pop("answer")
    if record.error is not None:
        line["error"] = keeping.masked(record.error) if keeping.privacy == "content" else "kept out"
    return orjson.dumps(
        line | keeping.text("question", question) | keeping.text("answer", answer),
        option=orjson.OPT_SERIALIZE_NUMPY,
    )


def feedback_line(
    answer_id: str,
    *,
    client: str,
    rating: str | None,
    correction: str | None,
    comment: str | None,
    keeping: Keeping,
) -> bytes:
    """Return the log's line of a feedback on an answer."""
    line: dict[str, Any] = {
        "kind": "feedback",
        "time": _now(),
        "answer_id": answer_id,
        "client": client,
        "rating": rating,
    }
    for name, text in (("correction", correction), ("comment", comment)):
        if text is not None:
            line |= keeping.text(name, text)
    return orjson.dumps(line)


def keyed_digest(text: str, key: bytes) -> str:
    """Return a digest by which equal texts are told, and no text can be guessed without the key."""
    return blake2b(text.encode("utf-8", "surrogatepass"), key=key, digest_size=16).hexdigest()


def _tag(body: str, key: bytes) -> str:
    return blake2b(body.encode(), key=key, digest_size=TAG_HEX // 2).hexdigest()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"
