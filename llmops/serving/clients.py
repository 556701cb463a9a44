"""Who may ask: bearer tokens, known by their digests only."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Sequence
from hashlib import sha256

from llmops.serving.settings import Token

PREFIX = "llmops_"
LONGEST = 512  # characters of a token that is looked at


def new_token() -> str:
    """Return a fresh token of 256 random bits; so random that its plain sha256 tells nothing."""
    return PREFIX + secrets.token_urlsafe(32)


def token_digest(token: str) -> str:
    """Return what the config keeps of a token."""
    return sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


class Clients:
    """The clients by their tokens; every comparison takes the same time."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self._known = [(token.name, bytes.fromhex(token.sha256)) for token in tokens]

    def named(self, authorization: bytes | None) -> str | None:
        """Return the client of an ``Authorization`` header, or null if nobody has that token."""
        if authorization is None or len(authorization) > LONGEST:
            return None
        scheme, _, token = authorization.partition(b" ")
        if scheme.lower() != b"bearer":
            return None
        given = sha256(token.strip()).digest()
        found = None
        for name, known in self._known:
            if hmac.compare_digest(given, known):
                found = name
        return found
